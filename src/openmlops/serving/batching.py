"""Dynamic batching: requests that arrive while the model is busy are batched for inference and for the log.

One thread runs the model, another commits (`commit`); the event loop blocks on neither and wakes once per batch. An idle server
processes a request immediately: a partial batch waits for more only while other requests wait for their commit. A request that
is more than a batch takes several turns of the model, between which the others have theirs.
"""

import asyncio
import queue
import secrets
import time
from collections import deque
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
from openmlops.serving.predictor import Predictions, Predictor
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


@dataclass
class LargeJob:
    """A job that takes several turns: the version that predicts all of it, its images for that version, and what is done."""

    job: Job
    predictor: Predictor
    model_input: ModelInput
    parts: list[Predictions] = field(default_factory=list)
    done: int = 0

    def step(self, images: int) -> bool:
        """Predict the next `images`. Returns whether all are done."""
        self.parts.append(self.predictor.predict(self.model_input.part(slice(self.done, self.done + images))))
        self.done += images
        return self.done >= len(self.model_input)


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
        self._large: deque[Job | LargeJob] = deque()
        self._is_ending = False
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
        """Predict one request; returns after its log entries are committed. Raises HTTPException 503 if that takes too
        long, and ClientDisconnect if the client is gone by then: nothing that is not answered stays in the log."""
        job = Job(model_input, inputs, arrived, self._loop.create_future())
        self._queue.put(job)
        self._waiting += 1
        seconds = self._limits.patience(*model_input.pixels.shape[:3])
        late = self._loop.call_later(seconds, self._give_up, job, seconds)
        try:
            prediction = await job.result
        finally:
            self._waiting -= 1
            late.cancel()
        if await is_gone():
            self._commit.withdraw(prediction.ids)
            raise ClientDisconnect
        return prediction

    def _give_up(self, job: Job, seconds: float) -> None:
        problem = f"The prediction could not be made and logged within {seconds:g} s"
        if self._commit.is_stuck(self._limits.log_seconds / 2):
            self._conditions.report(LOG, problem)
        _fail([job], unavailable(problem))

    def _share(self, job: Job) -> float:
        """How much of a batch it is."""
        return len(job.model_input) / self._at_once(job)

    def _at_once(self, job: Job) -> int:
        return self._limits.at_once(*job.model_input.pixels.shape[1:3])

    # In the model's thread

    def _next(self) -> bool:
        if jobs := self._gather():
            self._process(jobs)
        if self._large:
            self._advance(self._large.popleft())
        return bool(self._large) or not self._is_ending

    def _gather(self) -> list[Job]:
        """The next jobs whose clients still wait, up to a full batch; waits for one unless a large one is under way. Large ones
        are put aside."""
        jobs: list[Job] = []
        room = 1.0
        while room > 0 and not self._is_ending:
            try:
                job = self._queue.get(block=not jobs and not self._large)
            except queue.Empty:
                break
            if job is None:
                self._is_ending = True
            elif self._share(job) > 1:
                self._large.append(job)
            else:
                jobs.append(job)
                room -= self._share(job)
                if len(jobs) == 1 and self._waiting > 1 and room > 0 and self._queue.empty():
                    time.sleep(self._limits.wait_seconds)
        return _awaited(jobs)

    def _advance(self, large: Job | LargeJob) -> None:
        """Give a large job its turn; afterwards it is the last of them, or done."""
        job = large if isinstance(large, Job) else large.job
        if job.result.done():  # refused, or its client is gone
            return
        try:
            under_way = self._begun(large) if isinstance(large, Job) else large
            if under_way is None:
                return
            if under_way.step(self._at_once(job)):
                self._submit([job], self._batch(under_way.predictor, [job], Predictions.joined(under_way.parts)))
            else:
                self._large.append(under_way)
        except Exception as error:  # noqa: BLE001 - becomes the failure of the request that causes it
            self._loop.call_soon_threadsafe(_fail, [job], error)

    def _begun(self, job: Job) -> LargeJob | None:
        """The job with the version that will predict it; None if it failed."""
        if (predictor := self._current()) is None:
            self._loop.call_soon_threadsafe(_fail, [job], _no_version())
            return None
        model_input = self._prepared(predictor, job)
        return None if model_input is None else LargeJob(job, predictor, model_input)

    def _process(self, jobs: Sequence[Job]) -> None:
        if (predictor := self._current()) is None:
            self._loop.call_soon_threadsafe(_fail, jobs, _no_version())
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
        self._submit(jobs, batch)

    def _submit(self, jobs: Sequence[Job], batch: PredictionBatch) -> None:
        self._commit.submit(batch).add_done_callback(partial(self._committed, jobs, batch))

    def _prepared(self, predictor: Predictor, job: Job) -> ModelInput | None:
        """The job's model input for this version; None if it cannot be prepared, which fails only this job."""
        try:
            return predictor.adapt(job.model_input, job.inputs)
        except Exception as error:  # noqa: BLE001 - becomes the failure of the request
            self._loop.call_soon_threadsafe(_fail, [job], error)
            return None

    def _predict(self, predictor: Predictor, jobs: Sequence[Job], model_input: ModelInput) -> PredictionBatch:
        return self._batch(predictor, jobs, predictor.predict(model_input))

    def _batch(self, predictor: Predictor, jobs: Sequence[Job], predictions: Predictions) -> PredictionBatch:
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


def _no_version() -> Exception:
    return unavailable("No version is in service yet")


def _awaited(jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if not job.result.done()]


def _fail(jobs: Sequence[Job], error: BaseException) -> None:
    for job in jobs:
        if not job.result.done():
            job.result.set_exception(error)
