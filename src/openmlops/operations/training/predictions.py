"""Predictions of a training's images in a file, packed as in the inference log."""

import json
from pathlib import Path

import numpy as np

from openmlops.core.types import Content
from openmlops.files import write_text
from openmlops.operations.workspace import Workspace


def save_predictions(workspace: Workspace, path: Path, predictions: np.ndarray) -> None:
    """Write a run's predictions to `path`, packed as in the inference log."""
    packed = workspace.use_case.task.pack(predictions)
    write_text(path, json.dumps([row.hex() for row in packed]))


def load_predictions(workspace: Workspace, path: Path, classes: int) -> np.ndarray:
    """Read what `save_predictions` wrote."""
    packed = [bytes.fromhex(row) for row in json.loads(path.read_text())]
    return workspace.use_case.task.unpack(packed, classes)


def kept_predictions(workspace: Workspace, content: Content, classes: int) -> np.ndarray:
    """The predictions that a run's result names, fetched if they are not here."""
    path = workspace.contents.local(content, workspace.home / "predictions" / content.sha256)
    return load_predictions(workspace, path, classes)
