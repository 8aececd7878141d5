"""Cross-validation: the score that a training reaches on images that its models have not seen, from all but the test images.

Each distinct training or validation image is predicted once, by a model trained as the registered one was, without the image
and its copies. Here: folds, their trainings, and the record of the result. Not here: the registered model, whose weights are
those of the ordinary split.

The interval assumes that images are independent apart from exact copies, and is corrected for models that share training images
(`core.intervals.widened`). It is about models trained on fewer images than the registered one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from openmlops.core.intervals import widened
from openmlops.core.types import CrossValidation, TrainedRef
from openmlops.errors import SettingsError
from openmlops.files import write_text
from openmlops.operations.data.datasets import indices_of
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release import inference
from openmlops.operations.run_leases import fails_its_run
from openmlops.operations.training.predictions import load_predictions, save_predictions
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say, training_progress
from openmlops.usecases import splitting
from openmlops.usecases.base import Rows

FILE = "cross_validation.json"


@fails_its_run
def cross_validate(workspace: Workspace, trained: TrainedRef, folds: int) -> TrainedRef:
    """`trained` with its cross-validation, which is logged to its run. A repeated call goes on after the last completed fold.

    Raises SettingsError if there are fewer distinct images than folds, TrainingError if the training of a fold fails.
    """
    rows, indices = rows_of(workspace, trained.splits.dataset), indices_of(workspace, trained.splits)
    pool = np.sort(np.concatenate([indices["train"], indices["validation"]]))
    distinct = splitting.distinct(rows, pool)
    if folds > len(distinct) // 2:
        problem = f"--folds is {folds}, and there are {len(distinct)} distinct training and validation images"
        raise SettingsError(problem, f"Use 2 to {max(2, len(distinct) // 2)} folds")
    parts = _parts(rows, pool, folds, len(indices["validation"]) / len(pool), trained.splits.seed)
    folder = _folder(workspace, trained, folds)
    found = []
    for number, part in enumerate(parts):
        held = part["test"] = np.intersect1d(part["test"], distinct)
        say(f"fold {number + 1} of {folds}: {len(part['train'])} images to train on, {len(held)} to predict")
        found.append(_predictions(workspace, trained, rows, part, folder, number))
    task, held = workspace.use_case.task, np.concatenate([part["test"] for part in parts])
    score = task.score_of(rows.labels[held], np.concatenate(found), len(rows.names))
    result = CrossValidation(folds=folds, images=len(held), metric=task.score, score=widened(score, folds))
    _record(workspace, trained, result)
    return trained.model_copy(update={"cross_validation": result})


def _parts(rows: Rows, pool: np.ndarray, folds: int, share: float, seed: int) -> list[dict[str, np.ndarray]]:
    """For each fold its rows to train on, to validate on (`share` of the rest) and, as `test`, to predict."""
    fold, parts = splitting.folds(rows, pool, folds, seed), []
    for number in range(folds):
        rest = pool[fold != number]
        is_validation = splitting.folds(rows, rest, max(2, round(1 / share)), seed + 1) == 0
        parts.append({"train": rest[~is_validation], "validation": rest[is_validation], "test": pool[fold == number]})
    return parts


def _folder(workspace: Workspace, trained: TrainedRef, folds: int) -> Path:
    """The folder of checkpoints and predictions; retention takes it for that of a training of the same run."""
    name = hashlib.sha256(f"{trained.run_id} {trained.splits.fingerprint} {folds}".encode()).hexdigest()[:16]
    folder = workspace.home / "trainings" / name
    write_text(folder / "run_id", trained.run_id)
    return folder


def _predictions(
    workspace: Workspace, trained: TrainedRef, rows: Rows, part: dict[str, np.ndarray], folder: Path, number: int
) -> np.ndarray:
    """Predictions of the fold's images, those of an earlier call if it was completed."""
    from openmlops.learning.export import Eager

    kept = folder / f"fold-{number}.answers"
    if not kept.exists():
        use_case = workspace.use_case
        config = use_case.config(**trained.config)
        model = use_case.build(config, use_case.preprocess(rows, part["train"]), rows, part["train"])
        key = f"{folder.name} fold {number}"
        with training_progress() as progress:
            use_case.fit(model, rows, part, config, folder=folder, key=key, on_epoch=progress.epoch, on_step=progress.step)
        eager = Eager(use_case.served(model), use_case.task.outputs)
        save_predictions(workspace, kept, inference.predict(use_case, eager, rows.images[part["test"]]))
    return load_predictions(workspace, kept, len(rows.names))


def _record(workspace: Workspace, trained: TrainedRef, found: CrossValidation) -> None:
    name = f"cross_validation_{found.metric}"
    metrics = {name: found.score.value, f"{name}_low": found.score.low, f"{name}_high": found.score.high}
    counts = {"cross_validation_folds": float(found.folds), "cross_validation_images": float(found.images)}
    workspace.tracking.log_metrics(trained.run_id, metrics | counts, trained.ended_at)
    workspace.tracking.log_text(trained.run_id, json.dumps(found.model_dump(mode="json"), indent=2), FILE)
