"""Watching: when is it time to take a turn of the loop?

Triggers: the schedule; as many new answers as a window holds; as many new labels as a retraining needs; a request. Drift and
performance are what a turn then looks for. A request is a record among the decisions (`openmlops watch --request WHY`, or a
POST to the server's `/trigger`): any watcher on the same database takes it up within `POLL` seconds.
What is not here: the turn itself (`cycle`). Any number of watchers may run; one takes each turn.
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
from openmlops.operations.run_leases import close_orphans
from openmlops.operations.workspace import Workspace

POLL = 5.0
"""seconds between looks at the triggers"""

_LEVELS = {LeaseTaken: logging.INFO, ModelNotFound: logging.WARNING}

log = logging.getLogger(__name__)


class TriggerState(Value):
    """How things stood at the last turn: `at`, how many answers of which version there were, and how many unused labels."""

    at: datetime
    version: int
    predictions: int
    labels: int


def current_state(workspace: Workspace, now: datetime) -> TriggerState:
    """How things stand. Raises ModelNotFound if there is no champion."""
    model = load_latest_model(workspace)
    predictions = workspace.inference_log.count(model.name, model.version)
    labels = workspace.labelled_inputs.count_new(model.name)
    return TriggerState(at=now, version=model.version, predictions=predictions, labels=labels)


def trigger_reason(
    last: TriggerState | None, seen: TriggerState, every: timedelta, window: int, labels: int, requests: tuple[str, ...]
) -> str:
    """Why a turn is due, in words; empty if none is."""
    if last is None:
        return "the watch begins"
    if requests:
        return f"requested: {requests[-1]}"
    if seen.at - last.at >= every:
        return f"{every} have passed"
    predictions = seen.predictions if seen.version != last.version else seen.predictions - last.predictions
    if predictions >= window:
        return f"{predictions} new answers"
    if seen.labels >= labels > last.labels:
        return f"{seen.labels} new labels"
    return ""


def request(workspace: Workspace, reason: str, now: datetime) -> DecisionRecord:
    """Ask the watchers for a turn now. Raises ModelNotFound if there is no champion."""
    model = load_latest_model(workspace)
    return _appended(workspace, requested(model.name, model.version, reason, by="a person", now=now))


def reset_breaker(workspace: Workspace, reason: str, now: datetime) -> DecisionRecord:
    """A person has looked: challengers that were rejected in a row no longer keep retrainings back."""
    model = load_latest_model(workspace)
    record = requested(model.name, model.version, reason, by="a person", now=now)
    return _appended(workspace, record.model_copy(update={"action": "reset"}))


def watch(
    workspace: Workspace, run_cycle: Callable[[], CycleOutcome], every: timedelta, window: int, ended: threading.Event
) -> Iterator[CycleOutcome]:
    """Take a turn whenever one is due, and yield what came of it, until `ended` is set. What fails is logged, and tried anew.

    A turn that another watcher takes counts as taken. What fails in the same way again is not logged again.
    """
    last: TriggerState | None = None
    last_problem = ""
    labels = policy_of(workspace).minimum_new_labels
    while not ended.is_set():
        problem: OpenMLOpsError | None = None
        try:
            close_orphans(workspace)
            seen = current_state(workspace, datetime.now(UTC))
            if why := trigger_reason(last, seen, every, window, labels, _requests(workspace, last)):
                last = seen
                log.info("a turn is due: %s", why)
                found = run_cycle()
                notify(workspace, found)
                yield found
        except OpenMLOpsError as error:
            problem = error
        if problem and str(problem) != last_problem:
            log.log(_LEVELS.get(type(problem), logging.ERROR), "%s", problem)
        last_problem = str(problem or "")
        ended.wait(min(POLL, every.total_seconds()))


def _requests(workspace: Workspace, last: TriggerState | None) -> tuple[str, ...]:
    records = records_of(workspace, workspace.model_name)
    return tuple("; ".join(r.reasons) for r in records if r.action == "request" and (last is None or r.at > last.at))


def _appended(workspace: Workspace, record: DecisionRecord) -> DecisionRecord:
    workspace.decisions.append(record)
    return record
