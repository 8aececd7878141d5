"""Fine-tuning of a backbone's upper layers after its head: rates that fall with depth, random crops and flips.

What is validated, and kept, is a moving average of the weights, at the temperature that suits the validation images. Whatever
validates best is kept, the head on the frozen backbone included. What is not here: the head (linear_head.py) and the order of
the stages (transfer.py).
"""

import copy
import math
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import nn

from openmlops.core.quality import ClassifierEpoch
from openmlops.images.lazy import Images, batches
from openmlops.learning import health
from openmlops.learning.backbone import Backbone
from openmlops.learning.checkpoint import Checkpoint
from openmlops.learning.compiler import deferred
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute
from openmlops.learning.loop import FitData, OnEpoch, OnStep, Progress
from openmlops.terminal import say

LR, LAYER_DECAY, WEIGHT_DECAY, WARMUP = 5e-4, 0.75, 0.01, 0.1
"""AdamW: rate of the head, its factor from each layer to the one below, weight decay, share of the steps that warm up"""
FROZEN = 0.05
"""share of the head's rate below which a layer stays as it is: it would hardly move, for 40 % of the time"""
AVERAGED = 0.95
"""what the moving average of the weights keeps of itself in a step"""
MOST_EPOCHS, PATIENCE = 30, 6
"""epochs that a budget is spent on at most, and epochs without a lower validation loss after which a fine-tuning ends"""
TEMPERATURES = (0.25, 8.0)
"""range of what logits are divided by"""
SMALLEST_CROP = 0.5
"""smallest area of a random crop, as a share of the image"""
SMOOTHING = 0.1
BATCH = 16
MEASURED_STEPS = 3
EVALUATED = 16
"""images that are evaluated at a time"""


class FineTuning:
    """A fine-tuning in progress. `state` is everything that the next step depends on."""

    def __init__(self, model: Backbone, data: FitData, config: FitConfig, compute: Compute, weights: torch.Tensor) -> None:
        self.model, self.data, self.config, self.compute = model, data, config, compute
        self.counts = weights.to(compute.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.batch = min(BATCH, len(data.train_labels))
        self.steps_per_epoch = max(1, len(data.train_labels) // self.batch)
        with deferred():  # here, because a training of the head alone needs none of its 45 MB
            from timm.optim import param_groups_layer_decay
        model.to(memory_format=torch.channels_last)  # a third less time on a CPU
        groups = _trained(param_groups_layer_decay(model.body, WEIGHT_DECAY, layer_decay=LAYER_DECAY))
        groups.append({"params": list(model.head.parameters()), "lr_scale": 1.0, "weight_decay": WEIGHT_DECAY})
        self.optimizer = torch.optim.AdamW(groups, lr=LR)
        self.step = self.total = 0
        self.history: list[ClassifierEpoch] = []
        self.averaged = copy.deepcopy(model)
        self.best: tuple[float, int, dict[str, torch.Tensor]]

    def begin(self, head: ClassifierEpoch) -> None:
        """Start from the model as it is, which has these metrics, and say how long it will take."""
        self.history = [head]
        self.averaged.load_state_dict(self.model.state_dict())
        self.best = (head.validation_loss, 1, _copied(self.model, 1.0))
        seconds = self._seconds_a_step()
        self.total = self._length(seconds)
        if self.total:
            epochs = self.total / self.steps_per_epoch
            say(
                f"Fine-tuning: {epochs:.3g} epochs of {self.steps_per_epoch} steps, about {self.total * seconds:.0f} s; it "
                f"ends earlier when {PATIENCE} epochs in a row bring no lower validation loss."
            )

    def state(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "total": self.total,
            "history": [metrics.model_dump() for metrics in self.history],
            "best": list(self.best),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.total = state["step"], state["total"]
        self.history = [ClassifierEpoch(**metrics) for metrics in state["history"]]
        loss, epoch, weights = state["best"]
        self.best = (loss, epoch, weights)

    def run(self, checkpoint: Checkpoint, on_epoch: OnEpoch, on_step: OnStep) -> int:
        """Train to the end, or until validation gains nothing, load what validated best, and return its epoch. Epochs are saved
        before they are reported."""
        while self.step < self.total and len(self.history) - self.best[1] < PATIENCE:
            metrics, temperature = self._epoch(on_step)
            self.history.append(metrics)
            if metrics.validation_loss < self.best[0]:
                self.best = (metrics.validation_loss, metrics.epoch, _copied(self.averaged, temperature))
            checkpoint.save(self.state())
            on_epoch(metrics)
        self.model.to(memory_format=torch.contiguous_format)
        self.model.load_state_dict(self.best[2])
        self.model.eval()
        return self.best[1]

    def _seconds_a_step(self) -> float:
        """Of a step with its share of the validation, by trials that change nothing."""
        before = copy.deepcopy(self.state())
        rows = torch.arange(self.batch).numpy()
        pixels = self._pixels(self.data.train_images, rows)
        self._train_on(pixels, rows, 0.0)
        started = time.perf_counter()
        for _ in range(MEASURED_STEPS):
            self._train_on(pixels, rows, 0.0)
        step = (time.perf_counter() - started) / MEASURED_STEPS
        started = time.perf_counter()
        with torch.inference_mode():
            self._logits(pixels)
        validation = (time.perf_counter() - started) / len(pixels) * len(self.data.validation_labels)
        self.load(before)
        return step + validation / self.steps_per_epoch

    def _length(self, seconds: float) -> int:
        """Total number of steps of so many `seconds`: as configured, or what is left of a budget, for at most MOST_EPOCHS."""
        config = self.config
        if config.steps is not None:
            return config.steps
        if config.budget is None:
            return max(1, round((config.epochs or 1) * self.steps_per_epoch))
        affordable = int((config.budget - self.history[0].seconds) / seconds)
        return min(MOST_EPOCHS * self.steps_per_epoch, max(0, affordable))

    def _epoch(self, on_step: OnStep) -> tuple[ClassifierEpoch, float]:
        """Metrics of the next epoch, and the temperature of the averaged weights."""
        order = torch.randperm(len(self.data.train_labels), generator=self.generator)
        parts = [part.numpy() for part in order.split(self.batch)[: min(self.steps_per_epoch, self.total - self.step)]]
        losses, hits, started, rate = [], 0.0, time.perf_counter(), self._rate()
        for rows, pixels in zip(parts, batches(self.data.train_images, parts), strict=True):
            rate = self._rate()
            loss, accuracy = self._train_on(torch.from_numpy(pixels), rows, rate)
            health.require_finite(loss, self.step, LR * rate)
            self.step, hits = self.step + 1, hits + accuracy
            losses.append(loss)
            left = (time.perf_counter() - started) / len(losses) * (self.total - self.step)
            on_step(Progress(self.step, self.total, float(np.mean(losses)), left, hits / len(losses)))
        seconds = time.perf_counter() - started
        validation_loss, validation_accuracy, temperature = self._validate()
        metrics = ClassifierEpoch(
            epoch=len(self.history) + 1,
            loss=float(np.mean(losses)),
            train_accuracy=hits / len(losses),
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            learning_rate=LR * rate,
            seconds=seconds,
        )
        return metrics, temperature

    def _train_on(self, pixels: torch.Tensor, rows: np.ndarray, rate: float) -> tuple[float, float]:
        """One step on images uint8 (n, h, w, 3); returns loss and accuracy before it. Normalisation layers keep their
        statistics: those of small batches are noise."""
        for group in self.optimizer.param_groups:
            group["lr"] = LR * rate * group["lr_scale"]
        images = self._augmented(pixels.to(self.compute.device)).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(self.data.train_labels[rows]).to(self.compute.device)
        self.model.eval()
        with self.compute.autocast():
            logits = self.model.head(self.model.features(images)).float()
        loss = F.cross_entropy(logits, labels, self.counts, label_smoothing=SMOOTHING)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._average()
        return loss.item(), (logits.argmax(1) == labels).float().mean().item()

    def _augmented(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, h, w, 3) -> float (n, 3, h, w): each a random part, mirrored at random if the class allows."""
        images = pixels.permute(0, 3, 1, 2).float()
        n, _, height, width = images.shape
        draws = torch.rand(n, 4, generator=self.generator)
        found = []
        for image, (area, down, right, mirror) in zip(images, draws.tolist(), strict=True):
            share = math.sqrt(SMALLEST_CROP + (1 - SMALLEST_CROP) * area)
            high, wide = max(1, round(share * height)), max(1, round(share * width))
            top, left = int(down * (height - high + 1)), int(right * (width - wide + 1))
            part = image[None, :, top : top + high, left : left + wide]
            part = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)
            found.append(part.flip(3) if mirror < 0.5 and self.config.flip else part)
        return torch.cat(found)

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(AVERAGED, (self.step + 1) / (self.step + 10))
        for mean, parameter in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
            if parameter.requires_grad:
                mean.lerp_(parameter, 1 - kept)

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float, float]:
        """Of the averaged weights: mean cross-entropy in nats without smoothing at the best temperature, accuracy, and that
        temperature."""
        images = self.data.validation_images
        parts = np.array_split(np.arange(len(images)), max(1, -(-len(images) // EVALUATED)))
        found = torch.cat([self._logits(torch.from_numpy(pixels)) for pixels in batches(images, parts)])
        truth = torch.from_numpy(self.data.validation_labels)
        loss, temperature = best_temperature(found, truth)
        return loss, (found.argmax(1) == truth).float().mean().item(), temperature

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images uint8 (n, h, w, 3) -> float32 (n, classes) by the averaged weights."""
        shown = pixels.to(self.compute.device).permute(0, 3, 1, 2)
        self.averaged.eval()
        return self.averaged.head(self.averaged.features(shown)).float().cpu()

    def _pixels(self, images: Images, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(next(iter(batches(images, [rows]))))

    def _rate(self) -> float:
        """The share of the peak rates at this step: linear warm-up, then half a cosine down to 0."""
        done = (self.step + 0.5) / self.total
        return done / WARMUP if done < WARMUP else (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2


def best_temperature(logits: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """The lowest mean cross-entropy in nats of logits (n, classes) divided by a temperature, and that temperature. Smoothed
    targets make a network less certain than it is right to be; this puts it right."""

    def loss(logarithm: float) -> float:
        return F.cross_entropy(logits / math.exp(logarithm), truth).item()

    found = minimize_scalar(loss, bounds=tuple(map(math.log, TEMPERATURES)), method="bounded")
    return float(found.fun), math.exp(found.x)


def _trained(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups of parameters that are trained; the others get no gradient."""
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_(group["lr_scale"] >= FROZEN)
    return [group for group in groups if group["lr_scale"] >= FROZEN]


def _copied(model: Backbone, temperature: float) -> dict[str, torch.Tensor]:
    """The weights, contiguous, with the head's divided by `temperature`."""
    found = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()}
    return {name: tensor / temperature if name.startswith("head.") else tensor for name, tensor in found.items()}
