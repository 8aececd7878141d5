"""Group commit: one thread writes all batches that arrived during the previous write in one transaction.

Guarantees that a future completes only after its entries are committed and its inputs are stored. Not here: the tables
(`adapters.inference_log`), the files (`adapters.input_store`), and database outages (`spool`).
"""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

import numpy as np
from prometheus_client import Histogram

from openmlops.adapters.inference_log import Entries, InferenceLog
from openmlops.adapters.input_store import InputStore, sha256_of
from openmlops.core.images.decoding import png
from openmlops.serving.predictor import Predictions, Predictor

GROUP = 64
"""most batches per transaction"""

Begin = Callable[[Sequence[Entries]], Callable[[], None]]
"""Starts committing entries in another thread; the returned function waits for the commit, and raises its error."""


@dataclass(frozen=True)
class PredictionBatch:
    """n predictions to be logged. `inputs` are the images as sent: bytes of a file, or pixels uint8 (h, w, 3)."""

    predictor: Predictor
    predictions: Predictions
    inputs: Sequence[bytes | np.ndarray]
    ids: Sequence[str]
    at: Sequence[datetime]
    latency_ms: Sequence[float]
    committed: Future[None] = field(default_factory=Future)


class GroupCommit:
    """The writer thread of one process. Start it first and stop it last: submitted batches are written before it ends."""

    def __init__(self, begin: Begin, inputs: InputStore, seconds: Histogram) -> None:
        self._begin = begin
        self._inputs = inputs
        self._seconds = seconds
        self._queue: queue.SimpleQueue[PredictionBatch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write the submitted batches and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, batch: PredictionBatch) -> Future[None]:
        """Queue a batch; the future completes when its entries are committed, or fails with the error."""
        self._queue.put(batch)
        return batch.committed

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, ended = self._gather(first)
            self._commit([batch for batch in group if batch.committed.set_running_or_notify_cancel()])
            if ended:
                return

    def _gather(self, first: PredictionBatch) -> tuple[list[PredictionBatch], bool]:
        group = [first]
        while len(group) < GROUP and not self._queue.empty():
            if (following := self._queue.get()) is None:
                return group, True
            group.append(following)
        return group, False

    def _commit(self, group: list[PredictionBatch]) -> None:
        try:
            with self._seconds.time():
                self._keep_and_write(group)
        except Exception as error:  # noqa: BLE001 - becomes the failure of every request in the group
            for batch in group:
                batch.committed.set_exception(error)
        else:
            for batch in group:
                batch.committed.set_result(None)

    def _keep_and_write(self, group: list[PredictionBatch]) -> None:
        """Write the input files while the database commits."""
        files = [[sent if isinstance(sent, bytes) else png(sent) for sent in batch.inputs] for batch in group]
        names = [[sha256_of(content) for content in contents] for contents in files]
        committed = self._begin([_entries(batch, hashes) for batch, hashes in zip(group, names, strict=True)])
        self._keep(chain(*files), chain(*names))
        committed()

    def _keep(self, files: Iterable[bytes], names: Iterable[str]) -> None:
        for content, sha256 in zip(files, names, strict=True):
            self._inputs.put(content, sha256)


def begin_in_thread(log: InferenceLog) -> Begin:
    """A `Begin` that commits to `log` in its own thread."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="log")
    return lambda entries: thread.submit(log.write, entries).result


def _entries(batch: PredictionBatch, hashes: Sequence[str]) -> Entries:
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
    )
