"""The watcher: runs a cycle whenever a trigger is due.

Triggers: the schedule; a window of new predictions; enough new labels for a retraining; a request. Drift and accuracy are
checked in the cycle itself. A request is a decision record (`openmlops watch --request WHY`, or POST `/trigger`) that any
watcher on the same database picks up within `POLL` seconds. Any number of watchers may run; one of them runs each cycle, and
one of them prunes once a day. Not here: the cycle itself (`cycle`), and what is pruned (`operations.retention`).
"""

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, get_args

from openmlops.adapters.decisions import DecisionRecord, requested
from openmlops.adapters.leases import uptime
from openmlops.core.monitoring.observed import Action
from openmlops.core.types import Value
from openmlops.errors import LeaseTaken, ModelNotFound, OpenMLOpsError, ServiceUnavailable
from openmlops.operations.monitoring.cycle import CYCLE, CycleOutcome
from openmlops.operations.monitoring.history import policy_of
from openmlops.operations.monitoring.notification import deliver, notify
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.retention.due import is_due
from openmlops.operations.run_leases import close_orphans
from openmlops.operations.workspace import Workspace

POLL = 5.0
"""seconds between checks of the triggers"""
REQUESTS = "requests/"
"""before a model's name: how far its requests were heard"""

_LEVELS: dict[type[Exception], int] = {LeaseTaken: logging.INFO, ModelNotFound: logging.WARNING}

log = logging.getLogger(__name__)


class TriggerState(Value):
    """State that triggers compare: time, champion version, number of its logged predictions, number of unused labels.

    `newest` is the sequence number of the latest of these predictions, after which the next state counts; `turn` that of the
    latest decision of a cycle, whichever watcher ran it.
    """

    at: datetime
    version: int
    predictions: int
    labels: int
    newest: int = 0
    turn: int = 0


def current_state(workspace: Workspace, now: datetime, last: TriggerState | None = None) -> TriggerState:
    """Read the current state, counting only what came after `last`: to count tens of millions of predictions takes seconds.

    Raises ModelNotFound if there is no champion.
    """
    model, log = load_latest_model(workspace), workspace.inference_log
    labels = workspace.labelled_inputs.count_new(model.name)
    newest = log.newest(model.name, model.version)
    if last and last.version == model.version:
        predictions = last.predictions + log.count_after(model.name, model.version, last.newest)
    else:
        predictions = log.count(model.name, model.version)
    turn = _turn(workspace, model.name, last.turn) if last else workspace.decisions.newest(model.name)
    return TriggerState(at=now, version=model.version, predictions=predictions, labels=labels, newest=newest, turn=turn)


def _turn(workspace: Workspace, model: str, last: int) -> int:
    """The sequence number of the latest decision of a cycle after `last`; that if there is none."""
    if workspace.decisions.newest(model) == last:
        return last
    found = workspace.decisions.after(model, last, get_args(Action))
    return max([last, *(sequence for sequence, record in found if record.by.startswith(CYCLE))])


def trigger_reason(
    last: TriggerState | None, seen: TriggerState, every: timedelta, window: int, labels: int, requests: tuple[str, ...]
) -> str:
    """Why a cycle is due, as text; empty if none is."""
    if last is None:
        return "watch started"
    if requests:
        return f"requested: {requests[-1]}"
    if seen.at - last.at >= every:
        return f"{every} since the last cycle"
    predictions = seen.predictions if seen.version != last.version else seen.predictions - last.predictions
    if predictions >= window:
        return f"{predictions} new predictions"
    if seen.labels >= labels > last.labels:
        return f"{seen.labels} new labels"
    return ""


def request(workspace: Workspace, reason: str, now: datetime) -> DecisionRecord:
    """Request a cycle from the running watchers. Raises ModelNotFound if there is no champion."""
    model = load_latest_model(workspace)
    return _appended(workspace, requested(model.name, model.version, reason, by="a person", now=now))


def reset_breaker(workspace: Workspace, reason: str, now: datetime) -> DecisionRecord:
    """Reset the circuit breaker: earlier rejected challengers no longer block retrainings. Raises ModelNotFound."""
    model = load_latest_model(workspace)
    record = requested(model.name, model.version, reason, by="a person", now=now)
    return _appended(workspace, record.model_copy(update={"action": "reset"}))


def watch(
    workspace: Workspace,
    run_cycle: Callable[[], CycleOutcome],
    every: timedelta,
    window: int,
    ended: threading.Event,
    prune: Callable[[Workspace], object] | None = None,
) -> Iterator[CycleOutcome]:
    """Run a cycle whenever one is due and yield its outcome, until `ended` is set. A failure is logged and retried. `prune`
    does what retention asks for, once a day.

    A turn counts as taken when its cycle has ended without an error; so does one of another watcher, once it has decided. While
    another process holds the lease, or a service is away, it is tried again soon; after other failures less and less often. A
    repeated identical failure is logged once.
    """
    last: TriggerState | None = None
    last_problem, failures = "", 0
    labels = policy_of(workspace).minimum_new_labels
    clock = _SteadyClock()
    while not ended.is_set():
        problem: Exception | None = None
        try:
            deliver(workspace)
            close_orphans(workspace)
            if is_due(workspace):
                threading.Thread(target=prune or _prune, args=(workspace,), name="retention", daemon=True).start()
            seen = current_state(workspace, clock.now(), last)
            if last and seen.turn > last.turn:
                last = seen
            requests = _requests(workspace)
            if why := trigger_reason(last, seen, every, window, labels, requests.reasons):
                log.info("starting a cycle: %s", why)
                found = run_cycle()
                last, failures = seen.model_copy(update={"turn": workspace.decisions.newest(workspace.model_name)}), 0
                requests.heard(workspace)
                notify(workspace, found)
                yield found
        except (LeaseTaken, ServiceUnavailable, ModelNotFound) as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - no failure of one turn ends the watch
            problem, failures = error, failures + 1
        if problem and repr(problem) != last_problem:
            is_known = isinstance(problem, OpenMLOpsError)
            log.log(_LEVELS.get(type(problem), logging.ERROR), "%s", problem, exc_info=None if is_known else problem)
        elif last_problem and not problem:
            log.info("watching again")
        last_problem = repr(problem) if problem else ""
        ended.wait(min(POLL * 2 ** min(failures, 20), every.total_seconds()))


class _SteadyClock:
    """The time since this process started to watch, which no change of the clock moves, as a time of day."""

    def __init__(self) -> None:
        self._began, self._uptime = datetime.now(UTC), uptime()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=uptime() - self._uptime)


class _Requests(NamedTuple):
    """Requests that no cycle has heard yet."""

    model: str
    newest: int
    reasons: tuple[str, ...]

    def heard(self, workspace: Workspace) -> None:
        """A cycle that began after them has ended."""
        if self.newest:
            workspace.progress.move(f"{REQUESTS}{self.model}", self.newest)


def _requests(workspace: Workspace) -> _Requests:
    model = workspace.model_name
    found = workspace.decisions.after(model, workspace.progress.position(f"{REQUESTS}{model}"), ("request",))
    reasons = tuple("; ".join(record.reasons) for _, record in found)
    return _Requests(model, found[-1][0] if found else 0, reasons)


def _prune(workspace: Workspace) -> None:
    from openmlops.operations.retention.prune import prune_and_log

    prune_and_log(workspace)


def _appended(workspace: Workspace, record: DecisionRecord) -> DecisionRecord:
    workspace.decisions.append(record)
    return record
