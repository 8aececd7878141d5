"""Location of ZenML's state. Does not import zenml."""

from openmlops.operations.workspace import Workspace
from openmlops.settings import choose_use_case, embed_zenml


def open_workspace(use_case: str | None = None) -> Workspace:
    """The workspace of this process, with ZenML's store under OPENMLOPS_HOME unless the user is connected to a server.

    A given `use_case` is set for the whole process, because steps open their own workspace.
    """
    if use_case:
        choose_use_case(use_case)
    workspace = Workspace.open()
    embed_zenml(workspace.home)
    return workspace
