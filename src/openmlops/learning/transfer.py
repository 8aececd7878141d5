"""Training of a pretrained backbone: a linear head on its frozen features, then fine-tuning, if a length is given for it.

What is here: the order of the stages, their checkpoints, metrics and messages. What is not: the backbone (backbone.py), its
features (features.py) and the solver of the head (linear_head.py).
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openmlops.core.quality import ClassifierEpoch
from openmlops.images.lazy import Images
from openmlops.learning import features, health, linear_head
from openmlops.learning.backbone import Backbone
from openmlops.learning.checkpoint import Checkpoint, exclusive
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute
from openmlops.learning.finetuning import FineTuning
from openmlops.learning.linear_head import Features, LinearHead
from openmlops.learning.loop import FitData, FitResult, OnEpoch, OnStep, Progress
from openmlops.learning.pretrained import Pretrained
from openmlops.memory import give_back
from openmlops.terminal import say

HEAD_ALONE = "a linear head on the frozen backbone"
UNEVEN = 3.0
"""the largest class has so many times the images of the smallest from which on rare classes count more in the loss"""


def fit(
    model: Backbone,
    data: FitData,
    config: FitConfig,
    weights: Pretrained,
    *,
    folder: Path,
    key: str,
    on_epoch: OnEpoch,
    on_step: OnStep | None = None,
    on_start: Callable[[], None] | None = None,
) -> FitResult:
    """Train `model` in place from `weights`; it ends on the CPU in evaluation mode. The arguments are those of `loop.fit`.

    Features are kept beside `folder`, by content: an interrupted training goes on with those that it has, and a fine-tuning
    with its last epoch. What validates best is kept. Raises TrainingError if a loss or a feature is not finite, or if
    validation shows that nothing was learned.
    """
    compute = Compute.of(config)
    identity = f"{key} {compute.model_dump_json()} torch {torch.__version__}"
    tunes = bool(config.epochs or config.steps or config.budget)
    with exclusive(folder, identity) as checkpoint, compute.active():
        if on_start is not None:
            on_start()
        model.load(weights)
        training = _Transfer(model, data, config, compute, folder.parent / "features", weights, on_step)
        saved = checkpoint.load()
        if tunes:
            history, steps, kept = training.tune(checkpoint, saved, on_epoch)
        else:
            history, steps, kept = (training.train_head(),), 0, HEAD_ALONE
            on_epoch(history[0])
        checkpoint.remove()
    model.to("cpu").eval()
    resolved = config.model_copy(update={**compute.model_dump(), "steps": steps or None, "epochs": None, "budget": None})
    seconds = sum(epoch.seconds for epoch in history)
    return FitResult(history=history, seconds=seconds, resumed=saved is not None, config=resolved, kept=kept)


def class_weights(labels: np.ndarray, classes: int) -> torch.Tensor:
    """What each class counts in the loss, float32 (classes,): 1, or the inverse root of its share where they are uneven."""
    counts = np.bincount(labels, minlength=classes)
    if counts.max() < UNEVEN * max(1, counts.min()):
        return torch.ones(classes)
    found = torch.from_numpy((counts.mean() / np.maximum(counts, 1)) ** 0.5)
    return found.float()


def what_is_kept(history: Sequence[ClassifierEpoch], best: int) -> str:
    """The stage whose epoch, `best` from 1 on, had the lowest validation loss, beside the other stage's."""
    if len(history) == 1:
        return HEAD_ALONE

    def told(epoch: ClassifierEpoch) -> str:
        return f"validation loss {epoch.validation_loss:.3f}, accuracy {epoch.validation_accuracy:.3f}"

    head, tuned = history[0], min(history[1:], key=lambda epoch: epoch.validation_loss)
    if best == 1:
        return f"{HEAD_ALONE} ({told(head)}); the best of {len(history) - 1} epochs of fine-tuning had {told(tuned)}"
    return f"epoch {best} of {len(history)}, fine-tuned ({told(tuned)}); {HEAD_ALONE} had {told(head)}"


class _Transfer:
    """One training in progress."""

    def __init__(
        self,
        model: Backbone,
        data: FitData,
        config: FitConfig,
        compute: Compute,
        kept: Path,
        weights: Pretrained,
        on_step: OnStep | None,
    ) -> None:
        self.model, self.data, self.config, self.compute = model.to(compute.device).eval(), data, config, compute
        self.classes = int(model.head.out_features)
        self.on_step = on_step or (lambda progress: None)
        self.recipe = " ".join((model.name, weights.sha256, str(model.image_shape), features.engine_name(compute)))
        normalised = f"{model.normalize.mean.flatten().tolist()} {model.normalize.std.flatten().tolist()}"
        name = hashlib.sha256(f"{self.recipe} {normalised}".encode()).hexdigest()
        self.store = features.FeatureStore(kept / name)

    def train_head(self) -> ClassifierEpoch:
        """Compute the features, solve for the head, and judge it. Sets head and embedding of the model."""
        started = time.perf_counter()
        train, validation = self._features()
        give_back()  # the layers of the images
        weights = class_weights(self.data.train_labels, self.classes)
        if len(weights.unique()) > 1:
            say("The classes are uneven: rare ones count more in the loss (the inverse root of their share).")
        head = linear_head.fit(train, validation, weights, self.config.seed)
        self._judge(head, train, validation, weights)
        with torch.no_grad():
            self.model.head.weight.copy_(head.weight)
            self.model.head.bias.copy_(head.bias)
        self.model.fit_embedding(train.x.to(self.compute.device))
        return ClassifierEpoch(
            epoch=1,
            loss=head.loss(train),
            train_accuracy=head.hits(train).float().mean().item(),
            validation_loss=head.loss(validation),
            validation_accuracy=head.hits(validation).float().mean().item(),
            learning_rate=0.0,
            seconds=time.perf_counter() - started,
        )

    def tune(
        self, checkpoint: Checkpoint, saved: dict[str, Any] | None, on_epoch: OnEpoch
    ) -> tuple[tuple[ClassifierEpoch, ...], int, str]:
        """Solve for the head, then fine-tune, or go on with what was `saved`. Returns all epochs, fine-tuning's steps as
        planned, and what was kept."""
        weights = class_weights(self.data.train_labels, self.classes)
        tuning = FineTuning(self.model, self.data, self.config, self.compute, weights)
        if saved is not None:
            tuning.load(saved)
        else:
            head = self.train_head()
            tuning.begin(head)
            checkpoint.save(tuning.state())
            on_epoch(head)
        if not tuning.total:
            say("The budget leaves no time for fine-tuning: the linear head is kept.")
        best = tuning.run(checkpoint, on_epoch, self.on_step)
        history = tuple(tuning.history)
        if best > 1:
            engine = features.engine(self.model, self.compute)
            found = features.features_of(self.data.train_images, engine, None, lambda done, seconds: None)
            self.model.fit_embedding(torch.from_numpy(found).to(self.compute.device))
        kept = what_is_kept(history, best)
        if tuning.total:
            say(f"Kept: {kept}.")
        return history, tuning.total, kept

    def _features(self) -> tuple[Features, Features]:
        """Of the training and of the validation images."""
        data, engine = self.data, features.engine(self.model, self.compute)
        total = len(data.train_images) + len(data.validation_images)

        def computed(images: Images, labels: np.ndarray, before: int) -> Features:
            def on_image(done: int, seconds: float) -> None:
                self.on_step(Progress(before + done, total, None, seconds / done * (total - before - done)))

            found = features.features_of(images, engine, self.store, on_image)
            return Features(torch.from_numpy(found), torch.from_numpy(labels), self.classes)

        train = computed(data.train_images, data.train_labels, 0)
        return train, computed(data.validation_images, data.validation_labels, len(data.train_images))

    def _judge(self, head: LinearHead, train: Features, validation: Features, weights: torch.Tensor) -> None:
        """Raise TrainingError if nothing was learned: judged on validation, with out-of-fold training images if that is few."""
        hits = int(head.hits(validation).sum())
        found = health.Evidence.of(self.data.train_labels, self.data.validation_labels, hits)
        if found.verdict != "learned":
            hits = linear_head.out_of_fold(train, weights, head.strength, self.config.seed)
            found = found.joined(health.Evidence.of(self.data.train_labels, self.data.train_labels, hits))
        health.require_learned(found, "the linear head on the backbone's features")
