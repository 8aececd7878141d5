"""Detection metrics with confidence intervals, and the comparison of two detectors on the same images.

Labels are an object array (n,) of float32 (m, 5): x1, y1, x2, y2 in pixels, class. Predictions are an object array (n,) of
float32 (k, 6): x1, y1, x2, y2, score, class. What is not here: the matching (core/detection/matching.py), AP
(core/detection/average_precision.py) and verdicts (core/gate/rules.py). What cannot be computed raises EvaluationError.
Cost of evaluating 120 images with 100 predicted boxes each, intervals included: 0.4 cpu-seconds with 600 true boxes, 1.2
with 12,000 (one class, n = 1 each, EPYC Zen 5, numpy 2.4).
"""

from collections.abc import Sequence

import numpy as np

from openmlops.core.detection.average_precision import (
    average_precision,
    bootstrap,
    mean_average_precision,
    precision_curves,
    stratified_bootstrap,
    swapped_leads,
)
from openmlops.core.detection.matching import (
    THRESHOLDS,
    Matched,
    classes_of,
    match,
    overlap,
    require_boxes,
    same_class_overlap,
    taken,
)
from openmlops.core.gate.rules import RULES, GateRules, more_labels
from openmlops.core.images.boxes import objects
from openmlops.core.intervals import Strata
from openmlops.core.quality import DetectionEvaluation, DetectionScore
from openmlops.core.types import Comparison, Interval
from openmlops.errors import DataError, GateError

OPERATING = 0.25
"""Operating point: the minimum confidence of a box for precision, recall and confusion, and for display by the server."""
LEVEL = 0.95
"""Confidence level of the intervals (percentile bootstrap over images)."""

_ROW = np.dtype("<f4")
_COLUMNS = 6
_AT_50 = THRESHOLDS[:1]


def evaluate_detection(
    labels: np.ndarray, predictions: np.ndarray, names: tuple[str, ...], split: str, split_fingerprint: str
) -> DetectionEvaluation:
    """Labels (n,) and predictions (n,) -> all metrics of one split.

    mAP is the mean over the classes that have true boxes. Precision and recall are at the confidence OPERATING and IoU 0.5,
    micro-averaged over the classes; precision without any such box is 0 by convention, and so are the scores of a class
    without true boxes. Bootstrap draws without a true box are left out of the intervals. Raises EvaluationError for an empty
    split, a split without true boxes, class indices that `names` does not have, and numbers that are not finite.
    """
    matched = match(labels, predictions, len(names))
    every, draws = np.ones((1, len(labels))), bootstrap(len(labels))
    maps, map_draws = mean_average_precision(matched, every)[0], mean_average_precision(matched, draws)
    shares, share_draws = _precision_recall(matched, every)[0], _precision_recall(matched, draws)
    curves = precision_curves(matched, every)[0, :, 0]
    return DetectionEvaluation(
        split=split,
        split_fingerprint=split_fingerprint,
        n=len(labels),
        boxes=int(matched.truths.sum()),
        confidence=OPERATING,
        map50=_interval(maps[0], map_draws[:, 0]),
        map50_95=_interval(maps.mean(), map_draws.mean(axis=1)),
        precision=_interval(shares[0], share_draws[:, 0]),
        recall=_interval(shares[1], share_draws[:, 1]),
        classes=_class_scores(matched, names),
        confusion=tuple(map(tuple, confusion_matrix(labels, predictions, len(names)).tolist())),
        curve=tuple(np.nanmean(curves, axis=0).tolist()),
    )


def map50(labels: np.ndarray, predictions: np.ndarray, classes: int | None = None, strata: Strata | None = None) -> Interval:
    """mAP@50 with its interval, equal to that of `evaluate_detection`. Raises EvaluationError as that does.

    Without `classes` every class index is accepted. If the images are a sample of `strata`, each counts as often as images
    that it stands for.
    """
    matched = match(labels, predictions, classes or classes_of(labels, predictions), _AT_50)
    weights = np.ones(len(labels)) if strata is None else strata.weights
    value = mean_average_precision(matched, weights[None])[0, 0]
    draws = bootstrap(len(labels)) if strata is None else stratified_bootstrap(strata)
    return _interval(value, mean_average_precision(matched, draws)[:, 0])


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes + 1, classes + 1): true boxes of the row's class that were predicted as the column's class.

    The last row and column are background: false positives and missed true boxes. Predictions with a confidence of at least
    OPERATING are first matched within their class at IoU 0.5 (the diagonal), the rest then across classes. Raises
    EvaluationError as `evaluate_detection` does.
    """
    require_boxes(labels, predictions, classes)
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for true, found in zip(labels, predictions, strict=True):
        np.add.at(counts, _confused(true, found[found[:, 4] >= OPERATING], classes), 1)
    return counts


def compare_detections(
    name: str,
    labels: np.ndarray,
    challenger: np.ndarray,
    opponent: np.ndarray,
    opponent_version: int,
    holdout: bool,
    rules: GateRules = RULES,
) -> Comparison:
    """Labels and two detectors' predictions, row i the same image -> the difference of their mAP@50 with its significance.

    The interval is a bootstrap over images with the same draws for both. `p_better` is the one-sided p-value of a paired
    permutation test: the probability of a lead at least as large if both were equally good. `more_labels` is how many more
    images would establish a gain, None if it is established or a worthwhile one is ruled out. Raises GateError if a detector
    has no prediction for an image, else EvaluationError as `evaluate_detection` does.

    Measured on simulated, equally good detectors: 4.8 % have a `p_better` of at most 0.05, on 30 images (n = 900) and on 100
    (n = 600).
    """
    if not len(labels) == len(challenger) == len(opponent) > 0:
        problem = f"{name}: {len(challenger)} and {len(opponent)} predictions for {len(labels)} images"
        raise GateError(problem, "Run both models on the same images, at least one")
    matched = [
        match(labels, predictions, classes_of(labels, challenger, opponent), _AT_50) for predictions in (challenger, opponent)
    ]
    first, second = (float(mean_average_precision(each, np.ones((1, len(labels))))[0, 0]) for each in matched)
    draws = bootstrap(len(labels))
    leads = np.subtract(*(mean_average_precision(each, draws)[:, 0] for each in matched))
    interval = _interval(first - second, leads, rules.confidence)
    compared = Comparison(
        name=name,
        opponent=opponent_version,
        holdout=holdout,
        n=len(labels),
        challenger_score=first,
        opponent_score=second,
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_better=_luck(interval.value, swapped_leads(*matched)[:, 0]),
    )
    return compared.model_copy(update={"more_labels": more_labels(compared, rules)})


def floor(sizes: np.ndarray, labels: np.ndarray, classes: int | None = None) -> float:
    """Sizes of the images (n, 2: height, width) and labels (n,) -> mAP@50 of the baseline that predicts one box of the most
    common class, as large as the image. Ties keep the order of the rows. Raises EvaluationError as `evaluate_detection`."""
    classes = classes or classes_of(labels)
    require_boxes(labels, objects([np.zeros((0, _COLUMNS))] * len(sizes)), classes)
    commonest = np.bincount(np.concatenate([true[:, 4] for true in labels]).astype(np.int64)).argmax()
    whole = [np.array([[0, 0, width, height, 1, commonest]], dtype=np.float32) for height, width in sizes]
    matched = match(labels, objects(whole), classes, _AT_50)
    return float(mean_average_precision(matched, np.ones((1, len(labels))))[0, 0])


def margin(predictions: np.ndarray) -> np.ndarray:
    """float64 (n,): distance of the score nearest to OPERATING from it, infinite without boxes. Small: worth labelling."""
    return np.array([np.abs(found[:, 4].astype(np.float64) - OPERATING).min(initial=np.inf) for found in predictions])


def pack(predictions: np.ndarray) -> list[bytes]:
    """Predictions (n,) -> bytes for each: rows of six float32, little-endian."""
    return [np.ascontiguousarray(found, dtype=_ROW).tobytes() for found in predictions]


def unpack(packed: Sequence[bytes]) -> np.ndarray:
    """Bytes from `pack` -> predictions (n,). Raises DataError for bytes that are not whole rows."""
    return objects([_rows(content) for content in packed])


def _rows(content: bytes) -> np.ndarray:
    if len(content) % (_COLUMNS * _ROW.itemsize):
        problem = f"{len(content)} bytes are not rows of {_COLUMNS} numbers of {_ROW.itemsize} bytes"
        raise DataError(problem, "Unpack only complete packed predictions")
    return np.frombuffer(content, dtype=_ROW).astype(np.float32).reshape(-1, _COLUMNS)


def _confused(true: np.ndarray, found: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of one image -> rows and columns of the confusion matrix to count."""
    takes = taken(same_class_overlap(true, found), found[:, 4], _AT_50)[:, 0]
    others = overlap(true, found) * ~np.isin(np.arange(len(true)), takes)[:, None]
    takes = np.where(takes >= 0, takes, taken(others * (takes < 0), found[:, 4], _AT_50)[:, 0])
    missed = np.setdiff1d(np.arange(len(true)), takes)
    kinds = np.append(true[:, 4], classes).astype(np.int64)
    predicted = np.append(found[:, 5], np.full(len(missed), classes)).astype(np.int64)
    return kinds[np.append(takes, missed)], predicted


def _precision_recall(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Image weights (d, n) -> (d, 2): precision (0 without predictions) and recall (NaN without true boxes)."""
    operating, n = matched.score >= OPERATING, weights.shape[1]
    predicted = weights @ np.bincount(matched.image[operating], minlength=n)
    found = weights @ np.bincount(matched.image[operating & matched.hit[:, 0]], minlength=n)
    true = weights @ matched.truths.sum(axis=1)
    return np.stack([found / np.maximum(predicted, 1), found / np.where(true > 0, true, np.nan)], axis=1)


def _class_scores(matched: Matched, names: tuple[str, ...]) -> tuple[DetectionScore, ...]:
    operating, classes = matched.score >= OPERATING, len(names)
    maps = np.nan_to_num(average_precision(matched, np.ones((1, len(matched.truths))))[0])
    predicted = np.bincount(matched.kind[operating], minlength=classes)
    found = np.bincount(matched.kind[operating & matched.hit[:, 0]], minlength=classes)
    true = matched.truths.sum(axis=0)
    return tuple(
        DetectionScore(name=name, map50=ap[0], map50_95=ap.mean(), precision=p, recall=r, boxes=boxes)
        for name, ap, p, r, boxes in zip(
            names, maps, found / np.maximum(predicted, 1), found / np.maximum(true, 1), true, strict=True
        )
    )


def _interval(value: float, drawn: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentile interval of the finite draws, widened if necessary to include the value itself."""
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(value), low=min(float(low), float(value)), high=max(float(high), float(value)))


def _luck(lead: float, leads: np.ndarray) -> float:
    """One-sided p-value: the share of permuted leads that reach this one, which is counted too. Ties survive rounding."""
    return float((1 + np.sum(leads >= lead - 1e-12)) / (1 + len(leads)))
