"""The components of one worker process, created in `lifespan` and passed down; nothing is created at import."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from openmlops.adapters.database import connect_with_retries, is_embedded
from openmlops.adapters.decisions import Decisions
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_store import InputStore
from openmlops.adapters.ledger import Ledger
from openmlops.core.images.decoding import allow
from openmlops.operations.retention.inputs import prune_unless_doubtful
from openmlops.serving.batching import Batcher
from openmlops.serving.calls import Calls
from openmlops.serving.commit import GroupCommit, begin_in_thread
from openmlops.serving.config import ServingConfig
from openmlops.serving.deployment import Deployment
from openmlops.serving.metrics import Metrics
from openmlops.serving.reading import ImageReader
from openmlops.serving.spool import SpooledLog
from openmlops.settings import Settings
from openmlops.usecases.base import UseCase, load_use_case

PRUNE_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """The components of a running worker."""

    config: ServingConfig
    metrics: Metrics
    deployment: Deployment
    batcher: Batcher
    reader: ImageReader
    log: InferenceLog | SpooledLog
    calls: Calls
    decisions: Decisions
    use_case: UseCase


def services(request: Request) -> Services:
    """The components of the worker that handles the request."""
    found: Services = request.app.state.services
    return found


@asynccontextmanager
async def running(config: ServingConfig, metrics: Metrics) -> AsyncIterator[Services]:
    """Start all components and deploy the champion, if there is one; on exit, flush the log."""
    url = config.database_url.get_secret_value()
    engine = connect_with_retries(url)
    allow(config.settings.max_pixels)
    use_case = load_use_case(config.use_case)
    central, inputs = InferenceLog(engine), InputStore(config.inputs)
    spool = None if is_embedded(url) else _spool(config, central, metrics)
    deployment = Deployment(config, Ledger(engine), use_case, metrics, spool)
    commit = GroupCommit(spool.begin if spool else begin_in_thread(central), inputs, metrics.commit)
    batcher = Batcher(lambda: deployment.current, commit, config.limits, metrics)
    reader, calls = ImageReader(use_case), Calls(config.limits.log_seconds)
    await deployment.start()
    if spool is not None:
        spool.start()
    commit.start()
    batcher.start()
    async with _background(deployment.follow(), _prune(inputs, config.settings, metrics)):
        yield Services(config, metrics, deployment, batcher, reader, spool or central, calls, Decisions(engine), use_case)
    batcher.stop()
    commit.stop()
    reader.stop()
    if spool is not None:
        spool.stop()
    engine.dispose()


def _spool(config: ServingConfig, central: InferenceLog, metrics: Metrics) -> SpooledLog:
    return SpooledLog(central, config.spool, config.limits.divert_seconds, config.poll_seconds, metrics.diverting)


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


async def _prune(inputs: InputStore, settings: Settings, metrics: Metrics) -> None:
    said = ""
    while True:
        kept, doubt = await asyncio.to_thread(prune_unless_doubtful, inputs, settings, datetime.now(UTC))
        if doubt and not said:
            log.warning("%s.", doubt)
        said = doubt
        metrics.inputs.set(kept.bytes)
        await asyncio.sleep(PRUNE_SECONDS)
