"""Predictions of exported models on the same images: the evidence for the gate.

Runs a registered version's ONNX file once per set of images. Not here: recorded metrics, which may be of other images or
another file, and evaluation.
"""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from openmlops.core.images.summary import RECIPE
from openmlops.core.types import ModelRef
from openmlops.errors import EvaluationError
from openmlops.files import replacing
from openmlops.images.lazy import Images, LazyImages
from openmlops.operations.release import inference
from openmlops.operations.workspace import Workspace


def cached_predictions(workspace: Workspace, model: ModelRef, images: Images, classes: int) -> np.ndarray:
    """Predictions of the version's exported model on n images, (n, ...) in the task's format.

    Cached in OPENMLOPS_HOME/answers by the SHA-256 of model and images, so that a champion predicts each holdout once.
    Raises ModelNotFound, ModelCorrupt, and EvaluationError if a prediction is not finite.
    """
    path = workspace.home / "answers" / f"{model.sha256}-{_sha256(images)}.npz"
    kept = _read(path)
    if kept is not None and len(kept) == len(images):
        return workspace.use_case.task.unpack(kept, classes)
    found = _predict(workspace, model, images)
    _write(path, workspace.use_case.task.pack(found))
    return found


def _predict(workspace: Workspace, model: ModelRef, images: Images) -> np.ndarray:
    use_case = workspace.use_case
    found = inference.predict(use_case, inference.load_exported(use_case, workspace.registry.fetch(model)), images)
    if bad := sum(not np.isfinite(predicted).all() for predicted in found):
        problem = f"{model.name}/{model.version} predicts NaN or infinity for {bad} of {len(images)} images"
        raise EvaluationError(problem, "Train again; this version cannot be evaluated")
    return found


def _write(path: Path, packed: list[bytes]) -> None:
    lengths = np.array([len(row) for row in packed], np.int64)
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, lengths=lengths, content=np.frombuffer(b"".join(packed), np.uint8))


def _read(path: Path) -> list[bytes] | None:
    """The cached predictions, packed; None if missing or damaged (the archive has a checksum)."""
    try:
        with np.load(path) as archive:
            content, ends = archive["content"].tobytes(), np.cumsum(archive["lengths"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if len(ends) else []


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
