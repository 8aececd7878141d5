"""Group commit: predictions are logged in groups, one transaction each, after their inputs are stored.

Two threads in a row: one stores the inputs of each batch, the other commits all batches that arrived during its previous
commit. So nothing is logged whose input could not be stored. Inputs that go to the object store are stored for all batches
that wait, in one object. What nobody waits for any more is not logged; what was being committed when its client gave up is
withdrawn from the log. Not here: the tables (`adapters.inference_log`), the images (`adapters.input_store`, `packed_inputs`),
and database outages (`spool`).
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from typing import Protocol

import numpy as np
from prometheus_client import Histogram

from openmlops.adapters.inference_log import Entries
from openmlops.adapters.input_places import Place
from openmlops.adapters.input_store import sha256_of
from openmlops.core.images.decoding import png
from openmlops.errors import ServiceUnavailable
from openmlops.serving.predictor import Predictions, Predictor
from openmlops.web.conditions import Conditions, thread

GROUP = 64
"""most batches per transaction"""
WITHDRAW_SECONDS = 1.0
"""seconds until entries that could not be withdrawn are tried again"""
INPUTS, LOG = "inputs", "inference log"
"""parts without which no prediction is accepted"""


class Inputs(Protocol):
    """Where the images go: `InputStore`, or `PackedInputs`."""

    @property
    def groups(self) -> bool:
        """Whether the inputs of several batches are better stored at once."""

    def put_all(self, contents: Sequence[bytes], names: Sequence[str]) -> list[Place | None]:
        """Store inputs under their SHA-256; the places that are to be logged with them. Raises ServiceUnavailable."""


class Log(Protocol):
    """What entries are written to: `InferenceLog`, or `SpooledLog`."""

    def write(self, groups: Sequence[Entries]) -> None:
        """Commit all entries, or none. Raises ServiceUnavailable."""

    def withdraw(self, ids: Sequence[str]) -> None:
        """Delete entries whose clients got no answer. Raises ServiceUnavailable."""


@dataclass(frozen=True)
class PredictionBatch:
    """n predictions to be logged. `inputs` are the images as sent: bytes of a file, or pixels uint8 (h, w, 3)."""

    predictor: Predictor
    predictions: Predictions
    inputs: Sequence[bytes | np.ndarray]
    ids: Sequence[str]
    at: Sequence[datetime]
    latency_ms: Sequence[float]
    awaited: Callable[[], frozenset[str]]
    """the ids of those whose clients still wait"""
    committed: Future[frozenset[str]] = field(default_factory=Future)
    """the ids that were logged, those awaited when the transaction began"""


Stored = tuple[PredictionBatch, Entries]


class GroupCommit:
    """The writer threads of one process. Start them first and stop them last: submitted batches are written before they end."""

    def __init__(self, log: Log, inputs: Inputs, seconds: Histogram, conditions: Conditions) -> None:
        self._log = log
        self._inputs = inputs
        self._seconds = seconds
        self._conditions = conditions
        self._submitted: queue.SimpleQueue[PredictionBatch | None] = queue.SimpleQueue()
        self._stored: queue.SimpleQueue[Stored | None] = queue.SimpleQueue()
        self._withdrawn: set[str] = set()
        self._withdraw_at = 0.0
        self._writing_since: float | None = None
        self._alone = threading.Lock()
        self._threads = (
            thread("inputs writer", self._store_next, conditions),
            thread("log writer", self._write_next, conditions),
        )

    def start(self) -> None:
        """Start the threads."""
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Write the submitted batches and end the threads."""
        self._submitted.put(None)
        for each in self._threads:
            each.join()

    def submit(self, batch: PredictionBatch) -> Future[frozenset[str]]:
        """Queue a batch; the future completes when its entries are committed, or fails with the error."""
        self._submitted.put(batch)
        return batch.committed

    def withdraw(self, ids: Sequence[str]) -> None:
        """Delete entries whose clients got no answer, as soon as the log accepts that."""
        with self._alone:
            self._withdrawn.update(ids)

    def is_stuck(self, seconds: float) -> bool:
        """Whether the log has not accepted entries for so many seconds."""
        since = self._writing_since
        return since is not None and time.monotonic() - since >= seconds

    # In the first thread

    def _store_next(self) -> bool:
        if (batch := self._submitted.get()) is None:
            self._stored.put(None)
            return False
        batches, ended = [batch], False
        while self._inputs.groups and len(batches) < GROUP and not ended and not self._submitted.empty():
            following = self._submitted.get()
            batches, ended = ([*batches, following], False) if following else (batches, True)
        try:
            for stored in self._stored_entries(batches):
                self._stored.put(stored)
        except Exception as error:  # noqa: BLE001 - becomes the failure of every request in the batches
            for each in batches:
                each.committed.set_exception(error)
            if isinstance(error, ServiceUnavailable):
                self._conditions.report(INPUTS, str(error))
        else:
            self._conditions.clear(INPUTS)
        if ended:
            self._stored.put(None)
        return not ended

    def _stored_entries(self, batches: Sequence[PredictionBatch]) -> list[Stored]:
        files = [[sent if isinstance(sent, bytes) else png(sent) for sent in batch.inputs] for batch in batches]
        names = [[sha256_of(content) for content in each] for each in files]
        places = iter(self._inputs.put_all([*chain(*files)], [*chain(*names)]))
        return [(batch, _entries(batch, its, [*islice(places, len(its))])) for batch, its in zip(batches, names, strict=True)]

    # In the second thread

    def _write_next(self) -> bool:
        try:
            first = self._stored.get(timeout=WITHDRAW_SECONDS)
        except queue.Empty:
            self._withdraw()
            return True
        group, ended = self._gather(first)
        if group:
            self._commit(group)
        self._withdraw()
        return not ended

    def _gather(self, first: Stored | None) -> tuple[list[Stored], bool]:
        group: list[Stored] = []
        following = first
        while following is not None:
            group.append(following)
            if len(group) == GROUP or self._stored.empty():
                return group, False
            following = self._stored.get()
        return group, True

    def _commit(self, group: list[Stored]) -> None:
        kept = [(batch, entries, batch.awaited()) for batch, entries in group]
        groups = [part for _, entries, ids in kept if (part := entries.without(frozenset(entries.ids) - ids)).ids]
        try:
            self._write(groups)
        except Exception as error:  # noqa: BLE001 - becomes the failure of every request in the group
            self._refuse(group, error)
        else:
            self._conditions.clear(LOG)
            for batch, _, ids in kept:
                batch.committed.set_result(ids)

    def _write(self, groups: list[Entries]) -> None:
        if not groups:
            return
        self._writing_since = time.monotonic()
        try:
            with self._seconds.time():
                self._log.write(groups)
        finally:
            self._writing_since = None

    def _refuse(self, group: list[Stored], error: Exception) -> None:
        """Fail the requests of the group; what one batch did wrong fails that one only."""
        is_down = isinstance(error, ServiceUnavailable)
        if not is_down and len(group) > 1:
            for each in group:
                self._commit([each])
            return
        if is_down:
            self._conditions.report(LOG, str(error))
        for batch, _ in group:
            self.withdraw(batch.ids)
            batch.committed.set_exception(error)

    def _withdraw(self) -> None:
        with self._alone:
            ids = list(self._withdrawn)
        if not ids or time.monotonic() < self._withdraw_at:
            return
        try:
            self._log.withdraw(ids)
        except ServiceUnavailable:  # the next prediction reports it
            self._withdraw_at = time.monotonic() + WITHDRAW_SECONDS
            return
        with self._alone:
            self._withdrawn.difference_update(ids)


def _entries(batch: PredictionBatch, hashes: Sequence[str], places: Sequence[Place | None]) -> Entries:
    return Entries(
        model=batch.predictor.name,
        version=batch.predictor.version,
        layout=batch.predictor.layout,
        ids=batch.ids,
        at=batch.at,
        input_sha256=hashes,
        features=batch.predictions.features,
        predictions=batch.predictions.packed,
        latency_ms=batch.latency_ms,
        places=places if any(places) else (),
    )
