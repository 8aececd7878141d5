"""Patience with services: what a pipeline does is repeated while a database, object store or MLflow is away.

Everything that is repeated here is safe to repeat: whatever it did before the service went away is found, not done again.
What is not here: commands that only ask, which fail at once; and answers that no waiting changes (`ServiceRefused`).
"""

import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from openmlops.errors import ServiceRefused, ServiceUnavailable
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""seconds between two attempts; each pause is twice the one before"""

P = ParamSpec("P")
T = TypeVar("T")


def retry(
    operation: Callable[Concatenate[Workspace, P], T],
    workspace: Workspace,
    *values: P.args,
    **named: P.kwargs,
) -> T:
    """`operation(workspace, *values)`, repeated while it raises ServiceUnavailable, up to SERVICE_PATIENCE_SECONDS after the
    first time. One line on standard error says that it waits, one that it goes on. Raises what the last attempt raised.
    """
    patience = workspace.settings.service_patience_seconds
    pause, until = FIRST_PAUSE, 0.0
    while True:
        try:
            result = operation(workspace, *values, **named)
        except ServiceRefused:
            raise
        except ServiceUnavailable as error:
            now = time.monotonic()
            if not until:
                until = now + patience
                if patience:
                    say(f"{error.problem}. Waiting for it, for up to {patience:.0f} s.".replace("[", "\\["))
            if now >= until:
                raise
            time.sleep(min(pause, until - now))
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if until:
                say("It answers again; going on.")
            return result


def require_services(workspace: Workspace) -> None:
    """Make sure that database, MLflow and object store answer now: a mistyped address must not be waited for.

    Raises ServiceUnavailable.
    """
    with workspace.engine.connect():
        pass
    workspace.tracking.ready()
    workspace.object_store.ready()
