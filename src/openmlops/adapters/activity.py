"""How far each table has got, and when the latest answers were given: what somebody who watches asks every second or so.

What is here: questions that an index answers. What is not: what the rows mean (`ledger`, `decisions`, `inference_log`).
"""

from datetime import datetime

from sqlalchemy import Engine, func, select

from openmlops.adapters.schema import DECISION, INFERENCE, LEDGER
from openmlops.core.types import Value

LATEST_DECISIONS = 20
"""records whose outcome may still change"""


class Mark(Value):
    """How far the tables had got at one moment; equal marks: nothing has happened. `answers` is of all models."""

    ledger: int
    decisions: tuple[tuple[int, str | None], ...]
    predictions: int


class LoggedPrediction(Value):
    """One answer of production: when, by which version, and how long it took."""

    at: datetime
    version: int
    latency_ms: float


class Activity:
    """Of the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mark(self, model: str) -> Mark:
        """How far the tables are for a model now."""
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
        """The `last` answers of a model, oldest first."""
        columns = (INFERENCE.c.at, INFERENCE.c.version, INFERENCE.c.latency_ms)
        found = select(*columns).where(INFERENCE.c.model == model).order_by(INFERENCE.c.sequence.desc()).limit(last)
        with self._engine.connect() as connection:
            rows = connection.execute(found).all()
        return tuple(LoggedPrediction(at=at, version=version, latency_ms=latency) for at, version, latency in reversed(rows))
