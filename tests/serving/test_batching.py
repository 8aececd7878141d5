"""The model's thread: no call is larger than a batch, and a large request takes its turns among the others."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from openmlops.serving.batching import Batcher, Prediction
from openmlops.serving.commit import GroupCommit, PredictionBatch
from openmlops.serving.config import Limits
from openmlops.serving.metrics import Metrics
from openmlops.serving.predictor import Predictions, Predictor
from openmlops.usecases.base import ModelInput, Outputs
from openmlops.web.conditions import Conditions

SIDE = 8
LIMITS = Limits(batch=64, batch_pixels=4 * SIDE * SIDE, log_seconds=20.0)
"""four images a call"""


@dataclass
class Model:
    """Predicts an image's first pixel, and keeps what it was asked. `before` is called in its thread with each batch."""

    version: int = 1
    before: Callable[[np.ndarray], None] = lambda pixels: None
    calls: list[list[int]] = field(default_factory=list)

    def adapt(self, model_input: ModelInput, inputs: object) -> ModelInput:
        return model_input

    def predict(self, model_input: ModelInput) -> Predictions:
        values = model_input.pixels[:, 0, 0, 0]
        self.calls.append(values.tolist())
        self.before(values)
        outputs = Outputs(values[:, None].astype(np.float32), np.zeros((len(values), 1), np.float32), {"raw": values})
        return Predictions(outputs, np.zeros((len(values), 1)), [bytes([value]) for value in values])


class Commit:
    """Logs at once."""

    def __init__(self) -> None:
        self.batches: list[PredictionBatch] = []

    def submit(self, batch: PredictionBatch) -> Any:
        self.batches.append(batch)
        batch.committed.set_result(frozenset(batch.ids))
        return batch.committed

    def is_stuck(self, seconds: float) -> bool:
        return False

    def withdraw(self, ids: object) -> None:
        pass


def request(first: int, images: int) -> tuple[ModelInput, list[np.ndarray]]:
    """Images whose pixels are `first`, `first` + 1, ..."""
    pixels = np.arange(first, first + images, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE, 3), np.uint8)
    return ModelInput(pixels, np.full((images, 2), SIDE)), list(pixels)


def run(model: Model, ask: Callable[[Batcher, Commit], Any], limits: Limits = LIMITS) -> Commit:
    commit = Commit()

    async def main() -> None:
        batcher = Batcher(lambda: cast(Predictor, model), cast(GroupCommit, commit), limits, Metrics.make(), Conditions())
        batcher.start()
        try:
            await ask(batcher, commit)
        finally:
            await asyncio.to_thread(batcher.stop)

    asyncio.run(main())
    return commit


def values(prediction: Prediction) -> list[int]:
    return [int(value) for value in prediction.outputs.predictions[:, 0]]


async def ask(batcher: Batcher, first: int, images: int) -> Prediction:
    return await batcher.predict(*request(first, images), 0.0)


def test_a_large_request_is_predicted_in_parts_and_answered_whole() -> None:
    model = Model()

    async def main(batcher: Batcher, commit: Commit) -> None:
        found = await ask(batcher, 10, 11)
        assert values(found) == list(range(10, 21))
        assert found.outputs.tensors["raw"].tolist() == list(range(10, 21))

    commit = run(model, main)
    assert model.calls == [[10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 20]]
    (batch,) = commit.batches
    assert len(batch.ids) == len(batch.inputs) == len(batch.predictions.packed) == 11


def test_small_requests_have_their_turn_between_the_parts_of_large_ones() -> None:
    model = Model()

    async def main(batcher: Batcher, commit: Commit) -> None:
        asked: list[asyncio.Task[Prediction]] = []
        loop = asyncio.get_running_loop()
        queued = threading.Event()

        def arrive(seen: np.ndarray) -> None:
            if seen[0] == 50:  # the model is busy until both large requests are queued
                assert queued.wait(60)
            if seen[0] == 0:  # the first part of the first large request is being predicted: a small one arrives now
                done = asyncio.run_coroutine_threadsafe(_asked(), loop)
                done.result(60)

        async def _asked() -> None:
            asked.append(asyncio.create_task(ask(batcher, 200, 1)))
            await asyncio.sleep(0)

        async def _queued() -> None:
            queued.set()

        model.before = arrive
        _, *large, _ = await asyncio.gather(ask(batcher, 50, 1), ask(batcher, 0, 12), ask(batcher, 100, 12), _queued())
        assert [values(each) for each in large] == [list(range(12)), list(range(100, 112))]
        assert values(await asked[0]) == [200]

    run(model, main)
    assert model.calls[:3] == [[50], [0, 1, 2, 3], [200]]
    assert sorted(map(len, model.calls)) == [1, 1, 4, 4, 4, 4, 4, 4]
    assert [calls[0] // 100 for calls in model.calls[3:]] == [1, 0, 1, 0, 1], "large requests take turns"


def test_what_is_refused_meanwhile_is_predicted_no_further() -> None:
    model = Model()

    async def main(batcher: Batcher, commit: Commit) -> None:
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(ask(batcher, 0, 40))

        def leave(seen: np.ndarray) -> None:
            loop.call_soon_threadsafe(waiting.cancel)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), loop).result(60)

        model.before = leave
        with pytest.raises(asyncio.CancelledError):
            await waiting
        model.before = lambda seen: None
        assert values(await ask(batcher, 200, 1)) == [200]

    commit = run(model, main)
    assert model.calls == [[0, 1, 2, 3], [200]]
    assert [len(batch.ids) for batch in commit.batches] == [1]


def test_a_part_that_fails_fails_its_request_alone() -> None:
    def fails(seen: np.ndarray) -> None:
        if 6 in seen:
            raise ValueError("a poisoned image")

    model = Model(before=fails)

    async def main(batcher: Batcher, commit: Commit) -> None:
        failed, other = await asyncio.gather(ask(batcher, 0, 12), ask(batcher, 100, 12), return_exceptions=True)
        assert isinstance(failed, ValueError)
        assert isinstance(other, Prediction)

    assert len(run(model, main).batches) == 1


def test_a_version_that_changes_meanwhile_predicts_no_part_of_a_request_that_another_began() -> None:
    first, second = Model(1), Model(2)
    current = [first]

    def swap(seen: np.ndarray) -> None:
        current[0] = second

    first.before = swap

    async def main() -> None:
        batcher = Batcher(
            lambda: cast(Predictor, current[0]), cast(GroupCommit, Commit()), LIMITS, Metrics.make(), Conditions()
        )
        batcher.start()
        found = await ask(batcher, 0, 12)
        assert found.predictor is cast(Predictor, first)
        await asyncio.to_thread(batcher.stop)

    asyncio.run(main())
    assert second.calls == []


@pytest.mark.parametrize(
    ("images", "side", "at_once", "seconds"),
    [(1, 32, 64, 5.0), (256, 32, 64, 20.0), (20, 224, 10, 10.0), (256, 320, 5, 30.0), (1, 1280, 1, 5.0)],
)
def test_larger_inputs_come_in_smaller_batches_and_many_images_have_more_time(
    images: int, side: int, at_once: int, seconds: float
) -> None:
    limits = Limits()
    assert limits.at_once(side, side) == at_once
    assert limits.patience(images, side, side) == seconds


def test_what_takes_too_long_is_refused() -> None:
    refused = threading.Event()
    model = Model(before=lambda seen: refused.wait(60))

    async def main(batcher: Batcher, commit: Commit) -> None:
        with pytest.raises(HTTPException, match="could not be made and logged"):
            await ask(batcher, 0, 1)
        refused.set()

    run(model, main, LIMITS.model_copy(update={"log_seconds": 0.05, "most_seconds": 0.05}))
