"""Everything that one worker process needs to answer, made in `lifespan` and handed down; nothing is made at import."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request

from openmlops.adapters.database import connect
from openmlops.adapters.decisions import Decisions
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_store import InputStore
from openmlops.adapters.ledger import Ledger
from openmlops.serving.batching import Batcher
from openmlops.serving.commit import GroupCommit
from openmlops.serving.config import Retention, ServingConfig
from openmlops.serving.deployment import Deployment
from openmlops.serving.metrics import Metrics
from openmlops.serving.reading import ImageReader
from openmlops.usecases.base import UseCase, load_use_case

PRUNE_SECONDS = 60.0


@dataclass(frozen=True)
class Services:
    """The parts of a running worker."""

    config: ServingConfig
    metrics: Metrics
    deployment: Deployment
    batcher: Batcher
    reader: ImageReader
    log: InferenceLog
    decisions: Decisions
    use_case: UseCase


def services(request: Request) -> Services:
    """Those of the worker that got the request."""
    found: Services = request.app.state.services
    return found


@asynccontextmanager
async def running(config: ServingConfig, metrics: Metrics) -> AsyncIterator[Services]:
    """Start everything, the champion in service if there is one; at the end, write what is left in the log."""
    engine = connect(config.database_url.get_secret_value())
    use_case = load_use_case(config.use_case)
    log, inputs = InferenceLog(engine), InputStore(config.inputs)
    deployment = Deployment(config, Ledger(engine), use_case, metrics)
    commit = GroupCommit(log, inputs, metrics.commit)
    batcher = Batcher(lambda: deployment.current, commit, config.limits, metrics)
    reader = ImageReader(use_case)
    await asyncio.to_thread(deployment.refresh)
    commit.start()
    batcher.start()
    async with _background(deployment.follow(), _prune(inputs, config.retention, metrics)):
        yield Services(config, metrics, deployment, batcher, reader, log, Decisions(engine), use_case)
    batcher.stop()
    commit.stop()
    reader.stop()
    engine.dispose()


@asynccontextmanager
async def _background(*coroutines) -> AsyncIterator[None]:  # type: ignore[no-untyped-def]
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


async def _prune(inputs: InputStore, retention: Retention, metrics: Metrics) -> None:
    while True:
        oldest = time.time() - retention.days * 86_400
        metrics.inputs.set((await asyncio.to_thread(inputs.prune, retention.bytes, oldest)).bytes)
        await asyncio.sleep(PRUNE_SECONDS)
