"""Change marks of the tables and the latest predictions, cheap enough for a page to poll every second.

What is here: queries that an index serves. What is not: the meaning of the rows (`ledger`, `decisions`, `inference_log`).
"""

from datetime import datetime

from sqlalchemy import Engine, func, select

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
        """The `last` predictions of a model, oldest first."""
        columns = (INFERENCE.c.at, INFERENCE.c.version, INFERENCE.c.latency_ms)
        found = select(*columns).where(INFERENCE.c.model == model).order_by(INFERENCE.c.sequence.desc()).limit(last)
        with self._engine.connect() as connection:
            rows = connection.execute(found).all()
        return tuple(LoggedPrediction(at=at, version=version, latency_ms=latency) for at, version, latency in reversed(rows))
