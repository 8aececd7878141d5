"""Change marks of the tables and the latest predictions, cheap enough for a page to poll every second.

What is here: queries that an index serves. What is not: the meaning of the rows (`ledger`, `decisions`, `inference_log`).
"""

from datetime import datetime

from sqlalchemy import Connection, Engine, Row, func, select

from openmlops.adapters.schema import DECISION, INFERENCE, LEDGER
from openmlops.core.types import Value

LATEST_DECISIONS = 20
"""latest records, whose outcome may still change"""


class Mark(Value):
    """State of the tables: equal marks mean that nothing has changed. `answers` counts predictions of all models."""

    ledger: int
    decisions: tuple[tuple[int, str | None], ...]
    predictions: int


class LoggedPrediction(Value):
    """One production prediction: its time, version and latency."""

    at: datetime
    version: int
    latency_ms: float


class Activity:
    """Queries on the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mark(self, model: str) -> Mark:
        """The current mark for a model."""
        ledger = select(func.max(LEDGER.c.sequence)).where(LEDGER.c.model == model)
        decided = select(DECISION.c.sequence, DECISION.c.outcome).where(DECISION.c.model == model)
        with self._engine.connect() as connection:
            latest = connection.execute(decided.order_by(DECISION.c.sequence.desc()).limit(LATEST_DECISIONS)).all()
            return Mark(
                ledger=connection.scalar(ledger) or 0,
                decisions=tuple((row[0], row[1]) for row in latest),
                predictions=connection.scalar(select(func.max(INFERENCE.c.sequence))) or 0,
            )

    def latest(self, model: str, last: int) -> tuple[LoggedPrediction, ...]:
        """The `last` predictions of a model, oldest first.

        Read per version, newest first, which the index of windows serves: over all versions of a model, a database without an
        index of its own for that would sort the whole log.
        """
        columns = (INFERENCE.c.sequence, INFERENCE.c.at, INFERENCE.c.version, INFERENCE.c.latency_ms)
        newest = select(*columns).where(INFERENCE.c.model == model).order_by(INFERENCE.c.sequence.desc()).limit(last)
        rows: list[Row] = []
        with self._engine.connect() as connection:
            for version, latest in sorted(_versions(connection, model), key=lambda each: -each[1]):
                oldest = rows[-1].sequence if len(rows) == last else 0
                if latest > oldest:
                    later = newest.where(INFERENCE.c.version == version, INFERENCE.c.sequence > oldest)
                    rows = sorted([*rows, *connection.execute(later)], key=lambda row: -row.sequence)[:last]
        return tuple(LoggedPrediction(at=row.at, version=row.version, latency_ms=row.latency_ms) for row in reversed(rows))


def _versions(connection: Connection, model: str) -> list[tuple[int, int]]:
    """The versions of a model in the log, each with its highest sequence number: one step in the index for each."""
    columns = select(INFERENCE.c.version, INFERENCE.c.sequence).where(INFERENCE.c.model == model)
    highest = columns.order_by(INFERENCE.c.version.desc(), INFERENCE.c.sequence.desc()).limit(1)
    found: list[tuple[int, int]] = []
    while row := connection.execute(highest.where(INFERENCE.c.version < found[-1][0]) if found else highest).first():
        found.append((row.version, row.sequence))
    return found
