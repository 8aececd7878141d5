"""How labels were asked for: of each request the draw that it comes from, every answer of its window with its probability.

What is here: the rows, written together with the request (`decisions`). What is not: drawing, and what the labels of a draw say
of all answers (`core.monitoring.sampling`). Answers that are deleted take their rows along (`inference_hours`).
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, insert, select

from openmlops.adapters.schema import DECISION, LABEL_DRAW
from openmlops.core.monitoring.observed import Drawn

CHUNK = 500
"""ids per query, below the limit of every database"""


class LabelDraws:
    """The draws in the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, predictions: Sequence[str]) -> tuple[dict[str, Drawn], ...]:
        """The requests in whose draws these predictions took part, the newest first: prediction -> how it did."""
        joined = LABEL_DRAW.join(DECISION, DECISION.c.id == LABEL_DRAW.c.decision)
        found: dict[int, dict[str, Drawn]] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(predictions), CHUNK):
                query = select(DECISION.c.sequence, LABEL_DRAW).select_from(joined)
                for row in connection.execute(query.where(LABEL_DRAW.c.inference.in_(predictions[start : start + CHUNK]))):
                    drawn = Drawn(row.inference, row.stratum, row.at_random, row.probability)
                    found.setdefault(row.sequence, {})[row.inference] = drawn
        return tuple(found[sequence] for sequence in sorted(found, reverse=True))


def add(connection: Connection, decision: str, draw: Sequence[Drawn]) -> None:
    """Add the draw of a request, in the transaction that appends it."""
    rows = [
        {
            "inference": each.prediction,
            "decision": decision,
            "stratum": each.stratum,
            "at_random": each.at_random,
            "probability": each.probability,
        }
        for each in draw
    ]
    if rows:
        connection.execute(insert(LABEL_DRAW), rows)
