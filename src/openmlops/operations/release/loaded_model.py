"""A version's exported model in a program: images as programs hold them -> predictions, as the server makes them.

Every image becomes what a client would send, a file, and is decoded by the use case. Not here: batches of a data set
(`inference`), and the server's own checks of a version (`serving.predictor`).
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openmlops.core.images.decoding import png, upright_pixels
from openmlops.core.types import ModelRef
from openmlops.errors import DataError, SettingsError
from openmlops.files import content_of
from openmlops.operations.release import inference
from openmlops.operations.release.aliases import find_version, full_spec
from openmlops.operations.release.model_card import DESCRIPTION_FILE, Description
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import UseCase

if TYPE_CHECKING:
    from PIL.Image import Image

    from openmlops.adapters.onnx_model import OnnxModel

Shown: TypeAlias = "np.ndarray | Image | str | os.PathLike[str] | bytes"
"""an image: an array uint8 (h, w), (h, w, 3) or (h, w, 4), a Pillow image, the path of a file, or a file's bytes"""

DECODED_AT_ONCE = 64
"""images in memory"""


@dataclass(frozen=True)
class LoadedModel:
    """A version's exported model. `predict` may be called from one thread at a time."""

    ref: ModelRef
    """which version it is: `ref.name`, `ref.version`, `ref.sha256`"""
    classes: tuple[str, ...]
    """class names, in the order of the predictions' classes"""
    task: str
    """`classification` or `detection`"""
    _use_case: UseCase
    _model: "OnnxModel"

    def predict(self, images: "Shown | Sequence[Shown]") -> np.ndarray:
        """Predictions on n images, or on one (n = 1). Nothing is logged.

        A classifier's are probabilities, float32 (n, classes). A detector's are an object array (n,) of boxes, float32
        (k, 6): x1, y1, x2, y2 in pixels of the image, score, class index. Images of any size; colours are RGB, transparency is
        dropped, and files are turned upright as their EXIF data say. Raises DataError that names the image.
        """
        shown = _listed(images)
        parts = [inference.predict(self._use_case, self._model, batch) for batch in self._batches(shown)]
        if parts:
            return np.concatenate(parts)
        return np.empty(0, object) if self.task == "detection" else np.zeros((0, len(self.classes)), np.float32)

    def _batches(self, shown: Sequence[Any]) -> Iterator[np.ndarray]:
        for first in range(0, len(shown), DECODED_AT_ONCE):
            part = shown[first : first + DECODED_AT_ONCE]
            batch = np.empty(len(part), object)
            for row, image in enumerate(part):
                batch[row] = self._decoded(image, first + row)
            yield np.stack(list(batch)) if self._use_case.frame else batch

    def _decoded(self, image: Any, number: int) -> np.ndarray:
        try:
            return self._use_case.decoded(_as_file(image), self._model.image_shape[:2])
        except DataError as error:
            name = f"{os.fspath(image)}" if isinstance(image, str | os.PathLike) else f"number {number}, counted from 0"
            raise DataError(f"The image {name} cannot be used: {error.problem}", error.remedy) from error

    def __repr__(self) -> str:
        return f"<{self.ref.name}/{self.ref.version}: {self.task}, {len(self.classes)} classes>"


def open_model(workspace: Workspace, spec: str) -> LoadedModel:
    """Load `MODEL@champion`, `MODEL/3` or `MODEL`, its files verified. Raises ModelNotFound, ModelCorrupt, SettingsError."""
    ref = find_version(workspace, full_spec(spec))
    folder, use_case = workspace.registry.fetch(ref), workspace.use_case
    description = Description.read(folder / DESCRIPTION_FILE)
    if description.use_case != use_case.name:
        problem = f"{ref.name}/{ref.version} is a model of the use case '{description.use_case}', not of '{use_case.name}'"
        raise SettingsError(problem, "Set USE_CASE to its use case, or pass use_case=")
    model = inference.load_exported(use_case, folder)
    return LoadedModel(ref, description.classes, use_case.task.kind, use_case, model)


def _listed(images: Any) -> Sequence[Any]:
    """The images one by one."""
    if isinstance(images, np.ndarray) and images.dtype != object:
        several = images.ndim == 4 or (images.ndim == 3 and images.shape[2] not in (1, 3, 4))
        return list(images) if several else [images]
    if isinstance(images, str | bytes | os.PathLike) or hasattr(images, "getexif"):
        return [images]
    return list(images)


def _as_file(image: Any) -> bytes:
    """The image as a client would send it."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        try:
            return content_of(Path(image))
        except OSError as error:
            raise DataError(f"the file cannot be read ({error.strerror})", "Give the path of an image file") from error
    if isinstance(image, np.ndarray):
        return png(_pixels(image))
    if hasattr(image, "getexif"):
        return png(upright_pixels(image))
    raise DataError(f"it is a {type(image).__name__}", "Give an array, a Pillow image, a path, or the bytes of a file")


def _pixels(image: np.ndarray) -> np.ndarray:
    """An array -> uint8 (h, w, 3)."""
    if image.dtype != np.uint8:
        raise DataError(f"the array is {image.dtype}, not uint8", "Give RGB values from 0 to 255 as uint8")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
        raise DataError(f"the array has the shape {image.shape}", "Give (height, width, 3), or (height, width)")
    return np.ascontiguousarray(image[:, :, :3])
