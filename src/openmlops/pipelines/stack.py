"""Where ZenML keeps its state. Not here: what the steps do (`operations`), and any import of zenml."""

from openmlops.operations.workspace import Workspace
from openmlops.settings import embed_zenml


def open_workspace() -> Workspace:
    """The workspace of this process, and ZenML's store under OPENMLOPS_HOME unless the user is connected to a server."""
    workspace = Workspace.open()
    embed_zenml(workspace.home / "zenml")
    return workspace
