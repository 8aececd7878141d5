"""Which answered boxes find which true boxes: greedy matching as in COCO, once for all that is measured afterwards.

Labels are an object array (n,) of float32 (m, 5): x1, y1, x2, y2 in pixels, class. Answers are an object array (n,) of
float32 (k, 6): x1, y1, x2, y2, score, class. What is not here: what follows from the matches
(average_precision.py, evaluation.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from openmlops.core.images.boxes import iou
from openmlops.errors import EvaluationError

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU from which a box counts as found."""

_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class Matched:
    """The matches of n images with t thresholds. Answered boxes are by falling score, equal scores in the order of the rows."""

    truths: np.ndarray
    """int64 (n, classes): true boxes of each image and class"""
    image: np.ndarray
    """int64 (k,): the row of each answered box"""
    score: np.ndarray
    """float64 (k,)"""
    kind: np.ndarray
    """int64 (k,): the class that was answered"""
    hit: np.ndarray
    """bool (k, t): has found a true box of its class, at each threshold"""


def match(labels: np.ndarray, predictions: np.ndarray, classes: int, thresholds: np.ndarray = THRESHOLDS) -> Matched:
    """Labels and answers of n images -> their matches, image by image and class by class, the highest score first.

    A box takes the true box that it overlaps most of those not yet taken, if their IoU is at least the threshold.
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
    """Two detectors' matches of the same n images as those of 2n images, first's then second's, for weights (d, 2n).

    Answers are put in order by their rank among their detector's answers: how high one detector's scores are against the
    other's says nothing. `score` is the reciprocal of that rank.
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


def same_class_overlap(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Labels (m, 5) and answers (k, 6) of one image -> float64 (m, k): their IoU, 0 between different classes."""
    return overlap(true, found) * (true[:, None, 4] == found[None, :, 5])


def overlap(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Labels (m, 5) and answers (k, 6) of one image -> float64 (m, k): their IoU, whatever their classes."""
    return iou(true[:, :4].astype(np.float64), found[:, :4].astype(np.float64))


def taken(overlaps: np.ndarray, scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """IoU (m, k) and scores (k,) -> int64 (k, t): the true box that each answered one takes at each threshold, or -1."""
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
    """One more than the largest class index in labels or answers; indices that `require_boxes` refuses are passed over."""
    kinds = np.concatenate([np.zeros(1), *(rows[:, -1] for each in boxes for rows in each if rows.ndim == 2)])
    return 1 + int(kinds[(kinds >= 0) & (kinds < _MOST_CLASSES)].max())


def require_boxes(labels: np.ndarray, predictions: np.ndarray, classes: int) -> None:
    """Raise EvaluationError unless there is an image, a true box, an answer to each image, and all boxes are sound.

    Sound: rows of 5 and 6 finite numbers, whole class indices below `classes`, scores from 0 to 1.
    """
    for problem in _problems(labels, predictions, classes):
        raise EvaluationError(f"Boxes cannot be measured: {problem}", "Check the split and the model's outputs")


def _problems(labels: np.ndarray, predictions: np.ndarray, classes: int) -> Iterator[str]:
    if not len(labels) or len(labels) != len(predictions):
        yield f"there are {len(predictions)} answers to {len(labels)} images"
    if not any(len(true) for true in labels):
        yield f"there is no true box in {len(labels)} images"
    for row, (true, found) in enumerate(zip(labels, predictions, strict=True)):
        yield from (f"label of image {row}: {problem}" for problem in _unsound(true, 5, classes))
        yield from (f"answer to image {row}: {problem}" for problem in _unsound(found, 6, classes))
        if len(found) and (found[:, 4].min() < 0 or found[:, 4].max() > 1):
            yield f"answer to image {row}: scores from {found[:, 4].min():g} to {found[:, 4].max():g}"


def _unsound(boxes: np.ndarray, columns: int, classes: int) -> Iterator[str]:
    if boxes.ndim != 2 or boxes.shape[1] != columns:
        yield f"its shape is {boxes.shape}, not (boxes, {columns})"
    elif not np.isfinite(boxes).all():
        yield "a box has a number that is NaN or infinite"
    elif not np.isin(boxes[:, -1], np.arange(classes)).all():
        yield f"class indices {np.unique(boxes[:, -1])[:5].tolist()} for {classes} classes"


def _kinds(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, -1].astype(np.int64)
