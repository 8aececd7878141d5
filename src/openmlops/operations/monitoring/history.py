"""The history that a decision is based on: the current champion, its observed windows, and past actions.

Converts records of the decision table into the values of `core.monitoring.policy`. Windows that share a prediction count as
one observation, the first of them that was measurable: who looks every minute draws no more lots than who looks every hour. Its
labels are those of the last look, because labels come later. What came before what is told by sequence numbers of the
database: clocks may be wrong, and be put right.
"""

from collections.abc import Sequence
from datetime import datetime

from openmlops.adapters.decisions import Basis, DecisionRecord, Span
from openmlops.core.monitoring.policy import Champion, History, Observation, PastAction, Policy, is_informative
from openmlops.core.types import LedgerEntry, ModelRef
from openmlops.operations.monitoring.windows import Source
from openmlops.operations.release.model_card import Description
from openmlops.operations.release.promotion import previous_champion
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
    promotion = [e for e in workspace.ledger.history(model.name) if e.is_change][-1]
    of_its_reign = [r for r in records if r.version == model.version and is_since(promotion, r)]
    return History(
        champion=_champion(workspace, model, promotion, of_its_reign),
        observations=observations_of(of_its_reign, source),
        actions=actions_of(records),
    )


def is_since(promotion: LedgerEntry, record: DecisionRecord) -> bool:
    """Whether a decision was made after a row of the ledger; one of an earlier release is known by its time only."""
    return record.basis.sequence >= promotion.sequence if record.basis else record.at >= promotion.at


def actions_of(records: Sequence[DecisionRecord]) -> tuple[PastAction, ...]:
    """Past actions, oldest first.

    One in the future, seen from the last record, was noted by a clock that was wrong: it counts as of the record after it.
    """
    actions: list[PastAction] = []
    latest = records[-1].at if records else None
    for record in reversed(records):
        if action := _action(record):
            assert latest is not None
            actions.append(action.model_copy(update={"at": latest}) if action.at > records[-1].at else action)
        latest = min(latest or record.at, record.at)
    return tuple(reversed(actions))


def basis_of(sequence: int, rows: Sequence[int], span: Span | None, earlier: Sequence[DecisionRecord], version: int) -> Basis:
    """What a decision is based on: the ledger's newest row, and a window of predictions with these sequence numbers in the log.

    The window starts a new observation if all of its predictions came after the anchor of the previous one.
    """
    if not rows or span is None:
        return Basis(sequence=sequence)
    newest = max(rows)
    before = [r for r in earlier if r.span and r.version == version and r.span.source == span.source]
    if not before:
        return Basis(sequence=sequence, anchor=newest)
    previous = before[-1]
    if previous.basis is None or previous.basis.anchor is None:  # of an earlier release, or overlapping with one
        assert previous.span is not None
        return Basis(sequence=sequence, anchor=newest if span.anchor != previous.span.anchor else None)
    is_new = min(rows) > previous.basis.anchor
    return Basis(sequence=sequence, anchor=newest if is_new else previous.basis.anchor)


def span_of(at: Sequence[datetime], source: Source, earlier: Sequence[DecisionRecord], version: int) -> Span | None:
    """The span of a window with predictions at these times, relative to earlier windows of the version; None if it is empty.

    The window starts a new observation if all of its predictions are newer than the anchor of the previous one.
    """
    if not at:
        return None
    until = max(at)
    spans = [r.span for r in earlier if r.span and r.version == version and r.span.source == source]
    anchor = spans[-1].anchor if spans and source == "log" else None
    is_new = anchor is None or min(at) > anchor
    return Span(source=source, anchor=until if is_new or anchor is None else anchor, until=until, n=len(at))


def observations_of(records: Sequence[DecisionRecord], source: Source) -> tuple[Observation, ...]:
    """The observations of `source`, oldest first: per anchor the first measurable window, with the labels of the last one.

    Each empty window counts separately. If the last window of all is not measurable, it comes last too: that is how things are.
    """
    found: dict[object, Observation] = {}
    last: Observation | None = None
    for record in records:
        if record.observation is None or (record.span and record.span.source != source):
            continue
        last = record.observation
        anchor = record.basis.anchor if record.basis else None
        key = anchor or (record.span.anchor if record.span else record.id)
        first = found.get(key)
        if first is None or not is_informative(first):
            found[key] = last
        elif last.labelled is not None:
            found[key] = first.model_copy(update={"labelled": last.labelled})
    observations = tuple(found.values())
    is_told = last is None or is_informative(last) or observations[-1] is last
    return observations if is_told or last is None else (*observations, last)


def requested_labels(records: Sequence[DecisionRecord]) -> frozenset[str]:
    """Ids of predictions whose label was requested because of uncertainty: accuracy on them is biased."""
    return frozenset(name for record in records for name in record.labels.uncertain)


def _champion(
    workspace: Workspace, model: ModelRef, promotion: LedgerEntry, of_its_reign: Sequence[DecisionRecord]
) -> Champion:
    evaluation = Description.read(workspace.registry.fetch(model) / "model.json").evaluation
    return Champion(
        version=model.version,
        since=min([promotion.at, *(r.observation.at for r in of_its_reign if r.observation)]),
        accuracy=evaluation.headline()[1],
        previous=previous_champion(workspace, model.name),
    )


def _action(record: DecisionRecord) -> PastAction | None:
    """A label request or reset counts when decided, a retraining or rollback once it was started; None otherwise."""
    if record.action in ("collect_labels", "reset"):
        return PastAction(at=record.at, kind=record.action)  # type: ignore[arg-type]
    if record.action not in ("retrain", "roll_back") or record.outcome is None:
        return None
    gate = record.outcome.kind if record.outcome.kind in _GATE_OUTCOMES else None
    return PastAction(at=record.outcome.at, kind=record.action, outcome=gate)  # type: ignore[arg-type]
