"""Where ZenML keeps its state. Not here: what the steps do (`operations`), and any import of zenml."""

from openmlops.operations.workspace import Workspace
from openmlops.settings import choose_use_case, embed_zenml


def open_workspace(use_case: str | None = None) -> Workspace:
    """The workspace of this process, and ZenML's store under OPENMLOPS_HOME unless the user is connected to a server.

    A `use_case` that is given holds from now on, for the steps open a workspace of their own.
    """
    if use_case:
        choose_use_case(use_case)
    workspace = Workspace.open()
    embed_zenml(workspace.home)
    return workspace
