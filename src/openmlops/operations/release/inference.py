"""Batch inference: preprocesses images as serving does, in batches, and collects predictions and features.

The only offline inference path, for exported and eager models alike.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from openmlops.images.lazy import Images, LazyImages, batches, fitted
from openmlops.operations.release.model_card import DESCRIPTION_FILE, Description
from openmlops.usecases.base import ModelInput, Outputs, UseCase

if TYPE_CHECKING:
    from openmlops.adapters.onnx_model import OnnxModel

BATCH = 250
"""images per batch, fewer if they are large"""
BATCH_PIXELS = 250 * 32 * 32
"""pixels per batch: what the layers of a network hold grows with them"""


class Model(Protocol):
    """A model that can run a batch: an `OnnxModel`, or an eager torch module."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the model input."""

    @property
    def resize(self) -> str:
        """How images become the model input: `Preprocessing.resize`."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 (n, height, width, 3) -> output tensors by name, n rows each."""


def load_exported(use_case: UseCase, folder: Path) -> "OnnxModel":
    """Load the ONNX model of a version's folder. Raises ModelCorrupt."""
    from openmlops.adapters.onnx_model import OnnxModel

    resize = Description.read(folder / DESCRIPTION_FILE).preprocessing.resize
    return OnnxModel(folder / "model.onnx", use_case.task.outputs, resize=resize)


def predict(use_case: UseCase, model: Model, images: Images) -> np.ndarray:
    """Predictions on n images, (n, ...) in the task's format."""
    return np.concatenate([outputs.predictions for _, outputs in _batches(use_case, model, images)])


def predict_with_features(use_case: UseCase, model: Model, images: Images) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Predictions on n images, and the features for drift detection, (n,) by name."""
    parts = [
        (outputs.predictions, use_case.features(model_input, outputs))
        for model_input, outputs in _batches(use_case, model, images)
    ]
    names = parts[0][1]
    return np.concatenate([found for found, _ in parts]), {
        name: np.concatenate([columns[name] for _, columns in parts]) for name in names
    }


def _batches(use_case: UseCase, model: Model, images: Images) -> Iterator[tuple[ModelInput, Outputs]]:
    height, width, _ = model.image_shape
    for model_input in model_inputs(use_case, model, images, parts_of(len(images), (height, width, 3))):
        yield model_input, use_case.to_predictions(model.run(model_input.pixels), model_input)


def parts_of(n: int, image_shape: tuple[int, int, int]) -> list[np.ndarray]:
    """The rows of n images of a model input (height, width, 3), in parts that are run at once."""
    size = max(1, min(BATCH, BATCH_PIXELS // (image_shape[0] * image_shape[1])))
    return [np.arange(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def model_inputs(use_case: UseCase, model: Model, images: Images, parts: Sequence[np.ndarray]) -> Iterator[ModelInput]:
    """The model input of each of `parts` (rows). Of images that are large and on demand only the model input is held."""
    (height, width, _), resize = model.image_shape, model.resize
    images = use_case.shown_to(images, (height, width))
    if not isinstance(images, LazyImages) or images.frame is not None:
        for batch in batches(images, parts):
            yield use_case.model_input(batch, (height, width), resize)
        return
    original = images.sizes

    def fit(image: np.ndarray) -> np.ndarray:
        return use_case.model_input([image], (height, width), resize).pixels[0]

    shown = fitted(images, fit, (height, width), resize)
    for part, pixels in zip(parts, batches(shown, parts), strict=True):
        yield ModelInput(pixels, original[part], resize)
