"""Location of ZenML's state, and pipelines as programs. Does not import zenml."""

from collections.abc import Callable
from typing import Any

from openmlops.operations.workspace import Workspace
from openmlops.settings import choose_use_case, embed_zenml, restart_in_utf8
from openmlops.terminal import exit_code, is_utf8


def open_workspace(use_case: str | None = None) -> Workspace:
    """The workspace of this process, with ZenML's store under OPENMLOPS_HOME unless the user is connected to a server.

    A given `use_case` is set for the whole process, because steps open their own workspace.
    """
    if use_case:
        choose_use_case(use_case)
    workspace = Workspace.open()
    embed_zenml(workspace.home)
    return workspace


def program(main: Callable[[], Any]) -> int:
    """Run `main` as the command line runs a command, in UTF-8 whatever the locale; returns the exit code."""
    if not is_utf8():
        restart_in_utf8()
    return exit_code(main)
