"""Matching of predicted to true boxes: greedy as in COCO, done once for all metrics.

Labels are an object array (n,) of float32 (m, 5): x1, y1, x2, y2 in pixels, class. Predictions are an object array (n,) of
float32 (k, 6): x1, y1, x2, y2, score, class. What is not here: the metrics (average_precision.py, evaluation.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openmlops.core.images.boxes import iou
from openmlops.errors import EvaluationError

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of a true positive."""

_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class Matched:
    """The matches of n images at t thresholds. Predicted boxes are sorted by descending score, ties in row order."""

    truths: np.ndarray
    """int64 (n, classes): true boxes of each image and class"""
    image: np.ndarray
    """int64 (k,): the image of each predicted box"""
    score: np.ndarray
    """float64 (k,)"""
    kind: np.ndarray
    """int64 (k,): the predicted class"""
    hit: np.ndarray
    """bool (k, t): true positive, at each threshold"""


def match(labels: np.ndarray, predictions: np.ndarray, classes: int, thresholds: np.ndarray = THRESHOLDS) -> Matched:
    """Labels and predictions of n images -> their matches, per image and class, highest score first.

    A box is matched with the unmatched true box that it overlaps most, if their IoU is at least the threshold.
    Raises EvaluationError as `require_boxes` does.
    """
    require_boxes(labels, predictions, classes)
    truths = np.array([np.bincount(_kinds(true), minlength=classes) for true in labels])
    hits = [
        taken(same_class_overlap(true, found), found[:, 4], thresholds) >= 0
        for true, found in zip(labels, predictions, strict=True)
    ]
    image = np.repeat(np.arange(len(predictions)), [len(found) for found in predictions])
    boxes, hit = np.concatenate(list(predictions)), np.concatenate(hits)
    order = np.argsort(-boxes[:, 4], kind="stable")
    score, kind = boxes[order, 4].astype(np.float64), _kinds(boxes[order])
    return Matched(truths=truths, image=image[order], score=score, kind=kind, hit=hit[order])


def interleave(first: Matched, second: Matched) -> Matched:
    """Two detectors' matches of the same n images -> matches of 2n images, the first's then the second's, for weights (d, 2n).

    Boxes are sorted by their rank within their detector, because scores of two detectors are not comparable. `score` is the
    reciprocal of that rank.
    """
    ranks = np.concatenate([1 + np.arange(len(each.image)) for each in (first, second)])
    order = np.argsort(ranks, kind="stable")
    return Matched(
        truths=np.concatenate([first.truths, second.truths]),
        image=np.concatenate([first.image, second.image + len(first.truths)])[order],
        score=1 / ranks[order],
        kind=np.concatenate([first.kind, second.kind])[order],
        hit=np.concatenate([first.hit, second.hit])[order],
    )


def same_class_overlap(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Labels (m, 5) and predictions (k, 6) of one image -> float64 (m, k): their IoU, 0 between different classes."""
    return overlap(true, predicted) * (true[:, None, 4] == predicted[None, :, 5])


def overlap(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Labels (m, 5) and predictions (k, 6) of one image -> float64 (m, k): their IoU, regardless of class."""
    return iou(true[:, :4].astype(np.float64), predicted[:, :4].astype(np.float64))


def taken(overlaps: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """IoU (m, k) and scores (k,) -> int64 (k, t): the true box matched with each predicted one at each threshold, or -1."""
    takes = np.full((len(scores), len(thresholds)), -1, dtype=np.int64)
    free = np.ones((len(overlaps), len(thresholds)), dtype=bool)
    near = (overlaps >= thresholds.min()).any(axis=0)
    every = np.arange(len(thresholds))
    for box in np.argsort(-scores, kind="stable"):
        if near[box]:
            left = overlaps[:, box, None] * free
            best = left.argmax(axis=0)
            takes[box] = np.where(left[best, every] >= thresholds, best, -1)
            free[best, every] &= takes[box] < 0
    return takes


def classes_of(*boxes: np.ndarray) -> int:
    """One more than the largest class index in labels or predictions; indices that `require_boxes` rejects are ignored."""
    kinds = np.concatenate([np.zeros(1), *(rows[:, -1] for each in boxes for rows in each if rows.ndim == 2)])
    return 1 + int(kinds[(kinds >= 0) & (kinds < _MOST_CLASSES)].max())


def require_boxes(labels: np.ndarray, predictions: np.ndarray, classes: int) -> None:
    """Raise EvaluationError unless there is a prediction for each of n > 0 images, a true box, and all boxes are valid.

    Valid: rows of 5 (labels) and 6 (predictions) finite numbers, integer class indices below `classes`, scores in 0..1.
    """
    for problem in _problems(labels, predictions, classes):
        raise EvaluationError(f"Detections cannot be evaluated: {problem}", "Check the split and the model's outputs")


def _problems(labels: np.ndarray, predictions: np.ndarray, classes: int) -> Iterator[str]:
    if not len(labels) or len(labels) != len(predictions):
        yield f"there are {len(predictions)} predictions for {len(labels)} images"
    if not any(len(true) for true in labels):
        yield f"no ground-truth box in {len(labels)} images"
    for row, (true, found) in enumerate(zip(labels, predictions, strict=True)):
        yield from (f"label of image {row}: {problem}" for problem in _unsound(true, 5, classes))
        yield from (f"prediction for image {row}: {problem}" for problem in _unsound(found, 6, classes))
        if len(found) and (found[:, 4].min() < 0 or found[:, 4].max() > 1):
            yield f"prediction for image {row}: scores from {found[:, 4].min():g} to {found[:, 4].max():g}"


def _unsound(boxes: np.ndarray, columns: int, classes: int) -> Iterator[str]:
    if boxes.ndim != 2 or boxes.shape[1] != columns:
        yield f"its shape is {boxes.shape}, not (boxes, {columns})"
    elif not np.isfinite(boxes).all():
        yield "a box has a number that is NaN or infinite"
    elif not np.isin(boxes[:, -1], np.arange(classes)).all():
        yield f"class indices {np.unique(boxes[:, -1])[:5].tolist()} for {classes} classes"


def _kinds(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, -1].astype(np.int64)
