"""Dynamic batching: requests that wait while the model is busy go through it together, and into the log together.

One thread runs the model; another commits (`commit`); the event loop never waits for either. An idle server answers at once:
only when others are being answered does a batch that is not full wait for more.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from openmlops.serving.commit import Answered, GroupCommit
from openmlops.serving.config import Limits
from openmlops.serving.metrics import Metrics
from openmlops.serving.predictor import Predictor
from openmlops.serving.problems import unavailable
from openmlops.usecases.base import Outputs


@dataclass(frozen=True)
class Prediction:
    """What one request gets back for its n images, all from one version."""

    predictor: Predictor
    ids: Sequence[str]
    outputs: Outputs


@dataclass(frozen=True)
class Job:
    """One request's images, uint8 (n, height, width, 3), and what was sent (see `Answered.inputs`)."""

    images: np.ndarray
    inputs: Sequence[bytes | np.ndarray]
    arrived: float
    """time.perf_counter() when the request came"""
    result: asyncio.Future[Prediction]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Batcher:
    """The path of every prediction: queue, model, log. `current` says which version answers the next batch."""

    def __init__(self, current: Callable[[], Predictor | None], commit: GroupCommit, limits: Limits, metrics: Metrics) -> None:
        self._current = current
        self._commit = commit
        self._limits = limits
        self._metrics = metrics
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._committing: set[asyncio.Task[None]] = set()

    async def predict(self, images: np.ndarray, inputs: Sequence[bytes | np.ndarray], arrived: float) -> Prediction:
        """Answer one request; returns after its entries are committed. Raises a 503 when that cannot be in time."""
        job = Job(images, inputs, arrived, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        try:
            return await asyncio.wait_for(job.result, self._limits.log_seconds)
        except TimeoutError:
            raise unavailable(f"The answer could not be logged within {self._limits.log_seconds:g} s") from None

    async def run(self) -> None:
        """Form batches until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not (jobs := await self._gather()):
                continue
            try:
                answered = await loop.run_in_executor(self._thread, self._answer, jobs)
            except Exception as error:  # noqa: BLE001 - becomes the failure of every request in the batch
                _fail(jobs, error)
            else:
                self._keep(asyncio.create_task(self._finish(jobs, answered)))

    async def stop(self) -> None:
        """Wait for what is being committed, then end the model's thread."""
        await asyncio.gather(*self._committing)
        self._thread.shutdown()

    async def _gather(self) -> list[Job]:
        """The next jobs that somebody still waits for: no more than fill a batch, unless one alone does."""
        jobs = [await self._queue.get()]
        room = self._limits.batch - len(jobs[0].images)
        if self._committing and room > 0 and self._queue.empty():
            await asyncio.sleep(self._limits.wait_seconds)
        while room > 0 and not self._queue.empty():
            jobs.append(self._queue.get_nowait())
            room -= len(jobs[-1].images)
        return [job for job in jobs if not job.result.done()]

    def _answer(self, jobs: Sequence[Job]) -> Answered:
        predictor = self._current()
        if predictor is None:
            raise unavailable("No version is in service yet")
        answers = predictor.answer(np.concatenate([job.images for job in jobs]))
        now = time.perf_counter()
        return Answered(
            predictor=predictor,
            answers=answers,
            inputs=[sent for job in jobs for sent in job.inputs],
            ids=[new_id(job.at) for job in jobs for _ in job.inputs],
            at=[job.at for job in jobs for _ in job.inputs],
            latency_ms=[1000 * (now - job.arrived) for job in jobs for _ in job.inputs],
        )

    async def _finish(self, jobs: Sequence[Job], answered: Answered) -> None:
        try:
            await asyncio.wrap_future(self._commit.submit(answered))
        except Exception as error:  # noqa: BLE001 - becomes the failure of every request in the batch
            _fail(jobs, error)
            return
        self._metrics.batch.observe(len(answered.ids))
        self._metrics.predictions.labels(answered.predictor.version).inc(len(answered.ids))
        start = 0
        for job in jobs:
            rows = slice(start, start + len(job.images))
            start = rows.stop
            if not job.result.done():
                job.result.set_result(Prediction(answered.predictor, answered.ids[rows], _part(answered.answers.outputs, rows)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Hold a reference until it is done: the event loop holds none."""
        self._committing.add(task)
        task.add_done_callback(self._committing.discard)


def new_id(at: datetime) -> str:
    """A UUID of version 7: its first 48 bits are the time, so that the index of the log grows at its end."""
    milliseconds = int(at.timestamp() * 1000)
    return str(UUID(int=(milliseconds << 80 | 7 << 76 | secrets.randbits(76)) & ~(3 << 62) | 2 << 62))


def _part(outputs: Outputs, rows: slice) -> Outputs:
    return Outputs(outputs.logits[rows], outputs.probabilities[rows], outputs.embedding[rows])


def _fail(jobs: Sequence[Job], error: Exception) -> None:
    for job in jobs:
        if not job.result.done():
            job.result.set_exception(error)
