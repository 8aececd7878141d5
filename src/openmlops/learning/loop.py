"""The training loop: trains a classifier on uint8 images in memory or on demand, resumable after any kill.

What is here: batches, augmentation, progressive image size, schedule, checkpoints, a budget in seconds, early stopping of a
training that does not learn. What is not: the network, logging of metrics (`on_epoch`), and evaluation of the result.
"""

import copy
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from openmlops.core.quality import ClassifierEpoch, EpochMetrics
from openmlops.core.types import Value
from openmlops.images.lazy import Images, LazyImages, sizes
from openmlops.learning import augment, health
from openmlops.learning.checkpoint import Checkpoint, exclusive
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute
from openmlops.learning.optimizer import optimizer_for

EVALUATION_PIXELS = 500 * 32 * 32
"""pixels of the images that are evaluated at once"""
LAYER_PIXELS = 2**20
"""pixels of the images whose layers are held at once on a CPU; a larger batch takes its step from the sum of its parts"""
WARM_UP_STEPS = 2
MEASURED_STEPS = 3
MEASURED_SECONDS = 1.5


@dataclass(frozen=True)
class FitData:
    """Images uint8 (n, h, w, 3), in memory or on demand, and labels int64 (n,)."""

    train_images: Images
    train_labels: np.ndarray
    validation_images: Images
    validation_labels: np.ndarray

    @classmethod
    def of(cls, images: Images, labels: np.ndarray, indices: Mapping[str, np.ndarray]) -> "FitData":
        """The train and validation rows of these."""
        train, validation = indices["train"], indices["validation"]
        return cls(images[train], labels[train], images[validation], labels[validation])


@dataclass(frozen=True)
class Progress:
    """Progress after `step` of `total`: mean loss and, for a classifier, accuracy (0..1) of the epoch so far. There is no loss
    while images are computed once, before the training."""

    step: int
    total: int
    loss: float | None
    seconds_left: float
    accuracy: float | None = None


OnEpoch = Callable[[EpochMetrics], None]
OnStep = Callable[[Progress], None]


@dataclass(frozen=True)
class FitResult:
    """The result of a training. `config` has the resolved length, device, precision and threads: training with it again on
    the same machine gives the same weights. `seconds` counts training steps only, summed over all resumed parts. `kept` says
    which of several stages validated best, if there were any."""

    history: tuple[EpochMetrics, ...]
    seconds: float
    resumed: bool
    config: Value
    kept: str = ""

    @property
    def epochs(self) -> int:
        """Epochs begun; the last may be incomplete."""
        return len(self.history)


def fit(
    model: nn.Module,
    data: FitData,
    config: FitConfig,
    *,
    folder: Path,
    key: str,
    on_epoch: OnEpoch,
    on_step: OnStep | None = None,
    on_start: Callable[[], None] | None = None,
) -> FitResult:
    """Train `model` (raw images (n, 3, h, w) -> logits, embedding) in place; it ends on the CPU in evaluation mode.

    `folder` holds the checkpoint of an interrupted training. It is resumed only with the same `key` (of data, configuration
    and code) on the same device and torch version. `on_start` is called once this process holds the lock, before the first
    step; `on_epoch` once the epoch's checkpoint is durable, and not again for epochs before a resume, which are in the
    result's history. Raises TrainingError if the loss is not finite, if the model does not learn, or if another process runs
    the same training; in the first two cases the checkpoint is deleted.
    """
    compute = Compute.of(config)
    identity = f"{key} {compute.model_dump_json()} torch {torch.__version__}"
    with exclusive(folder, identity) as checkpoint, compute.active():
        if on_start is not None:
            on_start()
        training = _Training(model, data, config, compute)
        saved = checkpoint.load()
        if saved is not None:
            training.load(saved)
        else:
            training.total = training.resolve_length()
        training.run(checkpoint, on_epoch, on_step or (lambda progress: None))
        checkpoint.remove()
    model.to("cpu").to(memory_format=torch.contiguous_format).eval()
    return training.result(resumed=saved is not None)


class _Training:
    """One training in progress. `state` is everything that the next step depends on."""

    def __init__(self, model: nn.Module, data: FitData, config: FitConfig, compute: Compute) -> None:
        self.config, self.compute = config, compute
        self.model = model.to(compute.device).to(memory_format=torch.channels_last)
        self.optimizer = optimizer_for(model, config)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.images, self.labels = self._held(data.train_images), self._tensor(data.train_labels)
        self.validation = self._held(data.validation_images), self._tensor(data.validation_labels)
        self.side = int(sizes(data.train_images)[0, 0])
        self.generator = torch.Generator().manual_seed(config.seed)
        self.flips = torch.rand(len(self.images), generator=self.generator) < 0.5
        self.steps_per_epoch = max(1, len(self.images) // config.batch_size)
        self.train_labels = data.train_labels
        self.chance = health.chance_loss(data.train_labels, config.label_smoothing)
        self.step = self.total = 0
        self.history: list[ClassifierEpoch] = []
        torch.manual_seed(config.seed)

    def _held(self, images: Images) -> "torch.Tensor | LazyImages":
        return self._tensor(images) if isinstance(images, np.ndarray) else images

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.compute.device)

    def _found(
        self, images: "torch.Tensor | LazyImages", parts: Iterable[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Where each of `parts` (rows) is: images uint8 (n, h, w, 3) on the device, and the rows in these."""
        if isinstance(images, torch.Tensor):
            return ((images, part) for part in parts)
        batches = images.batches(part.numpy() for part in parts)
        return ((self._tensor(batch), torch.arange(len(batch))) for batch in batches)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.compute.device == "cuda" else [],
            "step": self.step,
            "total": self.total,
            "history": [metrics.model_dump() for metrics in self.history],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        self.step, self.total = state["step"], state["total"]
        self.history = [ClassifierEpoch(**metrics) for metrics in state["history"]]

    def resolve_length(self) -> int:
        """Total number of steps. A budget is divided by the duration of trial steps, which do not change the state."""
        config = self.config
        if config.steps is not None:
            return config.steps
        if config.budget is None:
            return max(1, round((config.epochs or 1) * self.steps_per_epoch))
        before = copy.deepcopy(self.state())
        small = self._seconds_a_step(config.small_size) if config.small_share else 0.0
        full = self._seconds_a_step(self.side)
        self.load(before)
        return max(1, round(config.budget / (config.small_share * small + (1 - config.small_share) * full)))

    def _seconds_a_step(self, size: int) -> float:
        rows = torch.randperm(len(self.images), generator=self.generator)[: self.config.batch_size]
        started, steps = 0.0, -WARM_UP_STEPS
        for found in self._found(self.images, itertools.repeat(rows)):
            if steps == 0:
                started = time.perf_counter()
            if steps >= MEASURED_STEPS and time.perf_counter() - started >= MEASURED_SECONDS:
                break
            self._train_on(rows, found, size, rate=1.0)
            steps += 1
        return (time.perf_counter() - started) / steps

    def run(self, checkpoint: Checkpoint, on_epoch: OnEpoch, on_step: OnStep) -> None:
        """Train to the end. Each epoch is checkpointed before it is reported."""
        while self.step < self.total:
            metrics = self._epoch(on_step)
            self.history.append(metrics)
            checkpoint.save(self.state())
            on_epoch(metrics)

    def _epoch(self, on_step: OnStep) -> ClassifierEpoch:
        order = torch.randperm(len(self.images), generator=self.generator)
        size, lr = self.config.batch_size, self.peaks[0] * self._rate()
        losses, hits, seconds = [], 0.0, 0.0
        self.model.train()
        parts = order.split(size)[: min(self.steps_per_epoch, self.total - self.step)]
        started = time.perf_counter()
        for rows, found in zip(parts, self._found(self.images, parts), strict=True):
            loss, accuracy = self._train_on(rows, found, self._size(), self._rate())
            health.require_finite(loss, self.step, self.peaks[0] * self._rate())
            self.step += 1
            now = time.perf_counter()
            started, seconds = now, seconds + now - started
            losses.append(loss)
            hits += accuracy
            left = seconds / len(losses) * (self.total - self.step)
            on_step(Progress(self.step, self.total, float(np.mean(losses)), left, hits / len(losses)))
        validation_loss, predictions = self._validate()
        truth = self.validation[1].cpu().numpy()
        if len(losses) >= min(self.steps_per_epoch, health.PATIENCE) or self.step == self.total:
            late = float(np.mean(losses[len(losses) // 2 :]))
            evidence = health.Evidence.of(self.train_labels, truth, int((predictions == truth).sum()))
            health.require_learning(late, self.chance, evidence, self.step, self.total, self.config.warmup, lr)
        return ClassifierEpoch(
            epoch=len(self.history) + 1,
            loss=float(np.mean(losses)),
            train_accuracy=hits / len(losses),
            validation_loss=validation_loss,
            validation_accuracy=float(np.mean(predictions == truth)),
            learning_rate=lr,
            seconds=seconds,
        )

    def _train_on(
        self, rows: torch.Tensor, found: tuple[torch.Tensor, torch.Tensor], size: int, rate: float
    ) -> tuple[float, float]:
        """One step on the images `rows`, which are `found` there, at `size` pixels; returns loss and accuracy before it."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate
        images, labels = self._augmented(rows, *found, size)
        parts = -(-len(rows) * size**2 // LAYER_PIXELS) if self.compute.device == "cpu" else 1
        losses, hits = 0.0, 0.0
        self.optimizer.zero_grad()
        for part, truth in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            with self.compute.autocast():
                logits = self.model(part)[0].float()
            loss = F.cross_entropy(logits, truth, label_smoothing=self.config.label_smoothing)
            (loss if parts == 1 else loss * (len(part) / len(rows))).backward()
            losses += loss.item() * len(part)
            hits += (logits.argmax(1) == truth).float().sum().item()
        self.optimizer.step()
        return losses / len(rows), hits / len(rows)

    def _augmented(
        self, rows: torch.Tensor, held: torch.Tensor, places: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        config, device = self.config, self.compute.device
        shifts = torch.randint(-config.crop, config.crop + 1, (len(rows), 2), generator=self.generator)
        flipped = (self.flips[rows] ^ (len(self.history) % 2 == 1)) & config.flip
        images = augment.gather(held, places.to(device), flipped.to(device), shifts.to(device))
        return augment.resize(images, size), self.labels[rows.to(device)]

    @torch.inference_mode()
    def _validate(self) -> tuple[float, np.ndarray]:
        """Mean cross-entropy in nats without smoothing, and predicted classes int64 (n,), in float32 as in serving."""
        self.model.eval()
        images, labels = self.validation
        parts = torch.arange(len(labels)).split(max(1, EVALUATION_PIXELS // self.side**2))
        found = self._found(images, parts)
        logits = torch.cat([self.model(held[places.to(held.device)].permute(0, 3, 1, 2))[0] for held, places in found])
        return F.cross_entropy(logits, labels).item(), logits.argmax(1).cpu().numpy()

    def _rate(self) -> float:
        """The schedule: the share of the peak learning rates at this step; linear warm-up, then linear decay to 0."""
        done, warmup = self.step / self.total, self.config.warmup
        return min((self.step + 1) / (warmup * self.total), 1.0) if done < warmup else (1 - done) / (1 - warmup)

    def _size(self) -> int:
        small = self.step < self.config.small_share * self.total
        return self.config.small_size if small else self.side

    def result(self, *, resumed: bool) -> FitResult:
        """What `fit` returns."""
        resolved = {**self.compute.model_dump(), "steps": self.total, "epochs": None, "budget": None}
        return FitResult(
            history=tuple(self.history),
            seconds=sum(metrics.seconds for metrics in self.history),
            resumed=resumed,
            config=self.config.model_copy(update=resolved),
        )
