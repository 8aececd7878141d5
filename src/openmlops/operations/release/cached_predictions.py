"""Predictions of exported models on the same images: the evidence for the gate.

Runs a registered version's ONNX file once per set of images. Not here: recorded metrics, which may be of other images or
another file, and evaluation.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openmlops.core.images.summary import RECIPE
from openmlops.core.types import ModelRef
from openmlops.errors import EvaluationError
from openmlops.files import replacing
from openmlops.images.lazy import Images, LazyImages
from openmlops.operations.release import inference
from openmlops.operations.release.model_card import DESCRIPTION_FILE, Description
from openmlops.operations.workspace import Workspace


def cached_predictions(workspace: Workspace, model: ModelRef, images: Images, names: Sequence[str]) -> np.ndarray:
    """Predictions of the version's exported model on n images, (n, ...) in the task's format, in terms of the classes `names`.

    They are mapped by the names that are sealed with the version: their order and number are those of the data that it was
    trained on. Cached in OPENMLOPS_HOME/answers by the SHA-256 of model and images, so that a champion predicts each holdout
    once. Raises ModelNotFound, ModelCorrupt, and EvaluationError if a prediction is not finite.
    """
    found, classes = _found(workspace, model, images)
    return found if classes == tuple(names) else workspace.use_case.task.in_classes(found, classes, names)


def sealed_classes(workspace: Workspace, model: ModelRef) -> tuple[str, ...]:
    """The class names of a version, in the order of their indices. Raises ModelNotFound, ModelCorrupt."""
    return Description.read(workspace.registry.fetch(model) / DESCRIPTION_FILE).classes


def _found(workspace: Workspace, model: ModelRef, images: Images) -> tuple[np.ndarray, tuple[str, ...]]:
    """The version's predictions, and the names of the classes that they are in terms of."""
    path = workspace.home / "answers" / f"{model.sha256}-{_sha256(images)}.npz"
    kept = _read(path)
    if kept is not None and len(kept[0]) == len(images):
        packed, classes = kept
        return workspace.use_case.task.unpack(packed, len(classes)), classes
    classes = sealed_classes(workspace, model)
    found = _predict(workspace, model, images)
    _write(path, workspace.use_case.task.pack(found), classes)
    return found, classes


def _predict(workspace: Workspace, model: ModelRef, images: Images) -> np.ndarray:
    use_case = workspace.use_case
    found = inference.predict(use_case, inference.load_exported(use_case, workspace.registry.fetch(model)), images)
    if bad := sum(not np.isfinite(predicted).all() for predicted in found):
        problem = f"{model.name}/{model.version} predicts NaN or infinity for {bad} of {len(images)} images"
        raise EvaluationError(problem, "Train again; this version cannot be evaluated")
    return found


def _write(path: Path, packed: list[bytes], classes: tuple[str, ...]) -> None:
    lengths = np.array([len(row) for row in packed], np.int64)
    with replacing(path) as beside, beside.open("wb") as file:
        content = np.frombuffer(b"".join(packed), np.uint8)
        np.savez(file, lengths=lengths, content=content, classes=np.array(json.dumps(classes)))


def _read(path: Path) -> tuple[list[bytes], tuple[str, ...]] | None:
    """The cached predictions, packed, and their classes; None if missing, damaged (the archive has a checksum), or of a release
    that did not keep the classes."""
    try:
        with np.load(path) as archive:
            content, ends = archive["content"].tobytes(), np.cumsum(archive["lengths"])
            classes = tuple(json.loads(str(archive["classes"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    parts = zip([0, *ends[:-1]], ends, strict=True) if len(ends) else ()
    return [content[start:end] for start, end in parts], classes


def _sha256(images: Images) -> str:
    if isinstance(images, LazyImages):
        content = (f"{RECIPE} {images.frame}".encode(), images.column("sha256").tobytes())
        return hashlib.sha256(b" ".join(content)).hexdigest()
    digest = hashlib.sha256(str(images.shape).encode())
    if images.dtype != object:
        digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()
    for image in images:
        digest.update(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
