"""Components shared by the console's routes, created once per process and passed down."""

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
from openmlops.web.access import AccessPolicy, Tokens, listed
from openmlops.web.conditions import Conditions
from openmlops.web.logins import LoginThrottle
from openmlops.web.sessions import Sessions, session_key


@dataclass(frozen=True)
class Console:
    """The components of a running console."""

    workspace: Workspace
    access: AccessPolicy
    conditions: Conditions
    registry_cache: RegistryCache
    cycle_runs: CycleRuns
    changes: ChangeFeed
    preconditions: Preconditions
    reports: Reports
    logins: LoginThrottle
    errors: Callable[[], int | None]
    """number of failed requests (5xx) of the prediction server in this process; None in a standalone console"""

    @property
    def has_login(self) -> bool:
        """Whether login is needed, that is, a token is set."""
        return bool(self.access.tokens.acting.get_secret_value())


def make(
    workspace: Workspace, access: AccessPolicy, conditions: Conditions, errors: Callable[[], int | None] = lambda: None
) -> Console:
    """The console of a workspace."""
    cycle_runs = CycleRuns(workspace.home)
    parts = (
        RegistryCache(workspace),
        cycle_runs,
        ChangeFeed(workspace, cycle_runs, conditions),
        Preconditions(workspace),
        Reports(workspace),
        LoginThrottle(time.monotonic),
    )
    return Console(workspace, access, conditions, *parts, errors)


def make_access(workspace: Workspace) -> AccessPolicy:
    """The access policy of the workspace's tokens."""
    tokens = Tokens(acting=workspace.settings.api_token, reading=workspace.settings.api_read_token)
    given = (tokens.acting.get_secret_value(), tokens.reading.get_secret_value())
    sessions = Sessions(session_key(workspace.home, *given), time.time, workspace.home / "console" / "ended")
    return AccessPolicy(tokens, sessions, listed(workspace.settings.cors_origins))


def console(request: Request) -> Console:
    """The console of the process that handles the request."""
    found: Console = request.app.state.console
    return found
