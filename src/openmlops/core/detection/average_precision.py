"""Average precision of matched boxes, for many bootstrap draws at once.

What is here: AP as ultralytics computes it (101 recalls, trapezoids), the bootstrap's draws, and a paired permutation test.
What is not: the matching (core/detection/matching.py) and the evaluation built on these figures
(core/detection/evaluation.py).

The precision at recall x is the maximum over all higher recalls, so only true positives matter. A draw is a vector of image
weights: an image drawn three times counts three times, and no draw needs the matching again.
"""

import numpy as np

from openmlops.core.detection.matching import Matched, interleave
from openmlops.core.intervals import Strata

RECALLS = np.linspace(0, 1, 101)
DRAWS = 1000
SEED = 20_240_601

_WIDTHS = np.where((RECALLS == 0) | (RECALLS == 1), 0.005, 0.01)
"""Trapezoid weights: the integral over recall is the sum of the precisions times these."""
_AT_ONCE = 500_000
"""Values per chunk of draws; about what fits in a CPU cache."""


def bootstrap(n: int) -> np.ndarray:
    """float64 (DRAWS, n): how often each of n images occurs in a draw of n with replacement. Deterministic in n."""
    return np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(np.float64)


def stratified_bootstrap(strata: Strata) -> np.ndarray:
    """float64 (DRAWS, k): weights of the k images of a stratified sample. A draw has as many images of each stratum as were
    sampled, with replacement, and each stands for its share of the stratum, whose size is drawn too."""
    rng, size = np.random.default_rng(SEED), strata.sizes.sum()
    sizes = rng.multinomial(round(size), strata.sizes / size, size=DRAWS)
    weights = np.zeros((DRAWS, len(strata.of)))
    for stratum, n in enumerate(strata.counts):
        times = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
        weights[:, strata.of == stratum] = times * sizes[:, [stratum]] / n
    return weights


def swapped_leads(first: Matched, second: Matched) -> np.ndarray:
    """float64 (DRAWS, t): mAP of the first detector minus the second's, the predictions for each image swapped at random.

    The permutation distribution of the difference if both are equally good. Each permutation is used with its mirror image.
    """
    n, both = len(first.truths), interleave(first, second)
    coins = np.random.default_rng(SEED).integers(0, 2, (DRAWS // 2, n)).astype(np.float64)
    kept, opposite = (np.hstack([each, 1 - each]) for each in (coins, 1 - coins))
    leads = mean_average_precision(both, kept) - mean_average_precision(both, opposite)
    return np.concatenate([leads, -leads])


def mean_average_precision(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Image weights (d, n) -> (d, t): AP at each threshold, averaged over the classes that have true boxes.

    NaN where a draw has no true box.
    """
    precision = average_precision(matched, weights)
    there = np.isfinite(precision)
    return np.where(there, precision, 0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)


def average_precision(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Image weights (d, n) -> (d, classes, t): AP of each class at each threshold, NaN where it has no true box."""
    size = max(1, _AT_ONCE // max(1, len(matched.image)))
    chunks = (weights[start : start + size] for start in range(0, len(weights), size))
    return np.concatenate([(precision_curves(matched, chunk) * _WIDTHS).sum(axis=3) for chunk in chunks])


def precision_curves(matched: Matched, weights: np.ndarray) -> np.ndarray:
    """Image weights (d, n) -> (d, classes, t, 101): precision at RECALLS, NaN where a class has no true box."""
    return np.stack([_curves(matched, kind, weights) for kind in range(matched.truths.shape[1])], axis=1)


def _curves(matched: Matched, kind: int, weights: np.ndarray) -> np.ndarray:
    """Precision curves (d, t, 101) of one class."""
    boxes, true = matched.kind == kind, weights @ matched.truths[:, kind]
    drawn = np.take(weights, matched.image[boxes], axis=1)
    predicted, needed = np.maximum(drawn.cumsum(axis=1), 1), _hits_beyond_recalls(true)
    curves = [_curve(drawn, predicted, np.flatnonzero(hit), needed) for hit in matched.hit[boxes].T]
    return np.where(true[:, None, None] > 0, np.stack(curves, axis=1), np.nan)


def _hits_beyond_recalls(true: np.ndarray) -> np.ndarray:
    """True boxes (d,) -> (d, 101): the smallest number of true positives whose recall, in float64, exceeds each of RECALLS."""
    boxes = np.maximum(true, 1)[:, None]
    hits = np.floor(RECALLS * boxes)
    for _ in range(2):
        hits += hits / boxes <= RECALLS
    return hits


def _curve(drawn: np.ndarray, predicted: np.ndarray, hits: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The maximum precision at or above each recall, (d, 101), of one class at one threshold.

    `drawn`: how often each box is drawn (d, k); `predicted`: boxes up to each (d, k); `hits`: indices of the true positives
    (h,); `needed`: true positives needed for each recall (d, 101).
    """
    found = np.take(drawn, hits, axis=1).cumsum(axis=1)
    precision = np.zeros((len(found), len(hits) + 1))
    np.divide(found, np.take(predicted, hits, axis=1), out=precision[:, :-1])
    first = np.array([row.searchsorted(number) for row, number in zip(found, needed, strict=True)])
    starts = first + np.arange(len(found))[:, None] * precision.shape[1]
    best = np.maximum.reduceat(precision.ravel(), starts.ravel()).reshape(starts.shape)
    return np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
