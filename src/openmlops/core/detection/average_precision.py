"""Average precision of matched boxes, for many draws of images at once.

What is here: AP as ultralytics computes it (101 recalls, trapezoids), the draws of the bootstrap, and a test by swaps. What
is not: the matching (core/detection/matching.py) and what is made of the figures (core/detection/evaluation.py).

At recall x the precision is the best one at any higher recall, so only the answered boxes that are hits matter, and an
image that is drawn three times weighs as three copies of it do: nothing is matched again for a draw.
"""

import numpy as np

from openmlops.core.detection.matching import Matched, interleave

RECALLS = np.linspace(0, 1, 101)
DRAWS = 1000
SEED = 20_240_601

_WIDTHS = np.where((RECALLS == 0) | (RECALLS == 1), 0.005, 0.01)
"""Of the trapezoids: the integral over recall is the precisions times these."""
_AT_ONCE = 500_000
"""Numbers of a chunk of draws that fit in a processor's cache, more or less."""


def bootstrap(n: int) -> np.ndarray:
    """float64 (DRAWS, n): how often each of n images is drawn, n times with replacement; the same for the same n."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64)


def swapped_leads(first: Matched, second: Matched) -> np.ndarray:
    """float64 (DRAWS, t): mAP of the first detector minus the second's, had a coin told for each image whose answer is whose.

    If both are equally good, the true lead is one of these. Each fall of the coins counts with its opposite.
    """
    n, both = len(first.truths), interleave(first, second)
    coins = np.random.default_rng(SEED).integers(0, 2, (DRAWS // 2, n)).astype(np.float64)
    kept, opposite = (np.hstack([each, 1 - each]) for each in (coins, 1 - coins))
    leads = mean_average_precision(both, kept) - mean_average_precision(both, opposite)
    return np.concatenate([leads, -leads])


def mean_average_precision(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Weights (d, n) of the images -> (d, t): mean of AP over the classes that have true boxes, at each threshold.

    NaN where a draw has no true box.
    """
    precision = average_precision(matched, weights)
    there = np.isfinite(precision)
    return np.where(there, precision, 0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)


def average_precision(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Weights (d, n) of the images -> (d, classes, t): AP of each class at each threshold, NaN where it has no true box."""
    size = max(1, _AT_ONCE // max(1, len(matched.image)))
    chunks = (weights[start : start + size] for start in range(0, len(weights), size))
    return np.concatenate([(precision_curves(matched, chunk) * _WIDTHS).sum(axis=3) for chunk in chunks])


def precision_curves(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Weights (d, n) of the images -> (d, classes, t, 101): precision at RECALLS, NaN where a class has no true box."""
    return np.stack([_curves(matched, kind, weights) for kind in range(matched.truths.shape[1])], axis=1)


def _curves(matched: Matched, kind: int, weights: np.ndarray) -> np.ndarray:
    """(d, t, 101) of one class."""
    boxes, true = matched.kind == kind, weights @ matched.truths[:, kind]
    drawn = np.take(weights, matched.image[boxes], axis=1)
    predicted, needed = np.maximum(drawn.cumsum(axis=1), 1), _hits_beyond_recalls(true)
    curves = [_curve(drawn, predicted, np.flatnonzero(hit), needed) for hit in matched.hit[boxes].T]
    return np.where(true[:, None, None] > 0, np.stack(curves, axis=1), np.nan)


def _hits_beyond_recalls(true: np.ndarray) -> np.ndarray:
    """True boxes (d,) -> (d, 101): the least number of hits whose recall is above each of RECALLS, in float64 as it is."""
    boxes = np.maximum(true, 1)[:, None]
    hits = np.floor(RECALLS * boxes)
    for _ in range(2):
        hits += hits / boxes <= RECALLS
    return hits


def _curve(drawn: np.ndarray, predicted: np.ndarray, hits: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The best precision from each recall on, (d, 101), of one class at one threshold.

    How often each answer is drawn, and answers up to each (d, k); which are hits (h,); hits needed for each recall (d, 101).
    """
    found = np.take(drawn, hits, axis=1).cumsum(axis=1)
    precision = np.zeros((len(found), len(hits) + 1))
    np.divide(found, np.take(predicted, hits, axis=1), out=precision[:, :-1])
    first = np.array([row.searchsorted(number) for row, number in zip(found, needed, strict=True)])
    starts = first + np.arange(len(found))[:, None] * precision.shape[1]
    best = np.maximum.reduceat(precision.ravel(), starts.ravel()).reshape(starts.shape)
    return np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
