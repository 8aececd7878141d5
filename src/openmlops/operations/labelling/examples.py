"""Example images: some of the last evaluated window beside some validation images of its model version.

The selection is reproducible per window: some at random, seeded by the decision's id, and those farthest from the version's
drift reference. Not here: the page (`console.examples`) and the drift test (`core.monitoring.drift`).
"""

import zipfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from openmlops.adapters.decisions import DecisionRecord
from openmlops.adapters.inference_log import Window
from openmlops.core.monitoring import feature_frames
from openmlops.core.monitoring.drift_reference import DriftReference, statistic
from openmlops.errors import OpenMLOpsError
from openmlops.operations.labelling.queue import PredictionRecord
from openmlops.operations.release.aliases import version_of
from openmlops.operations.release.drift_references import read_references
from openmlops.operations.release.model_card import Description
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import ModelInput

N_RANDOM, N_FARTHEST, N_REFERENCE = 8, 4, 8
"""number of images of each kind"""
UNEVALUATED_WINDOW = 300
"""newest predictions that are used if no window was evaluated yet"""
SEARCHED_DECISIONS = 100
"""latest decisions that are searched for an evaluated window"""


class Reference(NamedTuple):
    """A validation image as model input, uint8 (h, w, 3), and the prediction for it, in the task's format."""

    image: np.ndarray
    predicted: np.ndarray


class Examples(NamedTuple):
    """Examples of one version. `decision` is the id of the decision on the window of `n` predictions, empty without one; `kept`
    counts those whose image is still stored. `missing` explains in sentences what cannot be displayed."""

    version: int
    decision: str
    until: datetime | None
    n: int
    kept: int
    classes: tuple[str, ...]
    drawn: tuple[PredictionRecord, ...]
    farthest: tuple[PredictionRecord, ...]
    reference: tuple[Reference, ...]
    missing: tuple[str, ...]


def examples(workspace: Workspace, model: str, version: int) -> Examples:
    """Examples of a version's last evaluated window, or of its newest predictions if none was evaluated. Raises
    ServiceUnavailable and ModelNotFound; a version whose files cannot be fetched is reported in `missing`."""
    record = _last_evaluated(workspace, model, version)
    window = _window_of(workspace, model, version, record)
    stored = workspace.inputs.held(window.input_sha256)
    kept = [row for row, sha256 in enumerate(window.input_sha256) if sha256 in stored]
    missing = _missing_images(record, window, kept)
    rng = np.random.default_rng(list((record.id if record else "").encode()))
    drawn = sorted(rng.permutation(kept)[:N_RANDOM].tolist())
    try:
        folder: Path | None = workspace.registry.fetch(version_of(workspace, model, version))
    except OpenMLOpsError as error:
        folder, missing = None, [*missing, f"The files of this version are not available here: {error}"]
    farthest, why_none = _farthest(folder, window, kept) if folder else ([], "")
    reference, why_no_reference = _reference(workspace, folder) if folder else ((), "")
    rows = _rows(workspace, window)
    return Examples(
        version=version,
        decision=record.id if record else "",
        until=max(window.at, default=None),
        n=len(window),
        kept=len(kept),
        classes=window.layout.classes or (_classes(folder) if folder else ()),
        drawn=tuple(rows[row] for row in drawn),
        farthest=tuple(rows[row] for row in farthest),
        reference=reference,
        missing=tuple(why for why in (*missing, why_none, why_no_reference) if why),
    )


def _last_evaluated(workspace: Workspace, model: str, version: int) -> DecisionRecord | None:
    """The latest decision on a window of this version's logged predictions."""
    records = reversed(workspace.decisions.list(model, SEARCHED_DECISIONS))
    return next((r for r in records if r.version == version and r.span and r.span.source == "log"), None)


def _window_of(workspace: Workspace, model: str, version: int, record: DecisionRecord | None) -> Window:
    if record is None or record.span is None:
        return workspace.inference_log.window(model, version, UNEVALUATED_WINDOW)
    return workspace.inference_log.window(model, version, record.span.n, record.span.until)


def _missing_images(record: DecisionRecord | None, window: Window, kept: list[int]) -> list[str]:
    """What of the window cannot be displayed, one sentence each."""
    if not len(window):
        return ["This version has made no predictions yet."]
    not_evaluated = (
        [] if record else [f"No window was evaluated yet: these images are from the latest {len(window)} predictions."]
    )
    gone = len(window) - len(kept)
    return [
        *not_evaluated,
        *([f"{gone} of {len(window)} images are not stored on this machine, or no longer."] if gone else []),
    ]


def _rows(workspace: Workspace, window: Window) -> list[PredictionRecord]:
    predictions = workspace.use_case.task.unpack(window.predictions, len(window.layout.classes))
    columns = (window.ids, window.at, window.input_sha256, predictions, window.labels)
    return [PredictionRecord(*row, window.layout.classes) for row in zip(*columns, strict=True)]


def _farthest(folder: Path, window: Window, kept: list[int]) -> tuple[list[int], str]:
    """The rows of `kept` farthest from the reference, farthest first, and ""; or [] and the reason."""
    try:
        reference, notes = read_references(folder)
    except OpenMLOpsError as error:
        return [], str(error)
    if reference is None:
        return [], f"The images farthest from the reference cannot be determined: {notes.no_drift}."
    if missing := set(reference.names) - set(window.layout.columns):
        found = f"the log lacks {len(missing)} of its columns" if len(window) else ""
        return [], found and f"The images farthest from the reference cannot be determined: {found}."
    distances = distances_from(reference, window)[kept]
    return [kept[place] for place in np.argsort(-distances, kind="stable")[:N_FARTHEST]], ""


def distances_from(reference: DriftReference, window: Window) -> np.ndarray:
    """float64 (n,): the drift statistic of each prediction as a window of size 1."""
    standardised = (feature_frames.matrix(window.columns(), reference.names) - reference.mean) / reference.scale
    return statistic(standardised, reference.covariance, 1, reference.rows)


def _reference(workspace: Workspace, folder: Path) -> tuple[tuple[Reference, ...], str]:
    """Evenly spaced images of the version's golden batch, and ""; or () and the reason."""
    use_case = workspace.use_case
    try:
        with np.load(folder / "golden.npz", allow_pickle=False) as stored:
            images, tensors = stored["images"], {name: stored[name] for name in use_case.task.outputs}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return (), f"The validation images of this version cannot be read ({type(error).__name__})."
    sizes = np.array([image.shape[:2] for image in images], np.int64)
    predictions = use_case.to_predictions(tensors, ModelInput(images, sizes)).predictions
    chosen = np.unique(np.linspace(0, len(images) - 1, N_REFERENCE).astype(int))
    return tuple(Reference(images[row], predictions[row]) for row in chosen), ""


def _classes(folder: Path) -> tuple[str, ...]:
    return Description.read(folder / "model.json").classes
