"""Statistics of two models that answered the same images: only the images on which they disagree tell them apart.

What is here: McNemar's exact test, Tango's score interval, and how many images would show a difference. What is not: what to
do about it (`gate`). scipy is imported where two models are compared: the server, which compares none, does without it.
"""

import math
from statistics import NormalDist

from openmlops.core.types import Interval


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """One-sided p-value of "the first is better": a lead at least this large, if each disagreement were a fair coin."""
    from scipy.stats import binom

    return float(binom.sf(only_first - 1, only_first + only_second, 0.5))


def score_interval(only_first: int, only_second: int, n: int, confidence: float) -> Interval:
    """First share minus second, on n common images, with Tango's score interval (Statistics in Medicine 17, 1998).

    `only_first` images have only the first right, `only_second` only the second. Unlike Wald's, the interval keeps its
    coverage when the two hardly ever disagree.
    """
    from scipy.optimize import brentq

    z, value = standard_normal((1 + confidence) / 2), (only_first - only_second) / n

    def beyond(bound: float, errors: float) -> float:
        return _standard_errors(only_first, only_second, n, bound) - errors

    low = brentq(beyond, -1, value, args=(z,)) if value > -1 else -1.0
    high = brentq(beyond, value, 1, args=(-z,)) if value < 1 else 1.0
    return Interval(value=value, low=low, high=high)


def images_needed(n: int, interval: Interval, confidence: float, gap: float, alpha: float, power: float) -> int:
    """How many images, of the kind that `n` of gave `interval`, show with `power` that `gap` is not 0 (one-sided `alpha`).

    The standard error is read from the interval, so that this holds for any paired score.
    """
    error = (interval.high - interval.low) / (2 * standard_normal((1 + confidence) / 2))
    return math.ceil(n * (error * (standard_normal(1 - alpha) + standard_normal(power)) / gap) ** 2)


def standard_normal(probability: float) -> float:
    """The quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def _standard_errors(only_first: int, only_second: int, n: int, difference: float) -> float:
    """How many standard errors the lead lies above `difference`, the disagreement at its constrained maximum likelihood."""
    lead = only_first - only_second - n * difference
    b = (2 * n - only_first + only_second) * difference - only_first - only_second
    c = -only_second * difference * (1 - difference)
    disagreement = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * disagreement + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, lead) if lead else 0.0
    return lead / math.sqrt(variance)
