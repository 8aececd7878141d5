"""The components of one worker process, created in `lifespan` and passed down; nothing is created at import."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from typing import Any

from fastapi import Request
from sqlalchemy import Engine

from openmlops.adapters.database import connect_with_retries, is_embedded
from openmlops.adapters.decisions import Decisions
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_places import InputPlaces
from openmlops.adapters.input_store import InputStore, Pruned
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.packed_inputs import PackedInputs
from openmlops.core.images.decoding import allow
from openmlops.errors import ServiceUnavailable, SettingsError
from openmlops.operations.retention.inputs import Inputs, prune_unless_doubtful
from openmlops.operations.retention.requested import requested_inputs
from openmlops.serving.batching import Batcher
from openmlops.serving.calls import Calls, in_daemon_thread
from openmlops.serving.commit import INPUTS, LOG, GroupCommit
from openmlops.serving.config import ServingConfig
from openmlops.serving.deployment import Deployment
from openmlops.serving.metrics import Metrics
from openmlops.serving.reading import ImageReader
from openmlops.serving.spool import SpooledLog
from openmlops.settings import Settings
from openmlops.usecases.base import UseCase, load_use_case
from openmlops.web.conditions import Conditions, repeat

PRUNE_SECONDS = 60.0
PROBE_SECONDS = 0.5
STORE_PROBE_SECONDS = 15.0
"""seconds between two checks of an object store where nothing is wrong"""
CLOCK = "clock"


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
async def running(config: ServingConfig, metrics: Metrics, conditions: Conditions) -> AsyncIterator[Services]:
    """Start all components and deploy the champion, if there is one; on exit, flush the log."""
    url = config.database_url.get_secret_value()
    engine = connect_with_retries(url)
    allow(config.settings.max_pixels)
    use_case = load_use_case(config.use_case)
    central, inputs = InferenceLog(engine), _inputs(config, engine)
    inputs.make()
    spool = None if is_embedded(url) else _spool(config, central, metrics, conditions)
    log = spool or central
    deployment = Deployment(config, Ledger(engine), use_case, metrics, spool, conditions)
    commit = GroupCommit(log, inputs, metrics.commit, conditions)
    batcher = Batcher(lambda: deployment.current, commit, config.limits, metrics, conditions)
    reader, calls = ImageReader(use_case), Calls(config.limits.log_seconds)
    await deployment.start()
    if spool is not None:
        spool.start()
    commit.start()
    batcher.start()
    pruning = InputPruning(inputs, config.settings, partial(requested_inputs, Ledger(engine), Decisions(engine), central))
    background = (
        deployment.follow(),
        repeat("pruning of inputs", lambda: _prune(pruning, metrics, conditions), PRUNE_SECONDS, conditions),
        *_checks_of_inputs(inputs, conditions),
        repeat("check of the log", lambda: _check_log(log, conditions), PROBE_SECONDS, conditions),
    )
    async with _background(*background):
        yield Services(config, metrics, deployment, batcher, reader, log, calls, Decisions(engine), use_case)
    batcher.stop()
    commit.stop()
    reader.stop()
    if spool is not None:
        spool.stop()
    engine.dispose()


def _spool(config: ServingConfig, central: InferenceLog, metrics: Metrics, conditions: Conditions) -> SpooledLog:
    seconds = config.limits.divert_seconds, config.poll_seconds
    return SpooledLog(central, config.spool, *seconds, metrics.diverting, conditions)


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


def _inputs(config: ServingConfig, engine: Engine) -> Inputs:
    """Where the images go that INPUTS_STORE says. Raises SettingsError where that needs what is not installed."""
    files = InputStore(config.inputs)
    if config.settings.inputs_store == "files":
        return files
    if config.settings.minio_endpoint_url and find_spec("boto3") is None:
        problem = "INPUTS_STORE=objects needs boto3, which is not installed here"
        raise SettingsError(problem, "Serve from the image `train`, which has it, or set INPUTS_STORE=files")
    return PackedInputs(config.workspace.object_store, InputPlaces(engine), files)


def _checks_of_inputs(inputs: Inputs, conditions: Conditions) -> list[Coroutine[Any, Any, None]]:
    """An object store is asked less often than a disk, but as often while something is wrong."""
    name = "check of inputs"
    if not inputs.groups:
        return [repeat(name, lambda: _probe(INPUTS, inputs.probe, conditions), PROBE_SECONDS, conditions)]
    return [
        repeat(name, lambda: _probe(INPUTS, inputs.probe, conditions), STORE_PROBE_SECONDS, conditions),
        repeat(f"{name} again", lambda: _probe_again(INPUTS, inputs.probe, conditions), PROBE_SECONDS, conditions),
    ]


class InputPruning:
    """Pruning of inputs beside a database that may be away: what is needed is what it said last. Nothing is pruned before it
    has said anything."""

    def __init__(self, inputs: Inputs, settings: Settings, needed: Callable[[], frozenset[str]]) -> None:
        self._inputs, self._settings, self._ask = inputs, settings, needed
        self._needed: frozenset[str] | None = None

    def __call__(self, now: datetime) -> tuple[Pruned, str] | None:
        """As `prune_unless_doubtful`; None if nothing can be pruned now."""
        try:
            self._needed = self._ask()
        except ServiceUnavailable:
            if self._needed is None or self._inputs.groups:
                return None
        return prune_unless_doubtful(self._inputs, self._settings, now, self._needed)


async def _prune(pruning: Callable[[datetime], tuple[Pruned, str] | None], metrics: Metrics, conditions: Conditions) -> None:
    found = await asyncio.to_thread(pruning, datetime.now(UTC))
    if found is None:
        return
    kept, doubt = found
    if doubt:
        conditions.report(CLOCK, doubt)
    else:
        conditions.clear(CLOCK)
    metrics.inputs.set(kept.bytes)


async def _probe(part: str, probe: Callable[[], None], conditions: Conditions) -> None:
    """Find out whether a part works, without waiting for a prediction to fail, or to succeed again."""
    try:
        await in_daemon_thread(probe)
    except ServiceUnavailable as error:
        conditions.report(part, str(error))
    else:
        conditions.clear(part)


async def _probe_again(part: str, probe: Callable[[], None], conditions: Conditions) -> None:
    """The same for a part whose probe costs too much where nothing is wrong."""
    if conditions.of(part):
        await _probe(part, probe, conditions)


async def _check_log(log: InferenceLog | SpooledLog, conditions: Conditions) -> None:
    """The same for the log, to which nothing is written where nothing is wrong: its disk is looked at."""
    if conditions.of(LOG):
        await _probe(LOG, log.probe, conditions)
        return
    try:
        log.require_room()
    except ServiceUnavailable as error:
        conditions.report(LOG, str(error))
