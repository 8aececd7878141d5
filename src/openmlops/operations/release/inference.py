"""Asking a model about images: show them to it as serving does, a few at a time, and gather its answers.

What is here: the one way from images to answers and features, for exported files and trained modules alike. What is not: which
images, and what the answers are good for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.usecases.base import ModelInput, Outputs, UseCase

BATCH = 250
"""images that are shown at once, unless they are large"""
BATCH_BYTES = 64 * 1024 * 1024


class Model(Protocol):
    """What answers: an `OnnxModel`, or a module in eager torch."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the images that it takes."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """uint8 (n, height, width, 3) -> its outputs by name, n rows each."""


def load_exported(use_case: UseCase, folder: Path) -> OnnxModel:
    """The model file of a version's folder. Raises ModelCorrupt."""
    return OnnxModel(folder / "model.onnx", use_case.task.outputs)


def predict(use_case: UseCase, model: Model, images: np.ndarray) -> np.ndarray:
    """What the model answers to n images, as the task calls answers: (n, ...)."""
    return np.concatenate([outputs.predictions for _, outputs in _batches(use_case, model, images)])


def predict_with_features(use_case: UseCase, model: Model, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The same, and the columns that drift is looked for in, (n,) by name."""
    parts = [
        (outputs.predictions, use_case.features(model_input, outputs))
        for model_input, outputs in _batches(use_case, model, images)
    ]
    names = parts[0][1]
    return np.concatenate([found for found, _ in parts]), {
        name: np.concatenate([columns[name] for _, columns in parts]) for name in names
    }


def _batches(use_case: UseCase, model: Model, images: np.ndarray) -> Iterator[tuple[ModelInput, Outputs]]:
    height, width, channels = model.image_shape
    size = max(1, min(BATCH, BATCH_BYTES // (height * width * channels)))
    for start in range(0, max(len(images), 1), size):
        model_input = use_case.to_model_input(images[start : start + size], (height, width))
        yield model_input, use_case.to_predictions(model.run(model_input.pixels), model_input)
