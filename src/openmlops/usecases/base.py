"""What a use case is: one frozen dataclass of functions. A new use case is a folder that exports `USE_CASE`.

The functions take and return numpy arrays, paths and values. Those that need torch import it inside, never at the top,
because the server loads a use case too. Images are uint8 (n, height, width, 3), RGB, wherever they stand in memory; those of
different sizes are an object array (n,), which is indexed in the same way.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from openmlops.core.tasks import Task
from openmlops.core.types import Preprocessing, Problem, Value
from openmlops.errors import DataError, SettingsError
from openmlops.renamed import fields, names
from openmlops.usecases import BUILT_IN

__getattr__ = names(__name__, Shown="ModelInput", OnCall="LazyFunction", on_call="lazy")


@dataclass(frozen=True)
class Rows:
    """A data set in memory, one row an image, in the order of its files."""

    images: np.ndarray
    """uint8 (n, height, width, 3); of different sizes: an object array (n,) of uint8 (height, width, 3)"""
    labels: np.ndarray
    """(n,), what the task calls a label: a class index (int64), or an object array of boxes float32 (m, 5)"""
    names: tuple[str, ...]
    test: np.ndarray
    """bool (n,): belongs to the test split that its publisher fixed"""
    validation: np.ndarray | None = None
    """bool (n,): belongs to the validation split that its publisher fixed; None where it is drawn"""


@dataclass(frozen=True)
class ModelInput:
    """Images as a model is shown them."""

    pixels: np.ndarray
    """uint8 (n, height, width, 3), all of the size that the model takes"""
    sizes: np.ndarray
    """int64 (n, 2): height and width of each as it came, in pixels"""

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def joined(cls, parts: "Sequence[ModelInput]") -> "ModelInput":
        """Several, one after the other."""
        return cls(np.concatenate([part.pixels for part in parts]), np.concatenate([part.sizes for part in parts]))


@fields(answers="predictions")
@dataclass(frozen=True)
class Outputs:
    """What an exported model answers for n images."""

    predictions: np.ndarray
    """(n, ...) what the task calls an answer: probabilities float32 (n, classes), or an object array of boxes (k, 6)"""
    embedding: np.ndarray
    """float32 (n, d)"""
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """what else the model answered that clients may ask for, n rows each"""

    def part(self, rows: slice) -> "Outputs":
        """Some of the images."""
        return Outputs(
            self.predictions[rows], self.embedding[rows], {name: found[rows] for name, found in self.tensors.items()}
        )


@fields(show="to_model_input", answer="to_predictions")
@dataclass(frozen=True)
class UseCase:
    """The pieces of one use case, in the order of the loop."""

    name: str
    model_name: str
    folder: str
    """name of the data set's folder below DATA_RAW_DIR"""
    about: str
    """the data's source and licence in one sentence, for the model card"""
    task: Task
    """CLASSIFICATION or DETECTION: what a label, an answer and a score are"""
    config: type[Value]
    """its `TrainConfig`: how to train, with defaults and units"""
    read: Callable[[Path], Rows]
    """folder -> rows. Raises DataError for what cannot be read"""
    check: Callable[[Path], tuple[tuple[Problem, ...], dict[str, int]]]
    """folder -> what is wrong with it, and images (or boxes) per class; bad data is an answer here, never an exception"""
    split: Callable[[Rows, int], dict[str, np.ndarray]]
    """rows, seed -> row indices (int64) of `train`, `validation` and `test`, disjoint by image content"""
    preprocess: Callable[[Rows, np.ndarray], Preprocessing]
    """rows, train indices -> what the model's first layer subtracts and divides by"""
    build: Callable[[Value, Preprocessing, Rows, np.ndarray], Any]
    """config, preprocessing, rows, train indices -> torch module on raw uint8 images; `image_shape` is (height, width, 3)"""
    fit: Callable[..., Any]
    """the training: `fit(model, rows, indices, config, folder=, key=, on_epoch=, on_step=, on_start=)` -> loop.FitResult, as
    `learning.loop.fit` documents it; `indices` are what `split` returned"""
    served: Callable[[Any], Any]
    """trained module -> module on raw uint8 (n, height, width, 3) with the outputs that the task names, in that order"""
    decode: Callable[[bytes], np.ndarray]
    """PNG or JPEG bytes -> one image uint8 (h, w, 3), RGB. Raises DataError"""
    to_model_input: Callable[[Sequence[np.ndarray] | np.ndarray, tuple[int, int]], ModelInput]
    """images, (height, width) that the model takes -> what it is shown: the one way in training, serving and monitoring"""
    to_predictions: Callable[[Mapping[str, np.ndarray], ModelInput], Outputs]
    """a served model's outputs by name, what it was shown -> outputs; numpy only"""
    features: Callable[[ModelInput, Outputs], dict[str, np.ndarray]]
    """what it was shown, outputs -> columns (n,) by name, float32, finite: what drift is looked for in"""
    sample: Callable[[Path], Path]
    """folder -> writes a small deterministic data set into it in the same layout, offline, and returns it"""
    field: Callable[[int, int], tuple[np.ndarray, np.ndarray]] | None = None
    """count, part -> images and labels such as production would send to a model of the sample, none of which the sample or
    another part contains; None where there are none"""
    archive: "Archive | None" = None
    """where the official data set is published, if it is"""
    from_archive: Callable[[Path, Path], Path] | None = None
    """folder of the unpacked archive, new folder -> writes the data set into it in its own layout; None where it has that"""
    extend: Callable[[Path, np.ndarray, np.ndarray, Path], Path] | None = None
    """folder, images, labels, new folder -> writes the data set with these images added to its train side into the new folder,
    and returns it; None where production images cannot be trained on"""
    labelled: Callable[[Path], tuple[np.ndarray, np.ndarray]] | None = None
    """folder of labelled images that belong to no split -> images and labels, as a client has them. Raises DataError. None
    where there is no such layout"""
    weights: "Archive | None" = None
    """a published file of weights that a training can start from, if there is one; `folder` is then the file's name"""


@dataclass(frozen=True)
class Archive:
    """A published archive: address, checksum (`md5:` or `sha256:` and hexadecimal) and the folder inside it."""

    url: str
    checksum: str
    folder: str


@dataclass(frozen=True)
class LazyFunction:
    """A function that is imported when it is first called or `load`ed: for what needs torch."""

    module: str
    function: str
    extras: Mapping[str, str]
    """the optional extra of this package that brings a package"""

    def load(self) -> Callable[..., Any]:
        """The function itself. Raises SettingsError where the extra that it needs is not installed."""
        try:
            found = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if (package := error.name or "") not in self.extras:
                raise
            raise self._lacks(package) from error
        return getattr(found, self.function)  # type: ignore[no-any-return]

    def require(self) -> None:
        """Make sure, importing nothing, that the packages of the extras are installed. Raises SettingsError as `load` does."""
        for package in self.extras:
            if importlib.util.find_spec(package) is None:
                raise self._lacks(package)

    def _lacks(self, package: str) -> SettingsError:
        extra = self.extras[package]
        problem = f"This needs the optional extra '{extra}', which is not installed (there is no {package})"
        return SettingsError(problem, f"Install it: pip install 'openmlops[{extra}]'")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)


def lazy(module: str, function: str, extras: Mapping[str, str] = MappingProxyType({})) -> LazyFunction:
    """`module.function`, imported when it is first called."""
    return LazyFunction(module, function, extras)


def no_sample(folder: Path) -> Path:
    """The `sample` of a use case that has none. Raises DataError."""
    raise DataError("A project with images of its own has no sample", "Run `openmlops data add FOLDER`")


def load_use_case(name: str) -> UseCase:
    """The use case of a built-in name, or of `package.module:ATTRIBUTE`. Raises SettingsError naming what is wrong."""
    module, _, attribute = (f"openmlops.usecases.{name}:USE_CASE" if name in BUILT_IN else name).partition(":")
    remedy = f"Set USE_CASE to one of {', '.join(BUILT_IN)}, or to package.module:USE_CASE"
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise SettingsError(f"USE_CASE has the value '{name[:80]}', which is no use case", remedy)
    if name not in BUILT_IN and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a module in the current folder, as uvicorn and celery find theirs
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"USE_CASE has the value '{name}', which cannot be loaded ({error})", remedy) from error
    if not isinstance(found, UseCase):
        raise SettingsError(f"USE_CASE has the value '{name}', which is a {type(found).__name__}, not a UseCase", remedy)
    return found
