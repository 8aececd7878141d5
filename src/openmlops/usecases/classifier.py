"""Functions shared by classifiers of small images: split, preprocessing, model input, predictions, and features for drift
detection. numpy only, no torch. What is not here: the network, the data, and the task (core.classification).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from openmlops.core.images.statistics import image_statistics
from openmlops.core.types import Preprocessing
from openmlops.renamed import names
from openmlops.usecases import splitting
from openmlops.usecases.base import ModelInput, Outputs, Rows

__getattr__ = names(__name__, show="to_model_input", answer="to_predictions")

VALIDATION_SHARE = 0.1
"""Share of each class's training images held out for validation."""


def split(rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """Row indices of the three splits, stratified by class (`splitting.split`)."""
    return splitting.split(rows, seed, VALIDATION_SHARE, rows.labels)


def preprocess(rows: Rows, train: np.ndarray) -> Preprocessing:
    """Mean and standard deviation of each channel over the training images in memory, exact (from integer histograms)."""
    assert isinstance(rows.images, np.ndarray)
    moments = [_moments(np.bincount(rows.images[train, :, :, channel].ravel(), minlength=256)) for channel in range(3)]
    (red, red_std), (green, green_std), (blue, blue_std) = moments
    return Preprocessing(mean=(red, green, blue), std=(red_std, green_std, blue_std))


def _moments(histogram: np.ndarray) -> tuple[float, float]:
    values = np.arange(256)
    n = int(histogram.sum())
    total, squares = int(histogram @ values), int(histogram @ values**2)
    return total / n, ((squares * n - total**2) ** 0.5) / n


def to_model_input(images: Sequence[np.ndarray] | np.ndarray, shape: tuple[int, int]) -> ModelInput:
    """The images unchanged: `decode` and `read` already return them at the model's input size."""
    pixels = images if isinstance(images, np.ndarray) else np.stack(images)
    return ModelInput(pixels, np.broadcast_to(np.array(pixels.shape[1:3], np.int64), (len(pixels), 2)))


def to_predictions(tensors: Mapping[str, np.ndarray], model_input: ModelInput) -> Outputs:
    """The model's raw outputs by name -> outputs. Softmax is part of the exported graph."""
    return Outputs(tensors["probabilities"], tensors["embedding"], {"logits": tensors["logits"]})


def features(model_input: ModelInput, outputs: Outputs) -> dict[str, np.ndarray]:
    """Model input and outputs -> feature columns float32 (n,) by name.

    `image.brightness` and the other image statistics, `logprob.3` (natural logarithm, one per class), `embedding.07`.
    """
    statistics = {f"image.{name}": column for name, column in image_statistics(model_input.pixels).items()}
    logprobs = _log_softmax(outputs.tensors["logits"])
    return {**statistics, **_columns("logprob", logprobs), **_columns("embedding", outputs.embedding)}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Computed from logits, because a probability that underflows to 0 has no logarithm."""
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _columns(name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    digits = len(str(rows.shape[1] - 1))
    return {f"{name}.{i:0{digits}d}": np.ascontiguousarray(rows[:, i], dtype=np.float32) for i in range(rows.shape[1])}
