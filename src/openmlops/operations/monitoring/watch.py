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

from openmlops.adapters.decisions import DecisionRecord, requested
from openmlops.core.types import Value
from openmlops.errors import LeaseTaken, ModelNotFound, OpenMLOpsError
from openmlops.operations.monitoring.cycle import CycleOutcome
from openmlops.operations.monitoring.history import policy_of, records_of
from openmlops.operations.monitoring.notification import notify
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.retention.due import is_due
from openmlops.operations.run_leases import close_orphans
from openmlops.operations.workspace import Workspace

POLL = 5.0
"""seconds between checks of the triggers"""

_LEVELS = {LeaseTaken: logging.INFO, ModelNotFound: logging.WARNING}

log = logging.getLogger(__name__)


class TriggerState(Value):
    """State that triggers compare: time, champion version, number of its logged predictions, number of unused labels.

    `newest` is the sequence number of the latest of these predictions, after which the next state counts.
    """

    at: datetime
    version: int
    predictions: int
    labels: int
    newest: int = 0


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
    return TriggerState(at=now, version=model.version, predictions=predictions, labels=labels, newest=newest)


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
    workspace: Workspace, run_cycle: Callable[[], CycleOutcome], every: timedelta, window: int, ended: threading.Event
) -> Iterator[CycleOutcome]:
    """Run a cycle whenever one is due and yield its outcome, until `ended` is set. A failure is logged and retried.

    A cycle that another watcher runs counts as run. A repeated identical failure is logged once.
    """
    last: TriggerState | None = None
    last_problem = ""
    labels = policy_of(workspace).minimum_new_labels
    while not ended.is_set():
        problem: OpenMLOpsError | None = None
        try:
            close_orphans(workspace)
            if is_due(workspace):
                threading.Thread(target=_prune, args=(workspace,), name="retention", daemon=True).start()
            seen = current_state(workspace, datetime.now(UTC), last)
            if why := trigger_reason(last, seen, every, window, labels, _requests(workspace, last)):
                last = seen
                log.info("starting a cycle: %s", why)
                found = run_cycle()
                notify(workspace, found)
                yield found
        except OpenMLOpsError as error:
            problem = error
        if problem and str(problem) != last_problem:
            log.log(_LEVELS.get(type(problem), logging.ERROR), "%s", problem)
        last_problem = str(problem or "")
        ended.wait(min(POLL, every.total_seconds()))


def _prune(workspace: Workspace) -> None:
    from openmlops.operations.retention.prune import prune_and_log

    prune_and_log(workspace)


def _requests(workspace: Workspace, last: TriggerState | None) -> tuple[str, ...]:
    records = records_of(workspace, workspace.model_name)
    return tuple("; ".join(r.reasons) for r in records if r.action == "request" and (last is None or r.at > last.at))


def _appended(workspace: Workspace, record: DecisionRecord) -> DecisionRecord:
    workspace.decisions.append(record)
    return record
