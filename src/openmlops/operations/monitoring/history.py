"""The history that a decision is based on: the current champion, its observed windows, and past actions.

Converts records of the decision table into the values of `core.monitoring.policy`. Windows that overlap by more than half
count as one observation, the latest of them, so that polling every minute raises no more alarms than polling every hour.
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
"""number of latest records that are read: more than a month of hourly ones"""
_GATE_OUTCOMES = ("promote", "reject", "inconclusive", "failed")


def policy_of(workspace: Workspace) -> Policy:
    """The policy of the settings POLICY_*; a drifted-columns share of 0 disables that criterion."""
    chosen = {name: getattr(workspace.settings, f"policy_{name}") for name in Policy.model_fields}
    return Policy(**(chosen | {"drifted_columns": chosen["drifted_columns"] or None}))


def records_of(workspace: Workspace, model: str) -> tuple[DecisionRecord, ...]:
    """The model's latest records, oldest first."""
    return workspace.decisions.list(model, HISTORY_LENGTH)


def history_of(workspace: Workspace, model: ModelRef, records: Sequence[DecisionRecord], source: Source) -> History:
    """History of the champion `model`: windows of `source`, and all actions."""
    return History(
        champion=_champion(workspace, model),
        observations=observations_of([r for r in records if r.version == model.version], source),
        actions=actions_of(records),
    )


def actions_of(records: Sequence[DecisionRecord]) -> tuple[PastAction, ...]:
    """Past actions, oldest first."""
    return tuple(action for record in records if (action := _action(record)))


def span_of(at: Sequence[datetime], source: Source, earlier: Sequence[DecisionRecord], version: int) -> Span | None:
    """The span of a window with predictions at these times, relative to earlier windows of the version; None if it is empty.

    The window starts a new observation if at least half of its predictions are newer than the anchor of the previous one.
    """
    if not at:
        return None
    until = max(at)
    spans = [r.span for r in earlier if r.span and r.version == version and r.span.source == source]
    anchor = spans[-1].anchor if spans and source == "log" else None
    is_new = anchor is None or 2 * int(np.sum([instant > anchor for instant in at])) >= len(at)
    return Span(source=source, anchor=until if is_new or anchor is None else anchor, until=until, n=len(at))


def observations_of(records: Sequence[DecisionRecord], source: Source) -> tuple[Observation, ...]:
    """The observations of `source`, oldest first: per anchor the latest window. Each empty window counts separately."""
    latest: dict[object, Observation] = {}
    for record in records:
        if record.observation is None or (record.span and record.span.source != source):
            continue
        key = record.span.anchor if record.span else record.id
        latest.pop(key, None)
        latest[key] = record.observation
    return tuple(latest.values())


def requested_labels(records: Sequence[DecisionRecord]) -> frozenset[str]:
    """Ids of predictions whose label was requested because of uncertainty: accuracy on them is biased."""
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
    """A label request or reset counts when decided, a retraining or rollback once it was started; None otherwise."""
    if record.action in ("collect_labels", "reset"):
        return PastAction(at=record.at, kind=record.action)  # type: ignore[arg-type]
    if record.action not in ("retrain", "roll_back") or record.outcome is None:
        return None
    gate = record.outcome.kind if record.outcome.kind in _GATE_OUTCOMES else None
    return PastAction(at=record.outcome.at, kind=record.action, outcome=gate)  # type: ignore[arg-type]
