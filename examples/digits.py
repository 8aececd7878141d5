"""A use case of your own, whole: handwritten digits from scikit-learn, a small network, one file.

    export USE_CASE=examples.digits:USE_CASE
    openmlops data sample && openmlops train && openmlops serve

Everything else (data versions, evaluation, registry, gate, server, monitoring, retraining) is what the built-in ones use.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from sklearn.datasets import load_digits

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.images import decoding
from openmlops.core.types import Preprocessing, Problem, Value
from openmlops.core.validation import check_balance, check_duplicates, check_labels, problem
from openmlops.errors import DataError
from openmlops.files import replacing
from openmlops.usecases import classifier
from openmlops.usecases.base import Rows, UseCase, lazy

FILE, SIDE, NAMES = "digits.npz", 16, tuple("0123456789")
"""the data set's only file; height and width of an image in pixels; its classes"""


class TrainConfig(Value):
    """How to train: what `openmlops train` takes as options, and `--set`."""

    epochs: float = Field(20, gt=0, description="epochs")
    lr: float = Field(0.1, gt=0, description="peak learning rate of the convolution filters")
    batch_size: int = Field(50, gt=0, description="batch size")
    seed: int = Field(0, ge=0, description="seed for split, weight initialisation, data order and augmentation")
    steps: int | None = Field(None, gt=0, description="batches in all; filled in")
    threads: int | None = Field(None, gt=0, description="CPU threads; none: the available cores")


def sample(folder: Path) -> Path:
    """1,797 digits, enlarged to 16x16; the last 400 to test with."""
    found = load_digits()
    images = np.repeat(np.repeat(found.images * 255 // 16, 2, axis=1), 2, axis=2).astype(np.uint8)
    with replacing(folder / FILE) as beside, beside.open("wb") as file:
        np.savez(file, images=np.stack([images] * 3, axis=3), labels=found.target.astype(np.int64), tested=np.array(400))
    return folder


def read(folder: Path) -> Rows:
    """The file as rows. Raises DataError."""
    try:
        with np.load(folder / FILE) as stored:
            images, labels, tested = stored["images"], stored["labels"], int(stored["tested"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / FILE} cannot be read ({type(error).__name__})", "Restore it") from error
    return Rows(images, labels, NAMES, np.arange(len(labels)) >= len(labels) - tested)


def check(folder: Path) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """What is wrong with it."""
    try:
        rows = read(folder)
    except DataError as error:
        return (problem(error.problem, FILE),), {}
    found = check_labels(rows.labels, len(rows.images), len(NAMES), FILE)
    if not found:
        found = check_balance(rows.labels, NAMES, FILE)
        found += check_duplicates(rows.images[~rows.test], rows.images[rows.test], "the train images", "the test images")
    return tuple(found), {name: int((rows.labels == index).sum()) for index, name in enumerate(NAMES)}


def build(config: Value, preprocessing: Preprocessing, rows: Rows, train: np.ndarray) -> Any:
    """Two convolutions on raw pixels -> (logits, embedding)."""
    import torch
    from torch import nn

    class Network(nn.Module):
        image_shape = (SIDE, SIDE, 3)

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))
            self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
            self.head = nn.Linear(32, len(NAMES))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = (images.float() - self.mean) / self.std
            for layer in (self.first, self.second):
                x = torch.max_pool2d(torch.relu(layer(x)), 2)
            embedding = x.amax((2, 3))
            return self.head(embedding), embedding

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.model_dump()["seed"])
        return Network()


def fit(model: Any, rows: Rows, indices: Mapping[str, np.ndarray], config: Value, **how: Any) -> Any:
    """The loop that the built-in classifier uses: resumable, deterministic on a CPU."""
    from dataclasses import replace

    from openmlops.learning.config import FitConfig
    from openmlops.learning.loop import FitData, fit

    data = FitData(*(part[indices[name]] for name in ("train", "validation") for part in (rows.images, rows.labels)))
    given = config.model_dump(exclude_none=True)
    if "steps" in given:
        given.pop("epochs")
    result = fit(model, data, FitConfig(**given, flip=False, crop=1, device="cpu"), **how)
    return replace(result, config=config.model_copy(update={"steps": result.config.model_dump()["steps"]}))


def decode(content: bytes) -> np.ndarray:
    """PNG or JPEG -> uint8 (16, 16, 3)."""
    return decoding.decode_image(content, SIDE, SIDE)


served: Callable[[Any], Any] = lazy("openmlops.learning.export", "ServedClassifier")

USE_CASE = UseCase(
    name="digits",
    model_name="digits_cnn",
    folder="digits",
    about="Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), UCI; CC BY 4.0.",
    task=CLASSIFICATION,
    config=TrainConfig,
    read=read,
    check=check,
    split=classifier.split,
    preprocess=classifier.preprocess,
    build=build,
    fit=fit,
    served=served,
    decode=decode,
    to_model_input=classifier.to_model_input,
    to_predictions=classifier.to_predictions,
    features=classifier.features,
    sample=sample,
)
