"""Labelled production images: which inputs have a label, and which of them are part of a data version.

What is here: rows of the inference log with their labels, as values. What is not: the images (`input_store`), and which of
them are suitable for training (`operations.data.production_labels`).
"""

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, Row, Select, func, insert, select

from openmlops.adapters.database import writing
from openmlops.adapters.fences import Lease, require
from openmlops.adapters.schema import INFERENCE, INFERENCE_LAYOUT, LABEL, LABEL_USE
from openmlops.core.types import Value

CHUNK = 500
"""ids per query, below the limit of every database"""


class LabelledInput(Value):
    """One input and its label, JSON in terms of `classes`; `at` is the time of the prediction."""

    prediction: str
    at: datetime
    sha256: str
    label: str
    classes: tuple[str, ...]


class LabelledInputs:
    """The labelled inputs in the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counted: dict[str, tuple[tuple[int, int], int]] = {}

    def count_new(self, model: str) -> int:
        """Number of labelled inputs of a model that are in no data version.

        Asked every few seconds by watchers and open pages, and counted again only if labels were added or used: a label that is
        removed is one that was used.
        """
        counting = _new(select(func.count()).select_from(_joined()), model)
        with self._engine.connect() as connection:
            labels, used = (
                int(connection.scalar(select(func.count()).select_from(table)) or 0) for table in (LABEL, LABEL_USE)
            )
            before, count = self._counted.get(model, (None, 0))
            if before != (labels, used):
                count = int(connection.scalar(counting) or 0)
                self._counted[model] = (labels, used), count
            return count

    def new(self, model: str) -> tuple[LabelledInput, ...]:
        """The labelled inputs of a model that are in no data version, newest first."""
        return self._read(_new(_query(), model))

    def all(self, model: str) -> tuple[LabelledInput, ...]:
        """All labelled inputs of a model, used or not, newest first."""
        return self._read(_query().where(_of(model)))

    def used_in(self, dataset: str) -> frozenset[str]:
        """The predictions whose labels the retraining on a data version was the first to use."""
        with self._engine.connect() as connection:
            return frozenset(connection.scalars(select(LABEL_USE.c.inference).where(LABEL_USE.c.dataset == dataset)))

    def mark_used(self, predictions: Sequence[str], dataset: str, at: datetime, fence: Lease | None = None) -> None:
        """Record that the labels of these predictions are in a data version, all or none; earlier records are kept. Raises
        LeaseLost if another process has acquired the lease `fence`, under which the caller acts."""
        with writing(self._engine) as connection:
            require(connection, fence)
            known: set[str] = set()
            for start in range(0, len(predictions), CHUNK):
                query = select(LABEL_USE.c.inference).where(LABEL_USE.c.inference.in_(predictions[start : start + CHUNK]))
                known |= set(connection.scalars(query))
            rows = [{"inference": name, "dataset": dataset, "at": at} for name in predictions if name not in known]
            if rows:
                connection.execute(insert(LABEL_USE), rows)

    def _read(self, query: Select) -> tuple[LabelledInput, ...]:
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(INFERENCE.c.sequence.desc())).all()
            classes = {row.id: tuple(json.loads(row.classes)) for row in connection.execute(_LAYOUTS)}
        return tuple(_labelled(row, classes[row.layout]) for row in rows)


_LAYOUTS = select(INFERENCE_LAYOUT.c.id, INFERENCE_LAYOUT.c.classes)


def _joined():  # type: ignore[no-untyped-def]  # a Join
    """Labels with their use and their prediction, which each has. An outer join, because SQLite would reorder an inner one and
    begin with all predictions."""
    used = LABEL.outerjoin(LABEL_USE, LABEL_USE.c.inference == LABEL.c.inference)
    return used.outerjoin(INFERENCE, INFERENCE.c.id == LABEL.c.inference)


def _query() -> Select:
    columns = (INFERENCE.c.id, INFERENCE.c.at, INFERENCE.c.input_sha256, INFERENCE.c.layout, LABEL.c.truth)
    return select(*columns).select_from(_joined())


def _new(query: Select, model: str) -> Select:
    return query.where(_of(model), LABEL_USE.c.inference.is_(None))


def _of(model: str) -> ColumnElement[bool]:
    """The condition that a prediction is of this model, in a form that does not make the outer join an inner one."""
    return func.coalesce(INFERENCE.c.model, "") == model


def _labelled(row: Row, classes: tuple[str, ...]) -> LabelledInput:
    return LabelledInput(prediction=row.id, at=row.at, sha256=row.input_sha256, label=row.truth, classes=classes)
