"""A training small enough for tests: noisy colours in four classes, one bank of filters, and processes that die in it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from openmlops.core.quality import EpochMetrics
from openmlops.learning import checkpoint
from openmlops.learning.config import FitConfig
from openmlops.learning.loop import FitData, FitResult, Progress, fit

CONFIG = FitConfig(epochs=12, batch_size=50, lr=0.05, other_lr=0.02, threads=1)
STEPS_PER_EPOCH = 10


def toy_data(images: int = 500, *, learnable: bool = True) -> FitData:
    """Images uint8 (n, 8, 8, 3) whose brightness by channel tells the class, or tells nothing; a fifth more to validate on."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, images + images // 5)
    colours = np.array([[60, 120, 180], [180, 120, 60], [120, 180, 60], [90, 90, 150]])[labels]
    pixels = np.clip(colours[:, None, None, :] + draw.normal(0, 60, (len(labels), 8, 8, 3)), 0, 255).astype(np.uint8)
    if not learnable:
        labels = draw.permutation(labels)
    return FitData(pixels[:images], labels[:images], pixels[images:], labels[images:])


class ToyNetwork(nn.Module):
    """Raw images (n, 3, h, w) -> logits (n, 4), embedding (n, 8). Dropout makes it depend on torch's own random state."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.filters = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.norm(self.filters(images.float() / 255)))
        embedding = nn.functional.dropout(x.mean((2, 3)), 0.1, self.training)
        return self.head(embedding) * self.factor, embedding


def train(
    folder: Path,
    *,
    model: nn.Module | None = None,
    data: FitData | None = None,
    config: FitConfig = CONFIG,
    key: str = "toy",
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    on_step: Callable[[Progress], None] | None = None,
) -> tuple[dict[str, torch.Tensor], FitResult]:
    """Train the toy; its final weights and the result."""
    model = model or ToyNetwork()
    result = fit(model, data or toy_data(), config, folder=folder, key=key, on_epoch=on_epoch, on_step=on_step)
    return model.state_dict(), result


def train_and_die(folder: Path, epoch: int, moment: str) -> None:
    """Train until `moment` of `epoch`, then kill -9 this very process.

    The moments: "step" in the middle of the epoch, "written" when its checkpoint is written but not in place, "saved" when it
    is in place but not reported, "reported" in the caller's own callback.
    """
    last = STEPS_PER_EPOCH * epoch
    save = checkpoint.Checkpoint.save
    reached = {"step": 0}

    def die(now: str, reached_epoch: bool) -> None:
        if now == moment and reached_epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step(progress: Progress) -> None:
        reached["step"] = progress.step
        die("step", progress.step == last - STEPS_PER_EPOCH // 2)

    def dying_replace(source: Path, target: Path) -> None:
        die("written", reached["step"] == last)
        replace(source, target)

    def dying_save(self: checkpoint.Checkpoint, state: dict) -> None:
        save(self, state)
        die("saved", reached["step"] == last)

    replace, os.replace = os.replace, dying_replace  # type: ignore[assignment]
    checkpoint.Checkpoint.save = dying_save  # type: ignore[method-assign]
    train(folder, on_step=on_step, on_epoch=lambda metrics: die("reported", metrics.epoch == epoch))
