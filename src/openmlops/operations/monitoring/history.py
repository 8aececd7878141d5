"""What a decision looks back at: the champion's reign, the windows that were observed in it, and what was done.

What is here: records of the decisions' table as the values of `core.policy`. Windows that overlap by more than half are one
observation, the latest of them: a watcher that looks every minute sees no more alarms than one that looks every hour.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from openmlops.adapters.decisions import DecisionRecord, Span
from openmlops.core.monitoring.policy import Champion, History, Observation, PastAction, Policy
from openmlops.core.types import ModelRef
from openmlops.operations.monitoring.windows import Source
from openmlops.operations.release import promotion
from openmlops.operations.release.model_card import Description
from openmlops.operations.workspace import Workspace

HISTORY_LENGTH = 1000
"""records that are looked back at: more than a month of hourly ones"""
_GATE_OUTCOMES = ("promote", "reject", "inconclusive", "failed")


def policy_of(workspace: Workspace) -> Policy:
    """The policy that the settings POLICY_* make; a share of drifted columns of 0 is not used."""
    chosen = {name: getattr(workspace.settings, f"policy_{name}") for name in Policy.model_fields}
    return Policy(**(chosen | {"drifted_columns": chosen["drifted_columns"] or None}))


def records_of(workspace: Workspace, model: str) -> tuple[DecisionRecord, ...]:
    """The model's latest records, oldest first."""
    return workspace.decisions.list(model, HISTORY_LENGTH)


def history_of(workspace: Workspace, model: ModelRef, records: Sequence[DecisionRecord], source: Source) -> History:
    """What is known of the champion `model`: windows of `source`, and every action."""
    return History(
        champion=_champion(workspace, model),
        observations=observations_of([r for r in records if r.version == model.version], source),
        actions=actions_of(records),
    )


def actions_of(records: Sequence[DecisionRecord]) -> tuple[PastAction, ...]:
    """What was done, oldest first."""
    return tuple(action for record in records if (action := _action(record)))


def span_of(at: Sequence[datetime], source: Source, earlier: Sequence[DecisionRecord], version: int) -> Span | None:
    """Where a window with answers at these times lies, seen from the windows of a version before it; None if it is empty.

    It opens an observation of its own if at least half of it is newer than the one before was when that was opened.
    """
    if not at:
        return None
    until = max(at)
    spans = [r.span for r in earlier if r.span and r.version == version and r.span.source == source]
    anchor = spans[-1].anchor if spans and source == "log" else None
    is_new = anchor is None or 2 * int(np.sum([instant > anchor for instant in at])) >= len(at)
    return Span(source=source, anchor=until if is_new or anchor is None else anchor, until=until, n=len(at))


def observations_of(records: Sequence[DecisionRecord], source: Source) -> tuple[Observation, ...]:
    """The windows of `source`, oldest first: of those with one anchor the latest. An empty window stands for itself."""
    latest: dict[object, Observation] = {}
    for record in records:
        if record.observation is None or (record.span and record.span.source != source):
            continue
        key = record.span.anchor if record.span else record.id
        latest.pop(key, None)
        latest[key] = record.observation
    return tuple(latest.values())


def requested_labels(records: Sequence[DecisionRecord]) -> frozenset[str]:
    """Predictions whose label was asked for because the model was unsure: they say nothing of how accurate it is."""
    return frozenset(name for record in records for name in record.labels.uncertain)


def _champion(workspace: Workspace, model: ModelRef) -> Champion:
    made = [e for e in workspace.ledger.history(model.name) if e.kind in ("promote", "rollback")]
    evaluation = Description.read(workspace.registry.fetch(model) / "model.json").evaluation
    return Champion(
        version=model.version,
        since=made[-1].at,
        accuracy=evaluation.headline()[1],
        previous=promotion.previous_champion(workspace, model.name),
    )


def _action(record: DecisionRecord) -> PastAction | None:
    """What was done: a request for labels by being decided, a retraining or a rollback once it was started."""
    if record.action in ("collect_labels", "reset"):
        return PastAction(at=record.at, kind=record.action)  # type: ignore[arg-type]
    if record.action not in ("retrain", "roll_back") or record.outcome is None:
        return None
    gate = record.outcome.kind if record.outcome.kind in _GATE_OUTCOMES else None
    return PastAction(at=record.outcome.at, kind=record.action, outcome=gate)  # type: ignore[arg-type]
