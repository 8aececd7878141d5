"""What the console's routes share, made once a process and handed down."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from openmlops.console.door import Door, Tokens
from openmlops.console.events import Pulse
from openmlops.console.obstacles import Obstacles
from openmlops.console.registered import Registered
from openmlops.console.reports import Reports
from openmlops.console.session import Sessions, session_key
from openmlops.console.turns import Turns
from openmlops.operations.workspace import Workspace


@dataclass(frozen=True)
class Console:
    """The parts of a running console."""

    workspace: Workspace
    door: Door
    registered: Registered
    turns: Turns
    pulse: Pulse
    obstacles: Obstacles
    reports: Reports
    errors: Callable[[], int | None]
    """how many requests of the server beside it failed (5xx) since its start; None where there is no server beside it"""

    @property
    def has_login(self) -> bool:
        """Whether there is a token, and so somebody to log in and out."""
        return bool(self.door.tokens.acting.get_secret_value())


def make(workspace: Workspace, door: Door, errors: Callable[[], int | None] = lambda: None) -> Console:
    """The console of a workspace."""
    turns = Turns(workspace.home)
    parts = (Registered(workspace), turns, Pulse(workspace, turns), Obstacles(workspace), Reports(workspace))
    return Console(workspace, door, *parts, errors)


def make_door(workspace: Workspace) -> Door:
    """The door that the workspace's tokens make."""
    tokens = Tokens(acting=workspace.settings.api_token, reading=workspace.settings.api_read_token)
    given = (tokens.acting.get_secret_value(), tokens.reading.get_secret_value())
    return Door(tokens, Sessions(session_key(workspace.home, *given), time.time))


def console(request: Request) -> Console:
    """That of the process that got the request."""
    found: Console = request.app.state.console
    return found
