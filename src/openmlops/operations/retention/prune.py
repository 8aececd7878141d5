"""Pruning: every kind of thing that grows, one after the other; by `openmlops prune`, and once a day by the watcher.

Here: who may prune when, and that one kind that cannot be pruned does not keep the others. Not here: the rules of each kind
(`predictions`, `inputs`, ...).
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from openmlops.adapters.processes import Process
from openmlops.errors import ClockError, LeaseTaken, OpenMLOpsError
from openmlops.operations.retention.contents import prune_contents
from openmlops.operations.retention.due import DONE, EVERY, last_pruned
from openmlops.operations.retention.inputs import prune_inputs
from openmlops.operations.retention.predictions import prune_predictions
from openmlops.operations.retention.records import prune_decisions
from openmlops.operations.retention.report import Pruned, PruneReport
from openmlops.operations.retention.unneeded_data import prune_data
from openmlops.operations.retention.versions import prune_reports, prune_runs, prune_versions
from openmlops.operations.retention.working_files import prune_working_files
from openmlops.operations.workspace import Workspace

LEASE = timedelta(seconds=60)
"""time after which the lease of a dead process expires"""
ALONE = "prune"
"""the lease of the process that prunes"""
LONG = timedelta(days=30)
"""time without a pruning, or a prediction where there was none, after which the clock may be wrong"""
DOUBT = "prune/doubt"
"""a lease that expires when the clock is believed all the same"""

Kind = Callable[[Workspace, datetime, bool], Pruned]
KINDS: tuple[Kind, ...] = (
    *(prune_predictions, prune_inputs, prune_decisions),
    *(prune_versions, prune_runs, prune_reports, prune_working_files, prune_contents, prune_data),
)
"""in the order in which they depend on each other: what one deletes, the next may no longer need"""

log = logging.getLogger(__name__)


def require_sound_clock(workspace: Workspace, now: datetime) -> None:
    """Raise ClockError if the clock may be wrong, as for a pruning by hand."""
    if last := _jumped_from(workspace, now):
        problem = f"It is {now:%Y-%m-%d} by the clock, long after {last:%Y-%m-%d}, the last time known here: it may be wrong"
        raise ClockError(problem, "Correct the clock; or, if it is right, pass --trust-clock")


def prune(workspace: Workspace, now: datetime, dry: bool = False, more: Sequence[Kind] = ()) -> PruneReport:
    """Delete what is beyond its limit and not needed; with `dry` only say what. Safe to kill and to repeat. `more`: kinds that
    are not pruned here.

    Raises LeaseTaken if another process prunes.
    """
    if dry:
        return _prune(workspace, now, dry, more)
    with workspace.leases.holding(ALONE, Process.this().model_dump_json(), LEASE):
        workspace.leases.seize(DONE, ALONE, EVERY)
        return _prune(workspace, now, dry, more)


def prune_and_log(workspace: Workspace, more: Sequence[Kind] = ()) -> PruneReport | None:
    """Prune, and log the result in one line; do nothing if another process prunes, or if the clock may be wrong. A failure is
    logged: nothing is raised."""
    now = datetime.now(UTC)
    try:
        if _is_doubtful(workspace, now):
            return None
        found = prune(workspace, now, more=more)
    except LeaseTaken:
        return None
    except Exception as error:
        is_known = isinstance(error, OpenMLOpsError | OSError)
        log.error("nothing was pruned: %s", error, exc_info=None if is_known else error)
        return None
    for problem in found.problems:
        log.error("not everything was pruned: %s", problem)
    if parts := [f"{each.deleted} {each.what}" for each in found.pruned if each.deleted]:
        log.info("pruned %s", ", ".join(parts))
    return found


def _is_doubtful(workspace: Workspace, now: datetime) -> bool:
    """Whether the clock may be wrong: it is long after the last pruning, or the latest prediction where there was none, and has
    been so for less than a day.

    Everything is too old for a clock that is a year ahead.
    """
    last = _jumped_from(workspace, now)
    if last is None:
        return False
    doubt = workspace.leases.look(DOUBT)
    if doubt.holder and doubt.expires <= now < doubt.expires + LONG:
        return False
    if not now < doubt.expires <= now + EVERY:
        workspace.leases.seize(DOUBT, ALONE, EVERY)
        why = f"the last time was {last:%Y-%m-%d}, or the clock is wrong"
        log.warning("nothing is pruned for a day: %s. `openmlops prune --trust-clock` does it now", why)
    return True


def _jumped_from(workspace: Workspace, now: datetime) -> datetime | None:
    """The time of the last pruning, or of the latest prediction where there was none, if it is long ago; else None."""
    last = last_pruned(workspace) or workspace.inference_log.last()
    return None if last is None or now - last <= LONG else last


def _prune(workspace: Workspace, now: datetime, dry: bool, more: Sequence[Kind]) -> PruneReport:
    pruned, problems = [], []
    for kind in (*KINDS, *more):
        try:
            pruned.append(kind(workspace, now, dry))
        except (OpenMLOpsError, OSError) as error:
            problems.append(str(error))
    return PruneReport(dry_run=dry, pruned=tuple(pruned), problems=tuple(problems))
