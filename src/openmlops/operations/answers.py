"""What exported models answer to the same images: the evidence that the gate decides on.

What is here: running a registered version's ONNX file, once for each set of images. What is not: recorded metrics (of another
day, other images, or another file), and any judgement.
"""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from openmlops.core.types import ModelRef
from openmlops.errors import EvaluationError
from openmlops.files import replacing
from openmlops.operations.workspace import Workspace


def predicted_classes(workspace: Workspace, model: ModelRef, images: np.ndarray) -> np.ndarray:
    """uint8 (n, height, width, 3) -> int64 (n,), the class that the version's exported file holds most probable.

    Kept in OPENMLOPS_HOME/answers under the SHA-256 of model and images, so that a champion answers the same holdout once.
    Raises ModelNotFound, ModelCorrupt, and EvaluationError if a probability is not finite.
    """
    path = workspace.home / "answers" / f"{model.sha256}-{_sha256(images)}.npz"
    kept = _read(path)
    if kept is not None and kept.shape == (len(images),):
        return kept
    answers = _ask(workspace, model, images)
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, answers=answers)
    return answers


def _ask(workspace: Workspace, model: ModelRef, images: np.ndarray) -> np.ndarray:
    from openmlops.adapters.onnx_model import OnnxModel

    outputs = OnnxModel(workspace.registry.fetch(model) / "model.onnx").run(images)
    probabilities = workspace.use_case.predict(outputs).probabilities
    if bad := int((~np.isfinite(probabilities)).any(axis=1).sum()):
        problem = f"{model.name}/{model.version} answers {bad} of {len(images)} images with NaN or infinity"
        raise EvaluationError(problem, "Train again; this version cannot be judged")
    return probabilities.argmax(axis=1)


def _read(path: Path) -> np.ndarray | None:
    """What was kept; None if nothing was, or if it is damaged (the archive has a checksum)."""
    try:
        with np.load(path) as archive:
            return archive["answers"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _sha256(images: np.ndarray) -> str:
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()
