"""Terminal output of an evaluation: a table of classes and a few figures."""

from typing import TYPE_CHECKING

from openmlops.cli.show import percent, print_table

if TYPE_CHECKING:
    from openmlops.core.quality import Evaluation
    from openmlops.core.types import Interval

Rows = list[tuple[object, ...]]


def print_evaluation(title: str, evaluation: "Evaluation") -> None:
    """Print the figures and the table of classes."""
    columns, rows = _classes(evaluation)
    _, score = figures(evaluation)[0]
    print_table(f"{title}: {score}", columns, rows)


def figures(evaluation: "Evaluation") -> list[tuple[str, str]]:
    """Names and values of the figures of the whole split, the score first."""
    from openmlops.core.quality import ClassificationEvaluation

    if isinstance(evaluation, ClassificationEvaluation):
        accuracy = percent(evaluation.accuracy, evaluation.accuracy_low, evaluation.accuracy_high)
        return [
            ("test accuracy", f"accuracy {accuracy} on {evaluation.n} images"),
            ("calibration error", percent(evaluation.calibration_error)),
        ]
    e = evaluation
    return [
        ("test mAP@50", f"mAP@50 {_interval(e.map50)} on {e.n} images, {e.boxes} boxes"),
        ("mAP@50-95", _interval(e.map50_95)),
        ("precision", f"{_interval(e.precision)} at confidence {e.confidence:g}"),
        ("recall", f"{_interval(e.recall)} at confidence {e.confidence:g}"),
    ]


def _interval(found: "Interval") -> str:
    return percent(found.value, found.low, found.high)


def _classes(evaluation: "Evaluation") -> tuple[tuple[str, ...], Rows]:
    from openmlops.core.quality import DetectionEvaluation

    if isinstance(evaluation, DetectionEvaluation):
        detected: Rows = [
            (c.name, percent(c.map50), percent(c.map50_95), percent(c.precision), percent(c.recall), c.boxes)
            for c in evaluation.classes
        ]
        return ("class", "mAP@50", "mAP@50-95", "precision", "recall", "boxes"), detected
    rows: Rows = [(c.name, percent(c.precision), percent(c.recall), percent(c.f1), c.n) for c in evaluation.classes]
    return ("class", "precision", "recall", "F1", "n"), rows
