"""One loaded model version: its files verified, its outputs on the golden batch checked, warmed up.

Not here: when a version is loaded (`deployment`), and where batches come from (`batching`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.adapters.inference_log import Layout
from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.images.decoding import png
from openmlops.core.tasks import Task
from openmlops.errors import DataCorrupt, ModelCorrupt
from openmlops.files import MANIFEST, Manifest
from openmlops.serving.problems import unavailable
from openmlops.usecases.base import ModelInput, Outputs, UseCase

TOLERANCE = 1e-3
"""largest allowed difference of an output from the trained model's: other cores and threads round differently"""

_REMEDY = "Train and register it again; the previous version stays in service"


@dataclass(frozen=True)
class Predictions:
    """Predictions of one version for n images, with the features for drift detection."""

    outputs: Outputs
    features: np.ndarray
    """float32 (n, columns)"""
    packed: list[bytes]
    """n predictions, packed as in the inference log"""

    @classmethod
    def joined(cls, parts: "Sequence[Predictions]") -> "Predictions":
        """The concatenation of predictions of one version."""
        outputs = Outputs.joined([part.outputs for part in parts])
        return cls(outputs, np.concatenate([part.features for part in parts]), [each for part in parts for each in part.packed])


@dataclass(frozen=True)
class Predictor:
    """A loaded version. Safe to call from one thread at a time."""

    name: str
    version: int
    sha256: str
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """(height, width, 3)"""
    embedding: int
    """width of the embedding"""
    _model: OnnxModel
    _use_case: UseCase

    @property
    def resize(self) -> str:
        """How images become the model input: `Preprocessing.resize`."""
        return self._model.resize

    @cached_property
    def layout(self) -> Layout:
        """Names of the feature columns and the classes, for the inference log."""
        return Layout(self.columns, self.classes)

    @property
    def task(self) -> Task:
        """The task, which defines the format of predictions."""
        return self._use_case.task

    def to_model_input(self, images: Sequence[np.ndarray] | np.ndarray) -> ModelInput:
        """Images uint8 (h, w, 3) -> model input of `image_shape`."""
        return self._use_case.model_input(images, self.image_shape[:2], self.resize)

    def adapt(self, model_input: ModelInput, inputs: Sequence[bytes | np.ndarray]) -> ModelInput:
        """The model input of a request, prepared again from `inputs` if it was made for another kind of input.

        Images are decoded one at a time, because a decoded image may be a hundred times as large as its model input. Raises
        HTTPException 503 for raw tensors of another size, which cannot be converted.
        """
        if model_input.pixels.shape[1:] == self.image_shape and model_input.resize == self.resize:
            return model_input
        if not all(isinstance(sent, bytes) for sent in inputs):
            raise unavailable(f"Version {self.version} has just been put into service and expects images of {self.image_shape}")
        return ModelInput.joined(
            [
                self.to_model_input([self._use_case.decoded(sent, self.image_shape[:2])])
                for sent in inputs
                if isinstance(sent, bytes)
            ]
        )

    def predict(self, model_input: ModelInput) -> Predictions:
        """n >= 1 images -> predictions."""
        outputs = self._use_case.to_predictions(self._model.run(model_input.pixels), model_input)
        features = _matrix(self._use_case.features(model_input, outputs))
        return Predictions(outputs, features, self._use_case.task.pack(outputs.predictions))


def load(
    folder: Path, sha256: str, name: str, version: int, use_case: UseCase, threads: int, at_once: Callable[[int, int], int]
) -> Predictor:
    """Load the version in `folder`, whose manifest has the given `sha256`. Raises ModelCorrupt naming the problem.

    Its outputs on the golden batch must equal the trained model's within TOLERANCE; it is then warmed up with one batch of each
    size in use, 1 and `at_once(height, width)`.
    """
    verify(folder, sha256)
    classes, resize = _description(folder / "model.json")
    golden = _golden(folder / "golden.npz", use_case.task)
    images = golden["images"]
    model = OnnxModel(folder / "model.onnx", use_case.task.outputs, threads, resize)
    _require_takes(model, images, use_case)
    tensors = model.run(images)
    _require_equal(tensors, golden, use_case.task, classes)
    model_input = use_case.model_input(images, (images.shape[1], images.shape[2]), resize)
    outputs = use_case.to_predictions(tensors, model_input)
    columns = use_case.features(model_input, outputs)
    if not np.isfinite(_matrix(columns)).all():
        raise ModelCorrupt(f"{name}/{version} has non-finite features on its golden batch", _REMEDY)
    _, height, width, channels = images.shape
    predictor = Predictor(
        name=name,
        version=version,
        sha256=sha256,
        classes=classes,
        columns=tuple(columns),
        image_shape=(height, width, channels),
        embedding=outputs.embedding.shape[1],
        _model=model,
        _use_case=use_case,
    )
    _warm_up(predictor, images, at_once(height, width))
    return predictor


def verify(folder: Path, sha256: str) -> None:
    """Raises ModelCorrupt unless the folder is, byte for byte, what was registered under this SHA-256."""
    try:
        manifest = Manifest.read(folder / MANIFEST)
    except DataCorrupt as error:
        raise ModelCorrupt(error.problem, _REMEDY) from error
    found = (
        "its manifest differs from the registered one"
        if manifest.fingerprint != sha256
        else "; ".join(manifest.differences(folder))
    )
    if found:
        raise ModelCorrupt(f"{folder} differs from the registered files: {found}", _REMEDY)


def _description(path: Path) -> tuple[tuple[str, ...], str]:
    """The classes, and how images become the model input."""
    try:
        found = json.loads(path.read_bytes())
        classes, resize = found["classes"], str(found.get("preprocessing", {}).get("resize", "default"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"{path} lists no classes ({type(error).__name__})", _REMEDY) from error
    if not classes or not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes):
        raise ModelCorrupt(f"{path} has the classes {classes!r}, which are not distinct", _REMEDY)
    return tuple(classes), resize


def _golden(path: Path, task: Task) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            golden = {name: stored[name] for name in ("images", *task.outputs)}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ModelCorrupt(f"{path} is not a golden batch ({error})", _REMEDY) from error
    images = golden["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ModelCorrupt(f"{path} holds {images.dtype} {images.shape}, not uint8 (n, height, width, 3)", _REMEDY)
    return golden


def _require_takes(model: OnnxModel, images: np.ndarray, use_case: UseCase) -> None:
    """Raises ModelCorrupt unless the use case's images fit the model input: a version of another use case is not served."""
    decoded = _as_sent(use_case, images[0], model.resize).pixels.shape[1:]
    if decoded != images.shape[1:] or decoded != tuple(model.image_shape):
        shapes = f"the model expects {model.image_shape}, its golden batch has {images.shape[1:]}"
        raise ModelCorrupt(f"The use case {use_case.name} decodes images to {decoded}, but {shapes}", _REMEDY)


def _as_sent(use_case: UseCase, image: np.ndarray, resize: str) -> ModelInput:
    """The model input of an image uint8 (h, w, 3) that a client sends as a file."""
    shape = (image.shape[0], image.shape[1])
    return use_case.model_input([use_case.decoded(png(image), shape)], shape, resize)


def _require_equal(
    tensors: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray], task: Task, classes: tuple[str, ...]
) -> None:
    by_class = task.compared[-1]  # its last dimension is the classes
    found, expected = tensors[by_class], golden[by_class]
    if (len(found), found.shape[-1]) != (len(golden["images"]), len(classes)) or found.shape != expected.shape:
        problem = f"The model returns {found.shape} for its golden batch of {expected.shape} and {len(classes)} classes"
        raise ModelCorrupt(problem, _REMEDY)
    for name in task.outputs:
        _require_close(name, tensors[name], golden[name])


def _require_close(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    worst = float(np.abs(found - expected).max()) / scale if found.shape == expected.shape else np.inf
    if not worst <= TOLERANCE:
        problem = f"The model's {name} on its golden batch differ by {worst:.2g} from the trained model's"
        raise ModelCorrupt(f"{problem}, more than {TOLERANCE}", _REMEDY)


def _warm_up(predictor: Predictor, images: np.ndarray, batch: int) -> None:
    for size in (1, batch):
        predictor.predict(predictor.to_model_input(np.resize(images, (size, *images.shape[1:]))))


def _matrix(columns: Mapping[str, Any]) -> np.ndarray:
    return np.stack(list(columns.values()), axis=1)
