"""Evaluation of a model: a trained one on any split of its data, a registered version on the test split of the current data.

Not here: the metrics (`core`), and comparing models (`gate`).
"""

from functools import partial
from pathlib import Path

import numpy as np

from openmlops.core.images.resizing import uncropped
from openmlops.core.quality import Evaluation
from openmlops.core.types import TrainedRef
from openmlops.errors import DataError, SettingsError
from openmlops.files import copy
from openmlops.memory import give_back
from openmlops.names import composed
from openmlops.operations.data import datasets
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release import inference
from openmlops.operations.release.aliases import find_version
from openmlops.operations.release.evaluation_report import Evaluated, write_reports
from openmlops.operations.release.explanations import EVALUATION, write_explanations
from openmlops.operations.release.model_card import DESCRIPTION_FILE, Description
from openmlops.operations.release.rebuilt_model import RebuiltModel
from openmlops.operations.run_leases import fails_its_run
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder
from openmlops.usecases.base import Rows


@fails_its_run
def evaluate(workspace: Workspace, trained: TrainedRef, folder: Path | None = None) -> Evaluation:
    """Evaluate the trained model on the test split; log metrics and reports to its run, copies of the reports to `folder`
    (default ARTIFACTS_DIR), where those of the last evaluation lie."""
    found, shown = measure(workspace, trained, "test"), folder or workspace.artifacts
    workspace.tracking.log_metrics(trained.run_id, metrics_of(found.evaluation), trained.ended_at)
    curves = workspace.tracking.curves(trained.run_id)
    with temporary_folder(workspace.home, "evaluation-") as own:
        explained = write_explanations(found, workspace.use_case.task, curves, own, trained.kept)
        for path in (*write_reports(found, own), *explained):
            workspace.tracking.log_files(trained.run_id, path, EVALUATION)
            copy(shown / path.relative_to(own), path)
    give_back()  # the layers of the images, for the steps that follow
    return found.evaluation


def measure(workspace: Workspace, trained: TrainedRef, split: str) -> Evaluated:
    """Predict and evaluate a split with the trained model. Nothing is recorded."""
    use_case, rebuilt = workspace.use_case, RebuiltModel(workspace, trained)
    images, labels = rebuilt.images(split), rebuilt.rows.labels[rebuilt.indices[split]]
    predictions = inference.predict(use_case, rebuilt.eager, images)
    evaluation = use_case.task.evaluate(labels, predictions, rebuilt.rows.names, split, trained.splits.fingerprint)
    heat_maps = partial(_heat_maps, rebuilt) if use_case.task.kind == "classification" else None
    return Evaluated(evaluation, images, labels, predictions, heat_maps)


def _heat_maps(rebuilt: RebuiltModel, images: list[np.ndarray], classes: np.ndarray) -> list[np.ndarray] | None:
    """What spoke for the class of each image, float32 (h, w) as the image; None if the network has no feature map."""
    from openmlops.learning.attention import heat_maps

    (height, width, _), resize = rebuilt.eager.image_shape, rebuilt.preprocessing.resize
    pixels = rebuilt.workspace.use_case.model_input(images, (height, width), resize).pixels
    found = heat_maps(rebuilt.served, pixels, classes)
    if found is None or resize != "crop":
        return None if found is None else list(found)
    return [uncropped(heat, (image.shape[0], image.shape[1])) for heat, image in zip(found, images, strict=True)]


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    """Metrics of an evaluation by MLflow name, prefixed with the split; the registry reads those that begin with `test_`."""
    return {f"{evaluation.split}_{name}": value for name, value in evaluation.metrics().items()}


def evaluate_version(workspace: Workspace, spec: str) -> Evaluation:
    """Evaluate the exported model of a version, `MODEL@champion` or `MODEL/3`, on the test split of the current data.

    Raises ModelNotFound, SettingsError for another use case's model, DataError if the data has other classes.
    """
    folder = workspace.registry.fetch(find_version(workspace, spec))
    description = Description.read(folder / DESCRIPTION_FILE)
    splits = datasets.split(workspace, datasets.ingest(workspace), description.split_seed)
    rows = rows_of(workspace, splits.dataset)
    _require_same_task(workspace, spec, description, rows)
    test = datasets.indices_of(workspace, splits)["test"]
    found = inference.predict(workspace.use_case, inference.load_exported(workspace.use_case, folder), rows.images[test])
    found = workspace.use_case.task.in_classes(found, description.classes, rows.names)
    return workspace.use_case.task.evaluate(rows.labels[test], found, rows.names, "test", splits.fingerprint)


def _require_same_task(workspace: Workspace, spec: str, description: Description, rows: Rows) -> None:
    if description.use_case != workspace.use_case.name:
        problem = f"{spec} belongs to the use case '{description.use_case}', not '{workspace.use_case.name}'"
        raise SettingsError(problem, f"Set USE_CASE={description.use_case}")
    if sorted(map(composed, description.classes)) != sorted(map(composed, rows.names)):
        problem = f"{spec} has the classes {', '.join(description.classes)}; the data has {', '.join(rows.names)}"
        raise DataError(problem, "Evaluate it on data with the same classes")
