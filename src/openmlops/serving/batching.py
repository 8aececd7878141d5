"""Dynamic batching: requests that arrive while the model is busy are batched for inference and for the log.

One thread runs the model, another commits (`commit`); the event loop blocks on neither and wakes once per batch. An idle server
processes a request immediately: a partial batch waits for more only while other requests wait for their commit.
"""

import asyncio
import queue
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from uuid import UUID

import numpy as np
from starlette.requests import ClientDisconnect

from openmlops.serving.commit import LOG, GroupCommit, PredictionBatch
from openmlops.serving.config import Limits
from openmlops.serving.metrics import Metrics
from openmlops.serving.predictor import Predictor
from openmlops.serving.problems import unavailable
from openmlops.usecases.base import ModelInput, Outputs
from openmlops.web.conditions import Conditions, thread

IsGone = Callable[[], Awaitable[bool]]
"""whether the client has closed its connection"""


async def _is_there() -> bool:
    return False


@dataclass(frozen=True)
class Prediction:
    """The result of one request with n images, all predicted by the same version."""

    predictor: Predictor
    ids: Sequence[str]
    outputs: Outputs


@dataclass(frozen=True)
class Job:
    """One queued request: its images as model input, and the inputs as sent (see `PredictionBatch.inputs`)."""

    model_input: ModelInput
    inputs: Sequence[bytes | np.ndarray]
    arrived: float
    """time.perf_counter() at the arrival of the request"""
    result: asyncio.Future[Prediction]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Batcher:
    """The path of every prediction: queue, model, log. `current` returns the version that serves the next batch."""

    def __init__(
        self,
        current: Callable[[], Predictor | None],
        commit: GroupCommit,
        limits: Limits,
        metrics: Metrics,
        conditions: Conditions,
    ) -> None:
        self._current = current
        self._commit = commit
        self._limits = limits
        self._metrics = metrics
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._conditions = conditions
        self._thread = thread("model", self._next, conditions)
        self._loop = asyncio.get_running_loop()
        self._waiting = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Process the queued requests, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    async def predict(
        self, model_input: ModelInput, inputs: Sequence[bytes | np.ndarray], arrived: float, is_gone: IsGone = _is_there
    ) -> Prediction:
        """Predict one request; returns after its log entries are committed. Raises HTTPException 503 after `log_seconds`, and
        ClientDisconnect if the client is gone by then: nothing that is not answered stays in the log."""
        job = Job(model_input, inputs, arrived, self._loop.create_future())
        self._queue.put(job)
        self._waiting += 1
        late = self._loop.call_later(self._limits.log_seconds, self._give_up, job)
        try:
            prediction = await job.result
        finally:
            self._waiting -= 1
            late.cancel()
        if await is_gone():
            self._commit.withdraw(prediction.ids)
            raise ClientDisconnect
        return prediction

    def _give_up(self, job: Job) -> None:
        problem = f"The prediction could not be logged within {self._limits.log_seconds:g} s"
        if self._commit.is_stuck(self._limits.log_seconds / 2):
            self._conditions.report(LOG, problem)
        _fail([job], unavailable(problem))

    # In the model's thread

    def _next(self) -> bool:
        if (first := self._queue.get()) is None:
            return False
        jobs, ended = self._gather(first)
        if jobs:
            self._process(jobs)
        return not ended

    def _gather(self, first: Job) -> tuple[list[Job], bool]:
        """The next jobs whose clients still wait, up to a full batch (a single job may exceed it)."""
        jobs, room = [first], self._limits.batch - len(first.model_input)
        if self._waiting > 1 and room > 0 and self._queue.empty():
            time.sleep(self._limits.wait_seconds)
        while room > 0 and not self._queue.empty():
            if (job := self._queue.get()) is None:
                return _awaited(jobs), True
            jobs.append(job)
            room -= len(job.model_input)
        return _awaited(jobs), False

    def _process(self, jobs: Sequence[Job]) -> None:
        if (predictor := self._current()) is None:
            self._loop.call_soon_threadsafe(_fail, jobs, unavailable("No version is in service yet"))
            return
        prepared = [(job, model_input) for job in jobs if (model_input := self._prepared(predictor, job)) is not None]
        if not prepared:
            return
        jobs = [job for job, _ in prepared]
        try:
            batch = self._predict(predictor, jobs, ModelInput.joined([model_input for _, model_input in prepared]))
        except Exception as error:  # noqa: BLE001 - becomes the failure of the request that causes it
            if len(jobs) > 1:
                for job in jobs:
                    self._process([job])
            else:
                self._loop.call_soon_threadsafe(_fail, jobs, error)
            return
        self._commit.submit(batch).add_done_callback(partial(self._committed, jobs, batch))

    def _prepared(self, predictor: Predictor, job: Job) -> ModelInput | None:
        """The job's model input for this version; None if it cannot be prepared, which fails only this job."""
        try:
            return predictor.adapt(job.model_input, job.inputs)
        except Exception as error:  # noqa: BLE001 - becomes the failure of the request
            self._loop.call_soon_threadsafe(_fail, [job], error)
            return None

    def _predict(self, predictor: Predictor, jobs: Sequence[Job], model_input: ModelInput) -> PredictionBatch:
        predictions = predictor.predict(model_input)
        now = time.perf_counter()
        ids = [[new_id(job.at) for _ in job.inputs] for job in jobs]
        return PredictionBatch(
            predictor=predictor,
            predictions=predictions,
            inputs=[sent for job in jobs for sent in job.inputs],
            ids=list(chain(*ids)),
            at=[job.at for job in jobs for _ in job.inputs],
            latency_ms=[1000 * (now - job.arrived) for job in jobs for _ in job.inputs],
            awaited=lambda: frozenset(chain(*(names for job, names in zip(jobs, ids, strict=True) if not job.result.done()))),
        )

    # In the committing thread, then in the event loop

    def _committed(self, jobs: Sequence[Job], batch: PredictionBatch, done: Future[frozenset[str]]) -> None:
        self._loop.call_soon_threadsafe(self._deliver, jobs, batch, done)

    def _deliver(self, jobs: Sequence[Job], batch: PredictionBatch, done: Future[frozenset[str]]) -> None:
        if error := done.exception():
            _fail(jobs, error)
            return
        logged, start = done.result(), 0
        self._metrics.batch.observe(len(batch.ids))
        for job in jobs:
            rows = slice(start, start + len(job.model_input))
            start, ids = rows.stop, batch.ids[rows]
            if not job.result.done():
                self._metrics.predictions.labels(batch.predictor.version).inc(len(ids))
                job.result.set_result(Prediction(batch.predictor, ids, batch.predictions.outputs.part(rows)))
            elif ids[0] in logged:  # its client was refused while the transaction was under way
                self._commit.withdraw(ids)


def new_id(at: datetime) -> str:
    """A UUID version 7: its first 48 bits are the time, so that new entries append to the end of the log's index."""
    milliseconds = int(at.timestamp() * 1000)
    return str(UUID(int=(milliseconds << 80 | 7 << 76 | secrets.randbits(76)) & ~(3 << 62) | 2 << 62))


def _awaited(jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if not job.result.done()]


def _fail(jobs: Sequence[Job], error: BaseException) -> None:
    for job in jobs:
        if not job.result.done():
            job.result.set_exception(error)
