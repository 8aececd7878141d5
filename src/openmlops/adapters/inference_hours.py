"""Old predictions as totals of an hour: how many a version made, how many had a label, and how long they took.

What is here: turning rows of the inference log into totals, in batches of which each is one short transaction, and reading the
totals. What is not: which rows must stay (`operations.retention.predictions`), and the log itself (`inference_log`).

A batch counts and deletes its rows in the same transaction, under locks on these rows. So a killed process has done whole
batches, and a repeated one counts nothing twice.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, delete, func, insert, select, update

from openmlops.adapters.database import writing
from openmlops.adapters.schema import INFERENCE, INFERENCE_HOUR, LABEL, LABEL_DRAW, LABEL_USE

GROWTH = 1.25
"""upper bound / lower bound of a bucket of latencies: a percentile read from the totals is at most 12 % off"""
LEAST_MS = 0.01
CHUNK = 500
"""values per query, below the limit of every database"""


@dataclass(frozen=True)
class Hour:
    """The predictions of a version in the hour from `at` on. `latency` is bucket -> number (`latency_ms` of a bucket)."""

    version: int
    at: datetime
    n: int
    labelled: int
    latency: dict[int, int]


@dataclass(frozen=True)
class Passed:
    """One batch: sequence number of the last row that was looked at (None: there are no more old ones), the rows retired, the
    old rows that stay because of a label, and the oldest row that stays."""

    last: int | None
    retired: int
    labelled: int
    oldest: datetime | None


class InferenceHours:
    """Totals and log in the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def retire(
        self,
        before: datetime,
        after: int,
        most: int,
        stays: Callable[[Row], bool],
        is_stored: Callable[[str], bool],
        dry: bool = False,
    ) -> Passed:
        """Turn those of the next `most` rows after the sequence number `after` into totals that were made before `before`.

        A row stays if `stays` says so, by its sequence, id, model and version; or if it has a label that no data version has
        used, or whose input `is_stored`, by its SHA-256: such a label can still be trained on. With `dry` nothing is changed.
        """
        columns = (INFERENCE.c[name] for name in ("sequence", "id", "at", "model", "version"))
        looked = select(*columns).where(INFERENCE.c.sequence > after).order_by(INFERENCE.c.sequence).limit(most)
        with self._engine.connect() as connection:
            rows = connection.execute(looked).all()
        if not any(row.at < before for row in rows):
            return Passed(None, 0, 0, rows[0].at if rows else None)
        old = [row.sequence for row in rows if row.at < before and not stays(row)]
        retired, kept = self._dry(old, is_stored) if dry else self._retire(old, is_stored)
        gone = set(old) - kept
        oldest = next((row.at for row in rows if row.sequence not in gone), None)
        return Passed(rows[-1].sequence, retired, len(kept), oldest)

    def _dry(self, sequences: Sequence[int], is_stored: Callable[[str], bool]) -> tuple[int, set[int]]:
        with self._engine.connect() as connection:
            kept = _labelled_to_keep(_labels(connection, sequences), is_stored)
        return len(sequences) - len(kept), kept

    def _retire(self, sequences: Sequence[int], is_stored: Callable[[str], bool]) -> tuple[int, set[int]]:
        """Number of rows retired, and the rows that stay for their label. Raises IntegrityError if one got a label meanwhile,
        or another process counts the same hours: nothing has changed then."""
        if not sequences:
            return 0, set()
        with writing(self._engine) as connection:
            rows = _locked(connection, sequences)
            labels = _labels(connection, [row.sequence for row in rows])
            kept = _labelled_to_keep(labels, is_stored)
            gone = [row for row in rows if row.sequence not in kept]
            labelled = {row.inference for row in labels if row.sequence not in kept}
            for key, found in _by_hour(gone, labelled).items():
                _add(connection, *key, found)
            for table in (LABEL_USE, LABEL):
                _delete(connection, table.c.inference, labelled)
            _delete(connection, LABEL_DRAW.c.inference, [row.id for row in gone])
            _delete(connection, INFERENCE.c.sequence, [row.sequence for row in gone])
        return len(gone), kept

    def hours(self, model: str) -> tuple[Hour, ...]:
        """The totals of a model, oldest first."""
        found = select(INFERENCE_HOUR).where(INFERENCE_HOUR.c.model == model)
        with self._engine.connect() as connection:
            hours = map(_hour, connection.execute(found))
            return tuple(sorted(hours, key=lambda hour: (hour.at, hour.version)))

    def count(self, model: str, version: int) -> int:
        """Number of a version's predictions that are totals now."""
        counting = select(func.sum(INFERENCE_HOUR.c.n)).where(
            INFERENCE_HOUR.c.model == model, INFERENCE_HOUR.c.version == version
        )
        with self._engine.connect() as connection:
            return int(connection.scalar(counting) or 0)


def bucket(latency_ms: float) -> int:
    """The bucket of a latency."""
    return math.floor(math.log(max(latency_ms, LEAST_MS), GROWTH))


def latency_ms(bucket: int) -> float:
    """The latency in the middle of a bucket."""
    return float(GROWTH ** (bucket + 0.5))


def percentile(latency: Mapping[int, int], share: float) -> float:
    """The latency in milliseconds that this share of the predictions does not exceed; 0 if there are none."""
    rank, seen = share * sum(latency.values()), 0
    for each in sorted(latency):
        seen += latency[each]
        if seen >= rank:
            return latency_ms(each)
    return 0.0


@dataclass
class _Total:
    n: int
    labelled: int
    latency: Counter


def _locked(connection: Connection, sequences: Sequence[int]) -> list[Row]:
    """The rows that are still there, locked: whoever labels one now waits, and so does whoever deletes one."""
    columns = (INFERENCE.c[name] for name in ("sequence", "id", "at", "model", "version", "latency_ms"))
    found = select(*columns).order_by(INFERENCE.c.sequence).with_for_update()
    return [row for some in _chunks(sequences) for row in connection.execute(found.where(INFERENCE.c.sequence.in_(some)))]


def _labels(connection: Connection, sequences: Sequence[int]) -> list[Row]:
    used = LABEL.outerjoin(LABEL_USE, LABEL_USE.c.inference == LABEL.c.inference)
    joined = used.join(INFERENCE, INFERENCE.c.id == LABEL.c.inference)
    columns = (INFERENCE.c.sequence, INFERENCE.c.input_sha256, LABEL.c.inference, LABEL_USE.c.dataset)
    found: Select[Any] = select(*columns).select_from(joined)
    return [row for some in _chunks(sequences) for row in connection.execute(found.where(INFERENCE.c.sequence.in_(some)))]


def _labelled_to_keep(labels: Sequence[Row], is_stored: Callable[[str], bool]) -> set[int]:
    return {row.sequence for row in labels if row.dataset is None or is_stored(row.input_sha256)}


def _chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    rest = iter(values)
    while some := list(islice(rest, CHUNK)):
        yield some


def _by_hour(rows: Sequence[Row], labelled: Collection[str]) -> dict[tuple[str, int, datetime], _Total]:
    totals: dict[tuple[str, int, datetime], _Total] = {}
    for row in rows:
        key = (row.model, row.version, row.at.replace(minute=0, second=0, microsecond=0))
        total = totals.setdefault(key, _Total(0, 0, Counter()))
        total.n += 1
        total.labelled += row.id in labelled
        total.latency[bucket(row.latency_ms)] += 1
    return totals


def _add(connection: Connection, model: str, version: int, hour: datetime, found: _Total) -> None:
    its = (INFERENCE_HOUR.c.model == model, INFERENCE_HOUR.c.version == version, INFERENCE_HOUR.c.hour == hour)
    before = connection.execute(select(INFERENCE_HOUR).where(*its).with_for_update()).first()
    if before is None:
        key = {"model": model, "version": version, "hour": hour}
        connection.execute(insert(INFERENCE_HOUR), {**key, **_values(found)})
        return
    latency = found.latency + Counter(_hour(before).latency)
    total = _Total(before.n + found.n, before.labelled + found.labelled, latency)
    connection.execute(update(INFERENCE_HOUR).where(*its).values(_values(total)))


def _values(found: _Total) -> dict[str, Any]:
    return {"n": found.n, "labelled": found.labelled, "latency": json.dumps(found.latency)}


def _delete(connection: Connection, column: Any, values: Collection[Any]) -> None:
    for some in _chunks(values):
        connection.execute(delete(column.table).where(column.in_(some)))


def _hour(row: Row) -> Hour:
    latency = {int(each): n for each, n in json.loads(row.latency).items()}
    return Hour(row.version, row.hour, row.n, row.labelled, latency)
