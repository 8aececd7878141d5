"""Images and a training small enough for tests: bright bars on noise, canvases of 64 pixels, and processes that die in it."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openmlops.core.images import boxes
from openmlops.core.quality import DetectorEpoch
from openmlops.core.types import Preprocessing
from openmlops.learning import checkpoint
from openmlops.learning.loop import FitResult, Progress
from openmlops.usecases.base import Rows
from openmlops.usecases.yolo_folder.model import Network, build
from openmlops.usecases.yolo_folder.recipe import TrainConfig
from openmlops.usecases.yolo_folder.training import fit

CONFIG = TrainConfig(epochs=2, imgsz=64, batch_size=4, pretrained="none", threads=1, warmup_epochs=1, close_mosaic=1)
LONGER = CONFIG.model_copy(update={"epochs": 4})
STEPS_PER_EPOCH = 2
UNUSED = Preprocessing(mean=(0, 0, 0), std=(255, 255, 255))
SPLITS = {"train": np.arange(7), "validation": np.arange(10, 15), "test": np.arange(15, 18)}

_frozen = 0
"""modules"""


def _freeze() -> None:
    """ultralytics collects garbage twice an epoch, half of a toy training's time: what was imported is none."""
    global _frozen
    if len(sys.modules) > _frozen:
        gc.collect()
        gc.freeze()
        _frozen = len(sys.modules)


def toy_rows(seed: int = 0) -> Rows:
    """18 images of unequal sizes with one to three bright bars each; the last three are the test split."""
    draw = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(18):
        height, width = draw.integers(40, 70, 2)
        image = draw.integers(0, 90, (height, width, 3)).astype(np.uint8)
        corners = []
        for _ in range(draw.integers(1, 4)):
            left, top = draw.integers(0, width - 12), draw.integers(0, height - 24)
            image[top : top + 24, left : left + 12] = draw.integers(160, 255, 3)
            corners.append([left, top, left + 12, top + 24, 0])
        images.append(image)
        labels.append(np.array(corners, dtype=np.float32))
    return Rows(images=boxes.objects(images), labels=boxes.objects(labels), names=("person",), test=np.arange(18) >= 15)


def toy_network(rows: Rows | None = None, config: TrainConfig = CONFIG) -> Network:
    """The untrained network for it."""
    return build(config, UNUSED, rows or toy_rows(), SPLITS["train"])


def train(
    folder: Path,
    *,
    model: Network | None = None,
    rows: Rows | None = None,
    indices: dict[str, np.ndarray] = SPLITS,
    config: TrainConfig = CONFIG,
    key: str = "toy",
    on_epoch: Callable[[Any], None] = lambda metrics: None,
    on_step: Callable[[Progress], None] | None = None,
    on_start: Callable[[], None] | None = None,
) -> tuple[dict[str, torch.Tensor], FitResult]:
    """Train the toy; its final weights and the result."""
    _freeze()
    rows = rows or toy_rows()
    model = model or toy_network(rows, config)
    result = fit(model, rows, indices, config, folder=folder, key=key, on_epoch=on_epoch, on_step=on_step, on_start=on_start)
    return model.state_dict(), result


def train_and_die(folder: Path, answer: Path, epoch: int, moment: str) -> None:
    """Train `LONGER` until `moment` of `epoch`, then kill -9 this very process; `moment` "never" trains to the end.

    The moments: "step" in the middle of the epoch, "written" when its checkpoint is written but not in place, "saved" when it
    is in place but not reported, "reported" in the caller's own callback. The end is written to `answer`.
    """
    last = STEPS_PER_EPOCH * epoch
    save, replace = checkpoint.Checkpoint.save, os.replace
    reached = {"step": 0}

    def die(now: str, reached_epoch: bool) -> None:
        if now == moment and reached_epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step(progress: Progress) -> None:
        reached["step"] = progress.step
        die("step", progress.step == last - 1)

    def dying_replace(source: Path, target: Path) -> None:
        die("written", reached["step"] == last)
        replace(source, target)

    def dying_save(self: checkpoint.Checkpoint, state: dict) -> None:
        save(self, state)
        die("saved", reached["step"] == last)

    def on_epoch(metrics: DetectorEpoch) -> None:
        die("reported", metrics.epoch == epoch)

    os.replace = dying_replace  # type: ignore[assignment]
    checkpoint.Checkpoint.save = dying_save  # type: ignore[method-assign]
    weights, result = train(folder, config=LONGER, on_step=on_step, on_epoch=on_epoch)
    epochs = [metrics.model_dump(exclude={"seconds"}) for metrics in result.history]
    torch.save({"weights": weights, "epochs": epochs, "resumed": result.resumed}, answer)
