"""Classification metrics with confidence intervals: labels and probabilities -> `ClassificationEvaluation`.

What is here: accuracy, per-class scores, calibration and log loss, and the report as text. What is not: the comparison of
two models (`gate`), plots, and defaults for metrics that cannot be computed: those raise EvaluationError.
"""

from collections.abc import Iterator

import numpy as np

from openmlops.core.intervals import wilson
from openmlops.core.quality import ClassificationEvaluation, ClassScore
from openmlops.errors import EvaluationError

CALIBRATION_BINS = 15


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Labels and predicted classes, int64 (n,) each -> counts int64 (classes, classes): rows true, columns predicted."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """ECE, 0..1: mean |confidence - accuracy| over `bins` equal-width bins of the top probability, weighted by images."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    surplus = confidence - (probabilities.argmax(axis=1) == labels)
    where = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(where, weights=surplus, minlength=bins)).sum() / len(labels))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log probability of the true class, in nats. Probabilities are clipped from below at the dtype's epsilon."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_truth, np.finfo(probabilities.dtype).eps).astype(np.float64)).mean())


def class_scores(confusion: np.ndarray, names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each class; 0 where the class was never predicted or has no images (n = 0)."""
    right, predicted, truly = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(truly, 1)
    f1 = 2 * right / np.maximum(predicted + truly, 1)
    columns = zip(names, precision, recall, f1, truly, strict=True)
    return tuple(ClassScore(name=name, precision=p, recall=r, f1=f, n=n) for name, p, r, f, n in columns)


def evaluate_classification(
    labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...], split: str, split_fingerprint: str
) -> ClassificationEvaluation:
    """Labels int64 (n,) and probabilities float (n, classes) -> all metrics of one split.

    Macro F1 averages over the classes that occur as labels or predictions. Raises EvaluationError for an empty split, for
    labels outside the classes, and for probabilities that are not finite or do not sum to 1.
    """
    _require_measurable(labels, probabilities, names, split)
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), len(names))
    classes = class_scores(confusion, names)
    accuracy = wilson(int(np.diag(confusion).sum()), len(labels))
    occurs = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    return ClassificationEvaluation(
        split=split,
        split_fingerprint=split_fingerprint,
        n=len(labels),
        accuracy=accuracy.value,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        macro_f1=float(np.mean([score.f1 for score, there in zip(classes, occurs, strict=True) if there])),
        calibration_error=expected_calibration_error(labels, probabilities),
        log_loss=log_loss(labels, probabilities),
        classes=classes,
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def classification_report(evaluation: ClassificationEvaluation) -> str:
    """The evaluation as a text table; brackets hold 95 % Wilson intervals."""
    confusion = np.array(evaluation.confusion)
    right, predicted, truly = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    width = max(len("accuracy"), *(len(score.name) for score in evaluation.classes))
    lines = [f"{'':>{width}}  {'precision':^20}  {'recall':^20}  f1-score  support", ""]
    for i, score in enumerate(evaluation.classes):
        shares = f"{_bracketed(right[i], predicted[i])}  {_bracketed(right[i], truly[i])}"
        lines.append(f"{score.name:>{width}}  {shares}  {score.f1:8.3f}  {score.n:7d}")
    accuracy = _bracketed(int(right.sum()), evaluation.n)
    lines += ["", f"{'accuracy':>{width}}  {'':20}  {accuracy}  {'':8}  {evaluation.n:7d}"]
    lines += [f"{'macro f1':>{width}}  {'':20}  {'':20}  {evaluation.macro_f1:8.3f}  {evaluation.n:7d}", ""]
    lines += [f"expected calibration error ({CALIBRATION_BINS} bins): {evaluation.calibration_error:.4f}"]
    lines += [f"log loss: {evaluation.log_loss:.4f} nats", f"split: {evaluation.split} {evaluation.split_fingerprint}"]
    return "\n".join(lines) + "\n"


def _bracketed(successes: int, n: int) -> str:
    if n == 0:
        return f"{'undefined':^20}"
    share = wilson(int(successes), int(n))
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _require_measurable(labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...], split: str) -> None:
    for wrong, problem in _problems(labels, probabilities, names):
        if wrong:
            raise EvaluationError(
                f"The {split} split cannot be evaluated: {problem}", "Check the split and the model's outputs"
            )


def _problems(labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]) -> Iterator[tuple[bool, str]]:
    """(whether the check fails, the problem), in an order in which each check may rely on the ones before it."""
    n, k = len(labels), len(names)
    yield n == 0, "it has no images"
    yield probabilities.shape != (n, k), f"{probabilities.shape} probabilities for {n} images of {k} classes"
    yield not np.issubdtype(labels.dtype, np.integer), f"labels are {labels.dtype}, not whole numbers"
    yield labels.min() < 0 or labels.max() >= k, f"labels from {labels.min()} to {labels.max()} for {k} classes"
    finite = np.isfinite(probabilities).all(axis=1)
    yield not finite.all(), f"{int((~finite).sum())} images have probabilities that are NaN or infinite"
    wrong = (np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1) > 1e-3) | (probabilities.min(axis=1) < 0)
    yield wrong.any(), f"{int(wrong.sum())} images have probabilities that are negative or do not sum to 1"
