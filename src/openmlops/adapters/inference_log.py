"""The inference log: every production prediction exactly once, and the labels reported for it later, each once.

What is here: the tables, written in groups and read as windows. What is not: threads (the server groups its predictions), the
input images (`input_store`), the meaning of predictions and labels (`core.tasks`), and the evaluation of a window.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Select, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from openmlops.adapters import input_places
from openmlops.adapters.database import require_room, writing
from openmlops.adapters.database_errors import is_deadlock
from openmlops.adapters.input_places import Place
from openmlops.adapters.schema import INFERENCE, INFERENCE_LAYOUT, INPUT_PLACE, LABEL
from openmlops.errors import LabelConflict, PredictionNotFound, ServiceUnavailable

STORED = np.dtype("<f4")
LABEL_ATTEMPTS = 3
IDS_AT_ONCE = 500
"""most ids of a statement"""
PROBE_BYTES = 16 * 1024
"""what is written to find out whether the database accepts entries"""

ReadLabel = Callable[[Any, Sequence[str]], str]


@dataclass(frozen=True)
class Layout:
    """The columns of an entry: names of its features and classes, in order."""

    columns: tuple[str, ...]
    classes: tuple[str, ...]

    @cached_property
    def id(self) -> str:
        """SHA-256 of the names."""
        return hashlib.sha256(json.dumps([self.columns, self.classes]).encode()).hexdigest()


@dataclass(frozen=True)
class Entries:
    """n predictions of one model version, to be written."""

    model: str
    version: int
    layout: Layout
    ids: Sequence[str]
    at: Sequence[datetime]
    input_sha256: Sequence[str]
    features: np.ndarray
    """float32 (n, columns)"""
    predictions: Sequence[bytes]
    """n, as packed by the task"""
    latency_ms: Sequence[float]
    places: Sequence[Place | None] = ()
    """n, where the inputs lie if they are packed; none if they all are files"""

    def without(self, ids: Set[str]) -> "Entries":
        """The entries whose id is not in `ids`."""
        if not ids:
            return self
        rows = [row for row, name in enumerate(self.ids) if name not in ids]
        columns = ("ids", "at", "input_sha256", "predictions", "latency_ms", *(("places",) if self.places else ()))
        kept: dict[str, Any] = {name: [getattr(self, name)[row] for row in rows] for name in columns}
        return replace(self, features=self.features[rows], **kept)


@dataclass(frozen=True)
class Window:
    """n predictions of one model version as read, oldest first."""

    layout: Layout
    ids: tuple[str, ...]
    sequences: tuple[int, ...]
    """n, in the order in which the log took them; none for predictions that are not from the log"""
    at: tuple[datetime, ...]
    input_sha256: tuple[str, ...]
    features: np.ndarray
    """float32 (n, columns)"""
    predictions: tuple[bytes, ...]
    """n, as packed by the task"""
    labels: tuple[str | None, ...]
    """n, as JSON; None if not labelled yet"""
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
        try:
            self._write(groups)
        except IntegrityError:  # the layouts are those of a database that was there before
            if not self._known:
                raise
            self._known.clear()
            self._write(groups)

    def _write(self, groups: Sequence[Entries]) -> None:
        for layout in {group.layout for group in groups}:
            self._ensure(layout)
        with writing(self._engine) as connection:
            connection.execute(insert(INFERENCE), [row for group in groups for row in _rows(group)])
            input_places.add(connection, [each for group in groups for each in _placed(group)])

    def write_missing(self, groups: Sequence[Entries]) -> None:
        """Commit the entries that the log does not hold yet, in one transaction. Raises ServiceUnavailable.

        Safe to repeat after an attempt with unknown outcome, and while another process writes the same entries: the second
        writer waits for the first, fails on the ids, and checks again. Queries the database even if there are no entries.
        """
        present = self._present([name for group in groups for name in group.ids])
        missing = [rest for group in groups if (rest := group.without(present)).ids]
        if not missing:
            return
        try:
            self.write(missing)
        except IntegrityError:
            if self._present([name for group in groups for name in group.ids]) == present:
                raise
            self.write_missing(groups)

    def remove(self, groups: Sequence[Entries]) -> None:
        """Delete entries that are stored elsewhere, and with the last one all places. Raises ServiceUnavailable."""
        with writing(self._engine) as connection:
            connection.execute(delete(INFERENCE).where(INFERENCE.c.id.in_([name for group in groups for name in group.ids])))
            if connection.scalar(select(INFERENCE.c.id).limit(1)) is None:
                connection.execute(delete(INPUT_PLACE))

    def withdraw(self, ids: Sequence[str]) -> None:
        """Delete entries whose clients got no answer. Raises ServiceUnavailable."""
        with writing(self._engine) as connection:
            for first in range(0, len(ids), IDS_AT_ONCE):
                connection.execute(delete(INFERENCE).where(INFERENCE.c.id.in_(ids[first : first + IDS_AT_ONCE])))

    def require_room(self) -> None:
        """Raise DiskFull if the disk of an embedded log is full, without writing to it."""
        require_room(self._engine)

    def probe(self) -> None:
        """Write to the database and delete that again: whether entries could be written. Raises ServiceUnavailable."""
        self.require_room()
        name = f"probe-{secrets.token_hex(16)}"
        with writing(self._engine) as connection:
            content = {"id": name, "columns": secrets.token_hex(PROBE_BYTES // 2), "classes": "[]"}
            connection.execute(insert(INFERENCE_LAYOUT), content)
            connection.execute(delete(INFERENCE_LAYOUT).where(INFERENCE_LAYOUT.c.id == name))

    def label(self, prediction: str, reported: Any, read: ReadLabel, at: datetime) -> bool:
        """Store the label of a prediction; returns whether it is new. `read` converts it to JSON, given the version's classes.

        Raises PredictionNotFound, whatever `read` raises, and LabelConflict if the prediction already has another label.
        """
        classes = self._classes(prediction)
        truth = read(reported, classes)
        try:
            self._insert_label({"inference": prediction, "truth": truth, "at": at})
        except IntegrityError:
            self._require_equal(prediction, truth, classes)
            return False
        return True

    def _insert_label(self, row: Mapping[str, Any]) -> None:
        """Again if it met the deletion of old predictions in a deadlock, which MySQL ends at the cost of either."""
        for attempt in range(LABEL_ATTEMPTS):
            try:
                with writing(self._engine) as connection:
                    connection.execute(insert(LABEL), row)
                return
            except ServiceUnavailable as error:
                if attempt == LABEL_ATTEMPTS - 1 or not is_deadlock(error):
                    raise

    def _ensure(self, layout: Layout) -> None:
        if layout.id in self._known:
            return
        try:
            with writing(self._engine) as connection:
                names = {"columns": json.dumps(layout.columns), "classes": json.dumps(layout.classes)}
                connection.execute(insert(INFERENCE_LAYOUT), {"id": layout.id, **names})
        except IntegrityError:  # it exists already, with the same content: its id is the hash of that
            pass
        self._known.add(layout.id)

    def _classes(self, prediction: str) -> list[str]:
        found = select(INFERENCE_LAYOUT.c.classes).join(INFERENCE).where(INFERENCE.c.id == prediction)
        with self._engine.connect() as connection:
            classes = connection.scalar(found)
        if classes is None:
            raise _not_found(prediction)
        return list(json.loads(classes))

    def _require_equal(self, prediction: str, truth: str, classes: Sequence[str]) -> None:
        with self._engine.connect() as connection:
            present = connection.scalar(select(LABEL.c.truth).where(LABEL.c.inference == prediction))
        if present is None:  # the prediction was deleted meanwhile, after its retention
            raise _not_found(prediction)
        if present != truth:
            labels = f"{_named(present, classes)}, not {_named(truth, classes)}"
            problem = f"The prediction '{prediction}' already has the label {labels}"
            raise LabelConflict(problem, "A label can be set only once")

    def _present(self, ids: Sequence[str]) -> set[str]:
        with self._engine.connect() as connection:
            return set(connection.scalars(select(INFERENCE.c.id).where(INFERENCE.c.id.in_(ids))))

    # Reading

    def holds(self, prediction: str) -> bool:
        """Whether the log contains a prediction."""
        return bool(self._present([prediction]))

    def total(self) -> int:
        """Number of predictions in the log, of all models."""
        with self._engine.connect() as connection:
            return int(connection.scalar(select(func.count()).select_from(INFERENCE)) or 0)

    def oldest(self, most: int) -> list[Entries]:
        """The first `most` predictions in insertion order, of all models, as `write` takes them."""
        joined = select(INFERENCE, INFERENCE_LAYOUT.c.columns, INFERENCE_LAYOUT.c.classes).join(INFERENCE_LAYOUT)
        with self._engine.connect() as connection:
            found = connection.execute(joined.order_by(INFERENCE.c.sequence).limit(most)).mappings().all()
            places = input_places.of(connection, {row["input_sha256"] for row in found})
        alike = groupby(found, key=lambda row: (row["model"], row["version"], row["layout"]))
        return [_entries(list(rows), places) for _, rows in alike]

    def count(self, model: str, version: int) -> int:
        """Number of predictions of a version in the log; takes seconds for tens of millions."""
        counting = select(func.count()).where(INFERENCE.c.model == model, INFERENCE.c.version == version)
        with self._engine.connect() as connection:
            return int(connection.scalar(counting) or 0)

    def newest(self, model: str, version: int) -> int:
        """Sequence number of a version's latest prediction; 0 if there is none."""
        found = select(func.max(INFERENCE.c.sequence)).where(INFERENCE.c.model == model, INFERENCE.c.version == version)
        with self._engine.connect() as connection:
            return int(connection.scalar(found) or 0)

    def count_after(self, model: str, version: int, sequence: int) -> int:
        """Number of predictions of a version after a sequence number."""
        its = (INFERENCE.c.model == model, INFERENCE.c.version == version, INFERENCE.c.sequence > sequence)
        with self._engine.connect() as connection:
            return int(connection.scalar(select(func.count()).where(*its)) or 0)

    def first(self) -> datetime | None:
        """Time of the first prediction in insertion order, of all models; None if there is none."""
        with self._engine.connect() as connection:
            return connection.scalar(select(INFERENCE.c.at).order_by(INFERENCE.c.sequence).limit(1))

    def last(self) -> datetime | None:
        """Time of the last prediction in insertion order, of all models; None if there is none."""
        with self._engine.connect() as connection:
            return connection.scalar(select(INFERENCE.c.at).order_by(INFERENCE.c.sequence.desc()).limit(1))

    def payload_bytes(self) -> int:
        """Mean size of the features and the answer of the first predictions; 0 if there are none."""
        first = select(INFERENCE.c.features, INFERENCE.c.answer).order_by(INFERENCE.c.sequence).limit(100)
        with self._engine.connect() as connection:
            sizes = [len(row.features) + len(row.answer) for row in connection.execute(first)]
        return sum(sizes) // len(sizes) if sizes else 0

    def stretch(self, model: str, version: int, last: int, until: datetime | None = None) -> tuple[int, int] | None:
        """The sequence numbers of the first and last row of (about) `window`; None if it is empty. Fast in a log of any size:
        where `until` lies is found by bisection, because later rows have higher numbers, but for those of a spool."""
        its = select(INFERENCE.c.sequence).where(INFERENCE.c.model == model, INFERENCE.c.version == version)
        with self._engine.connect() as connection:
            if until is not None:
                its = its.where(INFERENCE.c.sequence <= _position(connection, until))
            newest = its.order_by(INFERENCE.c.sequence.desc())
            end = connection.scalar(newest.limit(1))
            if end is None:
                return None
            start = connection.scalar(newest.limit(1).offset(last - 1))
            return (start or 1, end)

    def unlabelled(self, model: str, version: int, last: int = 500) -> tuple[str, ...]:
        """Ids of those among a version's `last` predictions that have no label yet, oldest first."""
        window = self.window(model, version, last)
        return tuple(name for name, label in zip(window.ids, window.labels, strict=True) if label is None)

    def window(self, model: str, version: int, last: int = 500, until: datetime | None = None) -> Window:
        """The `last` predictions of a version, oldest first; fewer if there are fewer. With `until`, none made after it.

        Only predictions of the newest layout: a version has one layout, unless its use case was changed.
        """
        query = _select(INFERENCE.c.model == model, INFERENCE.c.version == version)
        return self._window((query if until is None else query.where(INFERENCE.c.at <= until)).limit(last))

    def layouts(self, model: str, version: int) -> tuple[Layout, ...]:
        """The layouts of a version's predictions, in the order of their first ones; one, unless its use case was changed."""
        its = (INFERENCE.c.model == model, INFERENCE.c.version == version)
        first = select(INFERENCE.c.layout).where(*its).group_by(INFERENCE.c.layout).order_by(func.min(INFERENCE.c.sequence))
        with self._engine.connect() as connection:
            return tuple(_read_layout(connection.execute(_layout(name)).one()) for name in connection.scalars(first).all())

    def pages(self, model: str, version: int, layout: Layout, size: int, after: int = 0) -> Iterator[Window]:
        """The predictions of a version with this layout after a sequence number, oldest first, at most `size` at a time."""
        its = (INFERENCE.c.model == model, INFERENCE.c.version == version, INFERENCE.c.layout == layout.id)
        while True:
            query = _select(*its, INFERENCE.c.sequence > after).order_by(None).order_by(INFERENCE.c.sequence)
            with self._engine.connect() as connection:
                rows = list(connection.execute(query.limit(size)).mappings())
            if not rows:
                return
            yield _read(layout, rows)
            after = rows[-1]["sequence"]

    def named(self, model: str, ids: Sequence[str]) -> Window:
        """The predictions of a model with these ids, oldest first; only those of the newest layout."""
        return self._window(_select(INFERENCE.c.model == model, INFERENCE.c.id.in_(ids)))

    def _window(self, query: Select) -> Window:
        """The window of the rows of `query`, which selects newest first."""
        with self._engine.connect() as connection:
            found = list(connection.execute(query).mappings())[::-1]
            layout = _read_layout(connection.execute(_layout(found[-1]["layout"])).one()) if found else Layout((), ())
        return _read(layout, [row for row in found if row["layout"] == layout.id])


def _read(layout: Layout, rows: Sequence[RowMapping]) -> Window:
    return Window(
        layout=layout,
        ids=tuple(row["id"] for row in rows),
        sequences=tuple(row["sequence"] for row in rows),
        at=tuple(row["at"] for row in rows),
        input_sha256=tuple(row["input_sha256"] for row in rows),
        features=_matrix([row["features"] for row in rows], len(layout.columns)),
        predictions=tuple(row["answer"] for row in rows),
        labels=tuple(row["truth"] for row in rows),
        latency_ms=np.array([row["latency_ms"] for row in rows], np.float64),
    )


def _not_found(prediction: str) -> PredictionNotFound:
    return PredictionNotFound(f"The log has no prediction '{prediction}'", "Use a prediction_id returned by /predict")


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
            "answer": group.predictions[i],
            "latency_ms": group.latency_ms[i],
        }
        for i in range(len(group.ids))
    ]


def _placed(group: Entries) -> list[tuple[str, Place]]:
    """The inputs of entries that are in a pack, with their places."""
    return [(name, place) for name, place in zip(group.input_sha256, group.places, strict=False) if place is not None]


def _entries(rows: Sequence[RowMapping], places: Mapping[str, Place]) -> Entries:
    """Rows of one model, version and layout, and the places of their inputs."""
    first = rows[0]
    layout = _read_layout((first["columns"], first["classes"]))
    return Entries(
        model=first["model"],
        version=first["version"],
        layout=layout,
        ids=[row["id"] for row in rows],
        at=[row["at"] for row in rows],
        input_sha256=[row["input_sha256"] for row in rows],
        features=_matrix([row["features"] for row in rows], len(layout.columns)),
        predictions=[row["answer"] for row in rows],
        latency_ms=[row["latency_ms"] for row in rows],
        places=[places.get(row["input_sha256"]) for row in rows] if places else (),
    )


def _select(*conditions: ColumnElement[bool]) -> Select:
    """Predictions with their labels, newest first."""
    joined = INFERENCE.outerjoin(LABEL, LABEL.c.inference == INFERENCE.c.id)
    found = select(INFERENCE, LABEL.c.truth).select_from(joined)
    return found.where(*conditions).order_by(INFERENCE.c.sequence.desc())


def _position(connection: Connection, until: datetime) -> int:
    """About the highest sequence number of the rows that were made until then."""
    first, last = (connection.scalar(select(end(INFERENCE.c.sequence))) for end in (func.min, func.max))
    low, high = (first or 1) - 1, last or 0
    following = select(INFERENCE.c.sequence, INFERENCE.c.at).order_by(INFERENCE.c.sequence).limit(1)
    while low < high:  # the answer is in [low, high]
        middle = (low + high + 1) // 2
        found = connection.execute(following.where(INFERENCE.c.sequence >= middle)).one()
        if found.at <= until:
            low = max(middle, int(found.sequence))
        else:
            high = middle - 1
    return low


def _layout(identity: str) -> Select:
    return select(INFERENCE_LAYOUT.c.columns, INFERENCE_LAYOUT.c.classes).where(INFERENCE_LAYOUT.c.id == identity)


def _read_layout(row: Sequence[str]) -> Layout:
    return Layout(tuple(json.loads(row[0])), tuple(json.loads(row[1])))


def _matrix(rows: list[bytes], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(rows), STORED).reshape(len(rows), width).astype(np.float32)


def _named(truth: str, classes: Sequence[str]) -> str:
    """A label as JSON, a class index or boxes [x1, y1, x2, y2, class index], with the class names."""
    label = json.loads(truth)
    if isinstance(label, int):
        return repr(classes[label])
    boxes = ", ".join(f"{classes[int(kind)]!r} at {corners}" for *corners, kind in label)
    return f"[{boxes[:200]}]"
