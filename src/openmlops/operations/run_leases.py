"""Leases on MLflow runs: which process works on a run, and how runs of dead processes are closed.

The lease is taken under a start id before the run is created and held until the process ends, so that every run has a
holder. `close_orphans` closes the runs of dead processes as failed, with a reason; repeating the command reopens and resumes
its run. Not here: which command resumes which run (`train`, `grid`).
"""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from openmlops.adapters.fences import Lease
from openmlops.adapters.leases import NEVER
from openmlops.adapters.mlflow_values import START_TAG
from openmlops.adapters.processes import Process
from openmlops.core.types import TrainedRef
from openmlops.files import write_text
from openmlops.operations.workspace import Workspace

LEASE = timedelta(seconds=60)
GRACE = timedelta(seconds=60)
"""time since a lease expired after which a process on another machine counts as dead"""
PREFIX = "run/"

T = TypeVar("T")

log = logging.getLogger(__name__)


@contextmanager
def run_lease(workspace: Workspace, start_id: str) -> Iterator[None]:
    """Hold the lease of the run with this start id, renewed in a thread while the block runs. Raises ServiceUnavailable on
    entry; later outages of the database are tolerated. The lease is not released: its holder is this process until it ends.
    """
    name, holder = PREFIX + start_id, Process.this().model_dump_json()
    with workspace.leases.kept(workspace.leases.seize(name, holder, LEASE), LEASE, regain=True):
        yield


@contextmanager
def next_start(folder: Path) -> Iterator[str]:
    """Yield the start id of the folder's next run. It stays the same until the block succeeds, so that a repeated start finds
    the run of an interrupted one."""
    note = folder / "start"
    start_id = note.read_text() if note.exists() else uuid.uuid4().hex
    write_text(note, start_id)
    yield start_id
    note.unlink()


@contextmanager
def hold_run(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Hold the lease of a run, reopened if it was closed as an orphan. If the block raises, the run is closed as failed, with
    the reason."""
    start_id = workspace.tracking.tags(run_id).get(START_TAG)
    with run_lease(workspace, start_id) if start_id else nullcontext():
        workspace.tracking.resume(run_id)
        with workspace.tracking.failing(run_id):
            yield


def fails_its_run(operation: Callable[..., T]) -> Callable[..., T]:
    """Decorator: if the operation raises, the run of its TrainedRef argument is closed as failed, with the reason."""

    @wraps(operation)
    def run(workspace: Workspace, *values: Any) -> T:
        (trained,) = (value for value in values if isinstance(value, TrainedRef))
        with hold_run(workspace, trained.run_id):
            return operation(workspace, *values)

    return run


def close_orphans(workspace: Workspace) -> tuple[str, ...]:
    """Close the open runs of dead processes: of this machine, or silent for longer than GRACE. Returns the ids of the runs.

    Costs one query of our own database if there are none; MLflow is not imported. Raises ServiceUnavailable.
    """
    closed: list[str] = []
    held = workspace.leases.named(PREFIX)
    now = workspace.leases.now() if held else NEVER
    for lease in held:
        if lease.holder and (why := _reason_dead(lease, now)) and (claimed := workspace.leases.claim(lease)):
            closed += workspace.tracking.abandon(lease.name.removeprefix(PREFIX), why)
            workspace.leases.forget(claimed)
    for run_id in closed:
        log.info("closed the run %s: its process is no longer running", run_id)
    return tuple(closed)


def _reason_dead(lease: Lease, now: datetime) -> str:
    """Why the holder of the lease is dead, as recorded on the run; empty if it may be alive."""
    process = Process.model_validate_json(lease.holder)
    going_on = "Run the same command to resume it."
    if process.is_dead:
        return f"Its {process} ended without closing it. {going_on}"
    if process.is_dead is None and now - lease.expires > GRACE:
        since = (lease.expires - LEASE).isoformat(sep=" ", timespec="seconds")
        return f"Its {process} has sent no heartbeat since {since}. {going_on}"
    return ""
