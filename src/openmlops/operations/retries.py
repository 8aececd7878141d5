"""Retries with exponential backoff: pipeline operations are repeated while a database, object store or MLflow is unavailable.

Every operation retried here is idempotent. Not retried: read-only commands, which fail immediately, and errors that waiting
cannot fix (`ServiceRefused`).
"""

import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from openmlops.adapters.mlflow_tables import tables
from openmlops.errors import ServiceRefused, ServiceUnavailable
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""seconds between two attempts; the pause doubles from the first to the longest"""

P = ParamSpec("P")
T = TypeVar("T")


def retry(
    operation: Callable[Concatenate[Workspace, P], T],
    workspace: Workspace,
    *values: P.args,
    **named: P.kwargs,
) -> T:
    """Call `operation(workspace, *values, **named)` until it no longer raises ServiceUnavailable, for up to
    SERVICE_PATIENCE_SECONDS after the first failure. Reports waiting and recovery on standard error. Raises the last error.
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
                    say(f"{error.problem}. Waiting up to {patience:.0f} s for it.")
            if now >= until:
                raise
            time.sleep(min(pause, until - now))
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if until:
                say("The service is available again; resuming.")
            return result


def require_services(workspace: Workspace, experiment: bool = True) -> None:
    """Check that database, MLflow and object store are reachable, so that a mistyped address fails immediately. `experiment`:
    also make MLflow's experiment if there is none.

    Raises ServiceUnavailable, also for an experiment that was deleted.
    """
    with workspace.engine.connect():
        pass
    if not experiment:
        workspace.tracking.responds()
    elif not _is_there(workspace):
        workspace.tracking.ready()
    workspace.object_store.ready()


def _is_there(workspace: Workspace) -> bool:
    """Whether the experiment is in an embedded MLflow, which can be checked without importing MLflow."""
    found = tables(workspace.settings.tracking_uri)
    return found is not None and found.has_experiment(workspace.settings.mlflow_experiment_name)
