"""Evaluation reports: figures and text files in ARTIFACTS_DIR, one function per task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmlops.core.classification.metrics import classification_report
from openmlops.core.detection.report import detection_report
from openmlops.core.quality import ClassificationEvaluation, DetectionEvaluation, Evaluation
from openmlops.files import write_text
from openmlops.images.lazy import Images
from openmlops.operations.release import detection_figures, figures


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with its evidence: n images, their labels, and the model's predictions. `heat_maps`: images, a class of
    each -> what spoke for it, float (n, h, w) 0..1 or None; None where the model is not at hand, or is a detector."""

    evaluation: Evaluation
    images: Images
    labels: np.ndarray
    predictions: np.ndarray
    heat_maps: Callable[[list[np.ndarray], np.ndarray], Sequence[np.ndarray] | np.ndarray | None] | None = None


def write_reports(found: Evaluated, folder: Path) -> tuple[Path, ...]:
    """Write all report files of an evaluation to `folder`; returns their paths."""
    whole = write_text(folder / "evaluation.json", found.evaluation.model_dump_json(indent=2))
    return (whole, *_REPORTS[found.evaluation.kind](found, folder))


def _of_classifier(found: Evaluated, folder: Path) -> tuple[Path, ...]:
    assert isinstance(found.evaluation, ClassificationEvaluation)
    return (
        figures.confusion_matrix(found.evaluation, folder / "confusion_matrix.png"),
        write_text(folder / "classification_report.txt", classification_report(found.evaluation)),
    )


def _of_detector(found: Evaluated, folder: Path) -> tuple[Path, ...]:
    assert isinstance(found.evaluation, DetectionEvaluation)
    names = tuple(score.name for score in found.evaluation.classes)
    return (
        figures.confusion_matrix(found.evaluation, folder / "confusion_matrix.png"),
        detection_figures.precision_recall(found.evaluation, folder / "pr_curve.png"),
        detection_figures.sheet(found.images, found.labels, found.predictions, names, folder / "predictions.png"),
        write_text(folder / "detection_report.txt", detection_report(found.evaluation)),
    )


_REPORTS: dict[str, Callable[[Evaluated, Path], tuple[Path, ...]]] = {
    "classification": _of_classifier,
    "detection": _of_detector,
}
