"""The log of monitoring decisions: each decision on a model with its observation and outcome.

What is here: records, appended once and never changed, and the outcome that is added to a record. What is not: the policy
(`core.monitoring.policy`) and its execution (`operations.monitoring.cycle`). A person's reset of the breaker and a request for
a cycle are records too, so that `openmlops decisions` shows the full history.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Engine, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from openmlops.adapters import label_draws
from openmlops.adapters.database import writing
from openmlops.adapters.fences import Lease, require
from openmlops.adapters.schema import DECISION
from openmlops.core.monitoring.observed import Action, Drawn, Observation, WorthLabelling
from openmlops.core.types import Value
from openmlops.errors import DecisionNotFound, one_line

REQUEST_ACTIONS = ("collect_labels", "retrain", "roll_back")
"""the latest decision with one of these actions tells whether a label request is open"""

IDLE_ACTIONS = ("nothing", "not_measurable")
"""those that ask for nothing to be done"""
FORGOTTEN_AT_ONCE = 200
"""records that are deleted in one transaction"""


class Span(Value):
    """The position of a window. Windows with the same `anchor` overlap and count as one observation."""

    source: Literal["log", "test-set"]
    anchor: datetime
    until: datetime
    n: int


class Basis(Value):
    """What a decision was based on: the newest row of the ledger, and the window in the log.

    `anchor` is the sequence number of the last prediction of the window that began the observation; None if the window is not
    from the log, or overlaps with one of an earlier release, whose span has the anchor.
    """

    sequence: int
    anchor: int | None = None


class Outcome(Value):
    """The outcome of a decision, `started` until it ends. `version` is the challenger, or the champion after a rollback."""

    at: datetime
    kind: Literal["started", "promote", "reject", "inconclusive", "failed", "no_data", "rolled_back"]
    version: int | None = None
    reasons: tuple[str, ...] = ()


class DecisionRecord(Value):
    """One stored decision. `by` is who requested it; `observation` and `span` are None if nothing was observed, `basis` also in
    decisions of earlier releases."""

    id: str
    model: str
    version: int
    at: datetime
    action: Action | Literal["reset", "request"]
    reasons: tuple[str, ...]
    by: str
    labels: WorthLabelling = WorthLabelling()
    observation: Observation | None = None
    span: Span | None = None
    outcome: Outcome | None = None
    basis: Basis | None = None


class Forgotten(NamedTuple):
    """Records that were deleted, and the bytes of them."""

    records: int
    bytes: int


def new_id() -> str:
    """A new decision id."""
    return uuid.uuid4().hex[:12]


def requested(model: str, version: int, reason: str, by: str, now: datetime) -> DecisionRecord:
    """A request for a cycle; any watcher on the same database executes it."""
    reasons = (one_line(reason),)
    return DecisionRecord(id=new_id(), model=model, version=version, at=now, action="request", reasons=reasons, by=by)


class Decisions:
    """The decisions in a database, in insertion order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def append(self, record: DecisionRecord, draw: Sequence[Drawn] = ()) -> None:
        """Store a new record without an outcome, and the draw of a label request; does nothing if its id exists already."""
        row = {name: getattr(record, name) for name in ("id", "model", "version", "at", "action")}
        with suppress(IntegrityError), writing(self._engine) as connection:
            stored = record.model_dump_json(exclude={"outcome", "basis"})  # as earlier releases read it
            basis = record.basis.model_dump_json() if record.basis else None
            connection.execute(insert(DECISION), {**row, "record": stored, "basis": basis})
            label_draws.add(connection, record.id, draw)

    def find(self, decision: str) -> DecisionRecord | None:
        """The record with exactly this id, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(select(DECISION).where(DECISION.c.id == decision)).first()
        return _record(row) if row else None

    def outcome(self, decision: str, outcome: Outcome, fence: Lease | None = None) -> None:
        """Set the outcome of a decision, replacing an earlier one.

        Raises DecisionNotFound, and LeaseLost if another process has acquired the lease `fence`, under which the caller acts.
        """
        change = update(DECISION).where(DECISION.c.id == decision).values(outcome=outcome.model_dump_json())
        with writing(self._engine) as connection:
            require(connection, fence)
            if connection.execute(change).rowcount != 1:
                raise _unknown(decision)

    def get(self, decision: str) -> DecisionRecord:
        """One record by its id or an unambiguous prefix. Raises DecisionNotFound, also if the prefix is ambiguous."""
        if not (decision and decision.isascii() and decision.isprintable()):
            raise _unknown(decision)
        ids = DECISION.c.id  # hexadecimal digits: an index serves a range of them, but not every LIKE
        prefix = decision.lower()
        its = (ids >= prefix, ids < f"{prefix}g", ids.startswith(prefix, autoescape=True))
        found = select(DECISION).where(*its).limit(2)
        with self._engine.connect() as connection:
            rows = connection.execute(found).all()
        if len(rows) != 1:
            raise _unknown(decision)
        return _record(rows[0])

    def latest(self, model: str, actions: Sequence[str]) -> DecisionRecord | None:
        """The latest record of a model with one of these actions, or None."""
        found = select(DECISION).where(DECISION.c.model == model, DECISION.c.action.in_(actions))
        with self._engine.connect() as connection:
            row = connection.execute(found.order_by(DECISION.c.sequence.desc()).limit(1)).first()
        return _record(row) if row else None

    def after(self, model: str, sequence: int, actions: Sequence[str]) -> tuple[tuple[int, DecisionRecord], ...]:
        """The records of a model with one of these actions after a sequence number, oldest first, each with its own."""
        found = select(DECISION).where(
            DECISION.c.model == model, DECISION.c.sequence > sequence, DECISION.c.action.in_(actions)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(found.order_by(DECISION.c.sequence)).all()
        return tuple((row.sequence, _record(row)) for row in rows)

    def forget(self, before: datetime, latest: int, dry: bool = False) -> Forgotten:
        """Delete records made before an instant that asked for nothing to be done and have no outcome, but for the `latest` of
        each model. With `dry` nothing is deleted. Raises ServiceUnavailable."""
        with self._engine.connect() as connection:
            models = connection.scalars(select(DECISION.c.model).distinct()).all()
        parts = [self._forget(model, before, latest, dry) for model in models]
        return Forgotten(sum(part.records for part in parts), sum(part.bytes for part in parts))

    def _forget(self, model: str, before: datetime, latest: int, dry: bool) -> Forgotten:
        its = DECISION.c.model == model
        idle = (its, DECISION.c.at < before, DECISION.c.action.in_(IDLE_ACTIONS), DECISION.c.outcome.is_(None))
        numbers = select(DECISION.c.sequence).where(its).order_by(DECISION.c.sequence.desc())
        records = size = 0
        last = 0
        with self._engine.connect() as connection:
            first_kept = connection.scalar(numbers.limit(1).offset(latest - 1)) or 0
        while True:
            found = select(DECISION.c.sequence, func.length(DECISION.c.record)).where(
                *idle, DECISION.c.sequence > last, DECISION.c.sequence < first_kept
            )
            with self._engine.connect() as connection:
                rows = connection.execute(found.order_by(DECISION.c.sequence).limit(FORGOTTEN_AT_ONCE)).all()
            if not rows:
                return Forgotten(records, size)
            last = rows[-1][0]
            records, size = records + len(rows), size + sum(row[1] for row in rows)
            if not dry:
                with writing(self._engine) as connection:
                    connection.execute(delete(DECISION).where(DECISION.c.sequence.in_([row[0] for row in rows])))

    def oldest(self) -> datetime | None:
        """The time of the first record; None if there is none."""
        with self._engine.connect() as connection:
            return connection.scalar(select(DECISION.c.at).order_by(DECISION.c.sequence).limit(1))

    def newest(self, model: str) -> int:
        """The sequence number of a model's latest record; 0 if there is none."""
        with self._engine.connect() as connection:
            return int(connection.scalar(select(func.max(DECISION.c.sequence)).where(DECISION.c.model == model)) or 0)

    def open_request(self, model: str) -> DecisionRecord | None:
        """The open label request of a model, or None."""
        latest = self.latest(model, REQUEST_ACTIONS)
        return latest if latest and latest.action == "collect_labels" else None

    def list(self, model: str, last: int = 100, actions: Sequence[str] = ()) -> tuple[DecisionRecord, ...]:
        """The `last` records of a model, oldest first; with `actions`, only those with one of them."""
        its = (DECISION.c.model == model, *((DECISION.c.action.in_(actions),) if actions else ()))
        found = select(DECISION).where(*its).order_by(DECISION.c.sequence.desc()).limit(last)
        with self._engine.connect() as connection:
            rows: Sequence[Row] = connection.execute(found).all()
        return tuple(_record(row) for row in reversed(rows))


def _record(row: Row) -> DecisionRecord:
    outcome = Outcome.model_validate_json(row.outcome) if row.outcome else None
    basis = Basis.model_validate_json(row.basis) if row.basis else None
    return DecisionRecord.model_validate_json(row.record).model_copy(update={"outcome": outcome, "basis": basis})


def _unknown(decision: str) -> DecisionNotFound:
    return DecisionNotFound(f"No unique decision has the id '{decision[:80]}'", "List them with `openmlops decisions`")
