"""What the console's routes share, made once a process and handed down."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from openmlops.console.cycles import CycleRuns
from openmlops.console.events import ChangeFeed
from openmlops.console.preconditions import Preconditions
from openmlops.console.registry_cache import RegistryCache
from openmlops.console.reports import Reports
from openmlops.operations.workspace import Workspace
from openmlops.web.access import AccessPolicy, Tokens
from openmlops.web.sessions import Sessions, session_key


@dataclass(frozen=True)
class Console:
    """The parts of a running console."""

    workspace: Workspace
    access: AccessPolicy
    registry_cache: RegistryCache
    cycle_runs: CycleRuns
    changes: ChangeFeed
    preconditions: Preconditions
    reports: Reports
    errors: Callable[[], int | None]
    """how many requests of the server beside it failed (5xx) since its start; None where there is no server beside it"""

    @property
    def has_login(self) -> bool:
        """Whether there is a token, and so somebody to log in and out."""
        return bool(self.access.tokens.acting.get_secret_value())


def make(workspace: Workspace, access: AccessPolicy, errors: Callable[[], int | None] = lambda: None) -> Console:
    """The console of a workspace."""
    cycle_runs = CycleRuns(workspace.home)
    parts = (
        RegistryCache(workspace),
        cycle_runs,
        ChangeFeed(workspace, cycle_runs),
        Preconditions(workspace),
        Reports(workspace),
    )
    return Console(workspace, access, *parts, errors)


def make_access(workspace: Workspace) -> AccessPolicy:
    """The door that the workspace's tokens make."""
    tokens = Tokens(acting=workspace.settings.api_token, reading=workspace.settings.api_read_token)
    given = (tokens.acting.get_secret_value(), tokens.reading.get_secret_value())
    return AccessPolicy(tokens, Sessions(session_key(workspace.home, *given), time.time))


def console(request: Request) -> Console:
    """That of the process that got the request."""
    found: Console = request.app.state.console
    return found
