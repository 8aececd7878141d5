"""Group commit: one thread that writes to the log whatever has gathered while it was writing, a transaction a group.

What is here: the thread, and the promise that a future is done only after its entries are committed. What is not: the tables
(`adapters.inference_log`).
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from prometheus_client import Histogram

from openmlops.adapters.inference_log import Entries, InferenceLog
from openmlops.adapters.input_store import InputStore
from openmlops.serving.predictor import Answers, Predictor, encode_png

GROUP = 64
"""most batches of one transaction"""


@dataclass(frozen=True)
class Answered:
    """n answered images on their way into the log. `inputs` holds what was sent: bytes of a file, or pixels."""

    predictor: Predictor
    answers: Answers
    inputs: Sequence[bytes | np.ndarray]
    ids: Sequence[str]
    at: Sequence[datetime]
    latency_ms: Sequence[float]
    committed: Future[None] = field(default_factory=Future)


class GroupCommit:
    """The writer thread of one process. Start it once, stop it last: what was submitted before is written."""

    def __init__(self, log: InferenceLog, inputs: InputStore, seconds: Histogram) -> None:
        self._log = log
        self._inputs = inputs
        self._seconds = seconds
        self._queue: queue.SimpleQueue[Answered | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, answered: Answered) -> Future[None]:
        """Hand over; the future is done when the entries are committed, or holds why they are not."""
        self._queue.put(answered)
        return answered.committed

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, ended = self._gather(first)
            self._commit([answered for answered in group if answered.committed.set_running_or_notify_cancel()])
            if ended:
                return

    def _gather(self, first: Answered) -> tuple[list[Answered], bool]:
        group = [first]
        while len(group) < GROUP and not self._queue.empty():
            if (following := self._queue.get()) is None:
                return group, True
            group.append(following)
        return group, False

    def _commit(self, group: list[Answered]) -> None:
        try:
            with self._seconds.time():
                self._log.write([self._entries(answered) for answered in group])
        except Exception as error:  # noqa: BLE001 - becomes the failure of every request in the group
            for answered in group:
                answered.committed.set_exception(error)
        else:
            for answered in group:
                answered.committed.set_result(None)

    def _entries(self, answered: Answered) -> Entries:
        files = [sent if isinstance(sent, bytes) else encode_png(sent) for sent in answered.inputs]
        return Entries(
            model=answered.predictor.name,
            version=answered.predictor.version,
            layout=answered.predictor.layout,
            ids=answered.ids,
            at=answered.at,
            input_sha256=[self._inputs.put(file) for file in files],
            features=answered.answers.features,
            probabilities=answered.answers.outputs.probabilities,
            latency_ms=answered.latency_ms,
        )
