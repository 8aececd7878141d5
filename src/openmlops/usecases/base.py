"""What a use case is: one frozen dataclass of functions. A new use case is a folder that exports `USE_CASE`.

The functions take and return numpy arrays, paths and values. Those that need torch import it inside, never at the top,
because the server loads a use case too. Images are uint8 (n, height, width, 3), RGB, wherever they stand in memory.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.core.types import Evaluation, Preprocessing, Problem, Value
from openmlops.errors import SettingsError

BUILT_IN = ("cifar10",)


@dataclass(frozen=True)
class Rows:
    """A data set in memory, one row an image, in the order of its files."""

    images: np.ndarray
    """uint8 (n, height, width, 3)"""
    labels: np.ndarray
    """int64 (n,), the index into `names`"""
    names: tuple[str, ...]
    test: np.ndarray
    """bool (n,): belongs to the test split that its publisher fixed"""


@dataclass(frozen=True)
class Outputs:
    """What an exported model answers for n images."""

    logits: np.ndarray
    """float32 (n, classes)"""
    probabilities: np.ndarray
    """float32 (n, classes), rows sum to 1"""
    embedding: np.ndarray
    """float32 (n, d)"""


@dataclass(frozen=True)
class UseCase:
    """The pieces of one use case, in the order of the loop."""

    name: str
    model_name: str
    folder: str
    """name of the data set's folder below DATA_RAW_DIR"""
    about: str
    """the data's source and licence in one sentence, for the model card"""
    config: type[Value]
    """its `TrainConfig`: how to train, with defaults and units"""
    read: Callable[[Path], Rows]
    """folder -> rows. Raises DataError for what cannot be read"""
    check: Callable[[Path], tuple[tuple[Problem, ...], dict[str, int]]]
    """folder -> what is wrong with it, and images per class; bad data is an answer here, never an exception"""
    split: Callable[[Rows, int], dict[str, np.ndarray]]
    """rows, seed -> row indices (int64) of `train`, `validation` and `test`, disjoint by image content"""
    preprocess: Callable[[Rows, np.ndarray], Preprocessing]
    """rows, train indices -> what the model's first layer subtracts and divides by"""
    build: Callable[[Value, Preprocessing, Rows, np.ndarray], Any]
    """config, preprocessing, rows, train indices -> torch module on raw uint8 images (n, 3, h, w) -> (logits, embedding)"""
    fit: Callable[..., Any]
    """the training loop, called as `learning.loop.fit` is"""
    evaluate: Callable[[np.ndarray, np.ndarray, tuple[str, ...], str, str], Evaluation]
    """labels, probabilities, class names, split name, split fingerprint -> evaluation"""
    export: Callable[..., Any]
    """writes the served files, called as `learning.export.export` is"""
    decode: Callable[[bytes], np.ndarray]
    """PNG or JPEG bytes -> one image uint8 (h, w, 3) of the size that the model takes. Raises DataError"""
    predict: Callable[[Mapping[str, np.ndarray]], Outputs]
    """ONNX outputs by name -> outputs; numpy only"""
    features: Callable[[np.ndarray, Outputs], dict[str, np.ndarray]]
    """images, outputs -> columns (n,) by name, float32: what drift is looked for in"""
    sample: Callable[[Path], Path]
    """folder -> writes a small deterministic data set into it in the same layout, offline, and returns it"""
    field: Callable[[int, int], tuple[np.ndarray, np.ndarray]] | None = None
    """count, part -> images and labels such as production would send to a model of the sample, none of which the sample or
    another part contains; None where there are none"""
    archive: "Archive | None" = None
    """where the official data set is published, if it is"""
    extend: Callable[[Path, np.ndarray, np.ndarray, Path], Path] | None = None
    """folder, images, labels (int64, the index into its names), new folder -> writes the data set with these images added to
    its train side into the new folder, and returns it; None where production images cannot be trained on"""


@dataclass(frozen=True)
class Archive:
    """A published archive: address, checksum (`md5:` or `sha256:` and hexadecimal) and the folder inside it."""

    url: str
    checksum: str
    folder: str


def on_call(module: str, function: str) -> Callable[..., Any]:
    """`module.function`, imported when it is first called: for what needs torch."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*args, **kwargs)

    return call


def load_use_case(name: str) -> UseCase:
    """The use case of a built-in name, or of `package.module:ATTRIBUTE`. Raises SettingsError naming what is wrong."""
    module, _, attribute = (f"openmlops.usecases.{name}:USE_CASE" if name in BUILT_IN else name).partition(":")
    remedy = f"Set USE_CASE to one of {', '.join(BUILT_IN)}, or to package.module:USE_CASE"
    if not attribute:
        raise SettingsError(f"USE_CASE has the value '{name}', which is no use case", remedy)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"USE_CASE has the value '{name}', which cannot be loaded ({error})", remedy) from error
    if not isinstance(found, UseCase):
        raise SettingsError(f"USE_CASE has the value '{name}', which is a {type(found).__name__}, not a UseCase", remedy)
    return found
