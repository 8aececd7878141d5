"""What was answered in production, each prediction exactly once, and the labels that join it later, each once.

What is here: the tables, written in groups and read as windows. What is not: threads (the server groups what it answers), the
input images (`input_store`), what answers and labels mean (`core.tasks`), and any judgement on what is in a window.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, Select, func, insert, select
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import writing
from openmlops.adapters.schema import INFERENCE, INFERENCE_LAYOUT, LABEL
from openmlops.errors import LabelConflict, PredictionNotFound
from openmlops.files import replacing

STORED = np.dtype("<f4")

ReadLabel = Callable[[Any, Sequence[str]], str]


@dataclass(frozen=True)
class Layout:
    """What the numbers of an entry are: names of its features and of its classes, in their order."""

    columns: tuple[str, ...]
    classes: tuple[str, ...]

    @cached_property
    def id(self) -> str:
        """SHA-256 of the names."""
        return hashlib.sha256(json.dumps([self.columns, self.classes]).encode()).hexdigest()


@dataclass(frozen=True)
class Entries:
    """n predictions of one model version, as they are written."""

    model: str
    version: int
    layout: Layout
    ids: Sequence[str]
    at: Sequence[datetime]
    input_sha256: Sequence[str]
    features: np.ndarray
    """float32 (n, columns)"""
    answers: Sequence[bytes]
    """n, as the task packs them"""
    latency_ms: Sequence[float]


@dataclass(frozen=True)
class Window:
    """n predictions of one model version, oldest first, as they are read."""

    layout: Layout
    ids: tuple[str, ...]
    at: tuple[datetime, ...]
    input_sha256: tuple[str, ...]
    features: np.ndarray
    """float32 (n, columns)"""
    answers: tuple[bytes, ...]
    """n, as the task packs them"""
    labels: tuple[str | None, ...]
    """n, as JSON; None where none has joined"""
    latency_ms: np.ndarray
    """float64 (n,)"""

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, np.ndarray]:
        """The features by name, float32 (n,)."""
        return {name: self.features[:, index] for index, name in enumerate(self.layout.columns)}


class InferenceLog:
    """The log in the database of `engine`. Safe to share between threads, and between processes on one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[str] = set()

    # Writing

    def write(self, groups: Sequence[Entries]) -> None:
        """Commit all entries in one transaction, or none. Raises ServiceUnavailable."""
        for layout in {group.layout for group in groups}:
            self._ensure(layout)
        with writing(self._engine) as connection:
            connection.execute(insert(INFERENCE), [row for group in groups for row in _rows(group)])

    def label(self, prediction: str, told: Any, read: ReadLabel, at: datetime) -> bool:
        """Join a label to a prediction; whether it was new. `read` makes it JSON, given the classes of the version.

        Raises PredictionNotFound, what `read` raises, and LabelConflict if the prediction has another label already.
        """
        truth = read(told, self._classes(prediction))
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(LABEL), {"inference": prediction, "truth": truth, "at": at})
        except IntegrityError:
            self._require_equal(prediction, truth)
            return False
        return True

    def _ensure(self, layout: Layout) -> None:
        if layout.id in self._known:
            return
        try:
            with writing(self._engine) as connection:
                names = {"columns": json.dumps(layout.columns), "classes": json.dumps(layout.classes)}
                connection.execute(insert(INFERENCE_LAYOUT), {"id": layout.id, **names})
        except IntegrityError:  # it is there: its id is the hash of its content, so it is the same
            pass
        self._known.add(layout.id)

    def _classes(self, prediction: str) -> list[str]:
        found = select(INFERENCE_LAYOUT.c.classes).join(INFERENCE).where(INFERENCE.c.id == prediction)
        with self._engine.connect() as connection:
            classes = connection.scalar(found)
        if classes is None:
            raise PredictionNotFound(f"The log has no prediction '{prediction}'", "Use a prediction_id that /predict answered")
        return list(json.loads(classes))

    def _require_equal(self, prediction: str, truth: str) -> None:
        with self._engine.connect() as connection:
            present = str(connection.scalar(select(LABEL.c.truth).where(LABEL.c.inference == prediction)))
        if present != truth:
            problem = f"The prediction '{prediction}' has the label {present[:80]} already, not {truth[:80]}"
            raise LabelConflict(problem, "Labels join once")

    # Reading

    def count(self, model: str, version: int) -> int:
        """How many predictions of a version the log holds."""
        counting = select(func.count()).where(INFERENCE.c.model == model, INFERENCE.c.version == version)
        with self._engine.connect() as connection:
            return int(connection.scalar(counting) or 0)

    def unlabelled(self, model: str, version: int, last: int = 500) -> tuple[str, ...]:
        """Ids among a version's `last` predictions that have no label yet, oldest first."""
        window = self.window(model, version, last)
        return tuple(name for name, label in zip(window.ids, window.labels, strict=True) if label is None)

    def window(self, model: str, version: int, last: int = 500) -> Window:
        """The `last` predictions of a version, oldest first; fewer if there are fewer.

        Those of another layout than the newest are left out: a version has one, unless its use case was changed under it.
        """
        with self._engine.connect() as connection:
            found = list(connection.execute(_latest(model, version, last)).mappings())[::-1]
            layout = _read_layout(connection.execute(_layout(found[-1]["layout"])).one()) if found else Layout((), ())
        rows = [row for row in found if row["layout"] == layout.id]
        return Window(
            layout=layout,
            ids=tuple(row["id"] for row in rows),
            at=tuple(row["at"] for row in rows),
            input_sha256=tuple(row["input_sha256"] for row in rows),
            features=_matrix([row["features"] for row in rows], len(layout.columns)),
            answers=tuple(row["answer"] for row in rows),
            labels=tuple(row["truth"] for row in rows),
            latency_ms=np.array([row["latency_ms"] for row in rows], np.float64),
        )


def write_parquet(path: Path, window: Window, answers: Mapping[str, Any], version: int) -> None:
    """Write a window of a version as Parquet, whole or not at all.

    One row a prediction: id, at, version, input_sha256, the features by name, the columns that its task makes of `answers` and
    labels, latency_ms.
    """
    import pyarrow.parquet

    with replacing(path) as beside:
        pyarrow.parquet.write_table(_table(window, answers, version), beside)


def _rows(group: Entries) -> list[dict[str, object]]:
    features = group.features.astype(STORED)
    shared = {"model": group.model, "version": group.version, "layout": group.layout.id}
    return [
        {
            **shared,
            "id": group.ids[i],
            "at": group.at[i],
            "input_sha256": group.input_sha256[i],
            "features": features[i].tobytes(),
            "answer": group.answers[i],
            "latency_ms": group.latency_ms[i],
        }
        for i in range(len(group.ids))
    ]


def _latest(model: str, version: int, last: int) -> Select:
    joined = INFERENCE.outerjoin(LABEL, LABEL.c.inference == INFERENCE.c.id)
    found = select(INFERENCE, LABEL.c.truth).select_from(joined)
    return (
        found.where(INFERENCE.c.model == model, INFERENCE.c.version == version)
        .order_by(INFERENCE.c.sequence.desc())
        .limit(last)
    )


def _layout(identity: str) -> Select:
    return select(INFERENCE_LAYOUT.c.columns, INFERENCE_LAYOUT.c.classes).where(INFERENCE_LAYOUT.c.id == identity)


def _read_layout(row: Sequence[str]) -> Layout:
    return Layout(tuple(json.loads(row[0])), tuple(json.loads(row[1])))


def _matrix(rows: list[bytes], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(rows), STORED).reshape(len(rows), width).astype(np.float32)


def _table(window: Window, answers: Mapping[str, Any], version: int):  # type: ignore[no-untyped-def]  # pyarrow.Table
    import pyarrow

    return pyarrow.table(
        {
            "id": pyarrow.array(window.ids, pyarrow.string()),
            "at": pyarrow.array(window.at, pyarrow.timestamp("us", tz="UTC")),
            "version": np.full(len(window), version, np.int64),
            "input_sha256": pyarrow.array(window.input_sha256, pyarrow.string()),
            **window.columns(),
            **answers,
            "latency_ms": window.latency_ms,
        }
    )
