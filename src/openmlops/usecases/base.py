"""The interface of a use case: one frozen dataclass of functions. A new use case is a module that exports `USE_CASE`.

The functions take and return numpy arrays, paths and values. Those that need torch import it inside the function, because the
server loads a use case without torch. Images are uint8 (n, height, width, 3), RGB; images of different sizes are an object
array (n,) of uint8 (height, width, 3), which is indexed in the same way. Those of a data set may be on demand (images/lazy.py).
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from openmlops.core.tasks import Task
from openmlops.core.types import Preprocessing, Problem, Value
from openmlops.errors import DataError, OpenMLOpsError, SettingsError
from openmlops.images.lazy import Images, LazyImages
from openmlops.renamed import fields, names
from openmlops.usecases import BUILT_IN
from openmlops.usecases.arranging import Arranged

__getattr__ = names(__name__, Shown="ModelInput", OnCall="LazyFunction", on_call="lazy")


@dataclass(frozen=True)
class Rows:
    """A data set, one row per image, in the order of its files."""

    images: Images
    """uint8 (n, height, width, 3), an object array (n,) of uint8 (height, width, 3) for different sizes, or on demand"""
    labels: np.ndarray
    """(n,) labels as the task defines them: class indices (int64), or an object array of boxes float32 (m, 5)"""
    names: tuple[str, ...]
    """class names, in the order of their indices"""
    test: np.ndarray
    """bool (n,): belongs to the test split, which is fixed by the publisher"""
    validation: np.ndarray | None = None
    """bool (n,): belongs to the validation split fixed by the publisher; None if it is to be drawn"""


@dataclass(frozen=True)
class Labelled:
    """Images of a folder, their labels as in `Rows`, None if it has none, and the problems of files that were left out.

    `names`: the classes by their numbers in `labels`, if the folder names them; else they are those of the data set.
    """

    images: Images
    labels: np.ndarray | None
    problems: tuple[Problem, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelInput:
    """A batch of images as the model takes them."""

    pixels: np.ndarray
    """uint8 (n, height, width, 3), resized or letterboxed to the model's input size"""
    sizes: np.ndarray
    """int64 (n, 2): original height and width of each image in pixels"""
    resize: str = "default"
    """how it was made of the images: `Preprocessing.resize`"""

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def joined(cls, parts: "Sequence[ModelInput]") -> "ModelInput":
        """The concatenation of several batches."""
        sizes = np.concatenate([part.sizes for part in parts])
        return cls(np.concatenate([part.pixels for part in parts]), sizes, parts[0].resize)

    def part(self, rows: slice) -> "ModelInput":
        """A slice of the batch."""
        return ModelInput(self.pixels[rows], self.sizes[rows], self.resize)


@fields(answers="predictions")
@dataclass(frozen=True)
class Outputs:
    """The outputs of an exported model for n images."""

    predictions: np.ndarray
    """(n, ...) predictions as the task defines them: probabilities float32 (n, classes), or an object array of boxes (k, 6)"""
    embedding: np.ndarray
    """float32 (n, d), for drift detection"""
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """further outputs that clients may request, by name, n rows each"""

    def part(self, rows: slice) -> "Outputs":
        """The outputs for a slice of the images."""
        return Outputs(
            self.predictions[rows], self.embedding[rows], {name: found[rows] for name, found in self.tensors.items()}
        )

    @classmethod
    def joined(cls, parts: "Sequence[Outputs]") -> "Outputs":
        """The concatenation of the outputs for several batches."""
        tensors = {name: np.concatenate([part.tensors[name] for part in parts]) for name in parts[0].tensors}
        predictions, embedding = ([getattr(part, name) for part in parts] for name in ("predictions", "embedding"))
        return cls(np.concatenate(predictions), np.concatenate(embedding), tensors)


def _mapping() -> Any:
    return field(default_factory=dict)  # `UseCase` has a field of this name


@fields(show="to_model_input", answer="to_predictions")
@dataclass(frozen=True)
class UseCase:
    """The functions of one use case, in the order in which the loop uses them."""

    name: str
    model_name: str
    """name of the registered model"""
    folder: str
    """name of the data set's folder below DATA_RAW_DIR"""
    about: str
    """source and licence of the data in one sentence, for the model card"""
    task: Task
    """CLASSIFICATION or DETECTION: defines labels, predictions and the score"""
    config: type[Value]
    """its `TrainConfig`: the training options with defaults and units"""
    read: Callable[..., Rows]
    """folder -> rows. Raises DataError if it cannot be read. If images are `files`, their index may be given too"""
    check: Callable[..., tuple[tuple[Problem, ...], dict[str, int]]]
    """folder -> problems, and images (or boxes) per class. Bad data is returned as problems and never raises. If images are
    `files`, their index may be given too"""
    split: Callable[[Rows, int], dict[str, np.ndarray]]
    """rows, seed -> row indices (int64) of `train`, `validation` and `test`, disjoint by image content"""
    preprocess: Callable[[Rows, np.ndarray], Preprocessing]
    """rows, train indices -> the normalisation in the model's first layer"""
    build: Callable[[Value, Preprocessing, Rows, np.ndarray], Any]
    """config, preprocessing, rows, train indices -> torch module on raw uint8 images; `image_shape` is (height, width, 3)"""
    fit: Callable[..., Any]
    """the training: `fit(model, rows, indices, config, folder=, key=, on_epoch=, on_step=, on_start=)` -> loop.FitResult, as
    `learning.loop.fit` documents it; `indices` is the result of `split`"""
    served: Callable[[Any], Any]
    """trained module -> module on raw uint8 (n, height, width, 3) with the task's `outputs`, in that order"""
    decode: Callable[[bytes], np.ndarray]
    """an image file's bytes (core.images.decoding.FORMATS) -> one image uint8 (h, w, 3), RGB. Raises DataError"""
    to_model_input: Callable[[Sequence[np.ndarray] | np.ndarray, tuple[int, int]], ModelInput]
    """images, the model's input size (height, width) -> model input; the same function in training, serving and monitoring"""
    to_predictions: Callable[[Mapping[str, np.ndarray], ModelInput], Outputs]
    """a served model's raw outputs by name, its input -> outputs; numpy only"""
    features: Callable[[ModelInput, Outputs], dict[str, np.ndarray]]
    """model input, outputs -> feature columns for drift detection: float32 (n,) by name, finite"""
    sample: Callable[[Path], Path]
    """folder -> writes a small deterministic data set into it in the same layout, offline, and returns the folder"""
    field: Callable[[int, int], tuple[np.ndarray, np.ndarray]] | None = None
    """count, part -> images and labels of simulated production traffic for a model of the sample; none of them is in the
    sample or in another part. None if there is no such source"""
    archive: "Archive | None" = None
    """the published archive of the official data set, if there is one"""
    from_archive: Callable[[Path, Path], Path] | None = None
    """folder of the unpacked archive, new folder -> writes the data set into it in `read`'s layout; None if it has that"""
    extend: Callable[[Path, Any, np.ndarray, Path], Path] | None = None
    """folder, images, labels, new folder -> writes the data set with these images added to its training images into the new
    folder, and returns that; None if production images cannot be used for training"""
    labelled: "Callable[[Path], Labelled | tuple[np.ndarray, np.ndarray]] | None" = None
    """folder of images -> images, and labels if there are any, as a client would send them. Raises DataError. None if there is
    no such layout"""
    leave_out_bad_labels: Callable[[Path], tuple[Problem, ...]] | None = None
    """folder -> makes label lines that cannot be used comments, in place, and returns them; None if labels are not in files"""
    files: Callable[[Path], tuple[str, ...]] | None = None
    """folder -> the paths of its images, of which `check` says which are left out; None if images are no files"""
    beside: Callable[[str], tuple[str, ...]] = lambda path: ()
    """path of an image file -> the paths of the files that belong to it, such as its labels"""
    frame: tuple[int, int] | None = None
    """height and width in pixels of every image that `decode` returns; None if each has its own"""
    arrange: Callable[..., Arranged] | None = None
    """folder in another layout, new folder, whether to skip any number of unusable files, what to call with the progress ->
    writes the data set into it in `read`'s layout; None if no other layout is read"""
    in_layout: Callable[[Path], bool] = lambda folder: True
    """folder -> whether it is in `read`'s layout: others are arranged first"""
    names: Callable[[Path], tuple[str, ...]] | None = None
    """folder -> its class names, if the data set itself names them; None if the use case does"""
    weights: "Archive | None" = None
    """published pretrained weights, if there are any; `folder` is then the file's name"""
    resolve: "Callable[[Value, Preprocessing], tuple[Value, Preprocessing]]" = lambda config, statistics: (config, statistics)
    """config, what `preprocess` returned -> both as they identify a training: files (pretrained weights) by their content, and
    the normalisation of the model that is trained. Resolving again changes nothing. Raises TrainingError"""
    origin: "Callable[[Value], str]" = lambda config: ""
    """resolved config -> source and licence of the pretrained weights that a training starts from, in a sentence for the model
    card; empty if there are none"""
    resizings: Mapping[str, Callable[[Sequence[np.ndarray] | np.ndarray, tuple[int, int]], "ModelInput"]] = _mapping()
    """further ways to `to_model_input`, by the `resize` that a version's preprocessing records"""
    decode_for: Callable[[bytes, tuple[int, int]], np.ndarray] | None = None
    """an image file's bytes, a version's input size (height, width) -> one image as `decode` returns it, for use cases that
    reduce large images: by how much depends on that version alone, not on what the project is set to now"""
    unrecorded: Mapping[str, Any] = _mapping()
    """values of configuration fields in records from before those fields existed"""

    def model_input(
        self, images: Sequence[np.ndarray] | np.ndarray, shape: tuple[int, int], resize: str = "default"
    ) -> "ModelInput":
        """The model input of (height, width) for a version that records `resize`. Raises DataError for an unknown one."""
        if resize == "default":
            return self.to_model_input(images, shape)
        if resize not in self.resizings:
            problem = f"The use case {self.name} does not resize images by '{resize}', as this version needs"
            raise DataError(problem, "Use the code that the version was trained with, or train again")
        return self.resizings[resize](images, shape)

    def decoded(self, content: bytes, shape: tuple[int, int]) -> np.ndarray:
        """An image file's bytes -> one image, for a version whose input has `shape` (height, width). Raises DataError."""
        return self.decode(content) if self.decode_for is None else self.decode_for(content, shape)

    def shown_to(self, images: Images, shape: tuple[int, int]) -> Images:
        """Images of files, decoded for a version whose input has `shape` (height, width); others as they are."""
        if self.decode_for is None or not isinstance(images, LazyImages):
            return images
        return images.decoded(lambda content: self.decoded(content, shape))

    def recorded_config(self, record: Mapping[str, Any]) -> Value:
        """The configuration of a record, which may be older than some of its fields."""
        return self.config(**{**self.unrecorded, **record})


@dataclass(frozen=True)
class Archive:
    """A published archive: address, checksum (`md5:` or `sha256:` and hexadecimal) and the folder inside it."""

    url: str
    checksum: str
    folder: str


@dataclass(frozen=True)
class LazyFunction:
    """A function that is imported when it is first called or `load`ed: for functions that need torch."""

    module: str
    function: str
    extras: Mapping[str, str]
    """missing package -> the optional extra of openmlops that installs it"""

    def load(self) -> Callable[..., Any]:
        """The imported function. Raises SettingsError if the extra that it needs is not installed."""
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
        problem = f"This requires the optional extra '{extra}', which is not installed ({package} is missing)"
        return SettingsError(problem, f"Install it: pip install 'openmlops[{extra}]'")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)


def lazy(module: str, function: str, extras: Mapping[str, str] = MappingProxyType({})) -> LazyFunction:
    """`module.function`, imported when it is first called; `extras` as in LazyFunction."""
    return LazyFunction(module, function, extras)


def no_sample(folder: Path) -> Path:
    """The `sample` function of a use case that has none: raises DataError."""
    raise DataError("A project with custom images has no sample", "Run `openmlops data add FOLDER`")


def load_use_case(name: str) -> UseCase:
    """Load a use case by its built-in name or as `package.module:ATTRIBUTE`. Raises SettingsError that names the problem."""
    module, _, attribute = (f"openmlops.usecases.{name}:USE_CASE" if name in BUILT_IN else name).partition(":")
    remedy = f"Set USE_CASE to one of {', '.join(BUILT_IN)}, or to package.module:USE_CASE"
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise SettingsError(f"USE_CASE has the value '{name[:80]}', which is not a use case", remedy)
    if name not in BUILT_IN and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # modules in the current folder can be imported, as with uvicorn and celery
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"USE_CASE has the value '{name}', which cannot be loaded ({error})", remedy) from error
    except Exception as error:  # of somebody's own module
        if name in BUILT_IN or isinstance(error, OpenMLOpsError):
            raise
        problem = f"USE_CASE has the value '{name}', which cannot be loaded ({type(error).__name__}: {error}; {_place(error)})"
        raise SettingsError(problem, "Correct the file") from error
    if not isinstance(found, UseCase):
        raise SettingsError(f"USE_CASE has the value '{name}', which is a {type(found).__name__}, not a UseCase", remedy)
    return found


def _place(error: Exception) -> str:
    """The file and line at fault."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"
