"""Paired statistics of two models on the same images: only the images on which they disagree carry information.

What is here: McNemar's exact test, Tango's score interval, and the sample size that shows a difference. What is not: the
decision (`gate.rules`). scipy is imported where it is used, so that the server runs without it.
"""

import math
from statistics import NormalDist

from openmlops.core.types import Interval


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """One-sided p-value for "the first is better": the probability of such a lead if disagreements were fair coin tosses."""
    from scipy.stats import binom

    return float(binom.sf(only_first - 1, only_first + only_second, 0.5))


def score_interval(only_first: int, only_second: int, n: int, confidence: float) -> Interval:
    """Difference of two accuracies on n common images with Tango's score interval (Statistics in Medicine 17, 1998).

    On `only_first` images only the first model is correct, on `only_second` only the second. Unlike Wald's, the interval keeps
    its coverage when disagreements are rare.
    """
    from scipy.optimize import brentq

    z, value = standard_normal((1 + confidence) / 2), (only_first - only_second) / n

    def beyond(bound: float, errors: float) -> float:
        return standard_errors(only_first, only_second, n, bound) - errors

    low = brentq(beyond, -1, value, args=(z,)) if value > -1 else -1.0
    high = brentq(beyond, value, 1, args=(-z,)) if value < 1 else 1.0
    return Interval(value=value, low=low, high=high)


def images_needed(n: int, interval: Interval, confidence: float, gap: float, alpha: float, power: float) -> int:
    """The sample size that shows with `power` that a difference of `gap` is not 0 (one-sided `alpha`).

    The standard error is taken from `interval`, measured on `n` images, so this holds for any paired metric.
    """
    error = (interval.high - interval.low) / (2 * standard_normal((1 + confidence) / 2))
    return math.ceil(n * (error * (standard_normal(1 - alpha) + standard_normal(power)) / gap) ** 2)


def standard_normal(probability: float) -> float:
    """The quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def standard_errors(only_first: int, only_second: int, n: int, difference: float) -> float:
    """The score statistic: the observed lead minus `difference` in standard errors, at the constrained maximum likelihood."""
    lead = only_first - only_second - n * difference
    b = (2 * n - only_first + only_second) * difference - only_first - only_second
    c = -only_second * difference * (1 - difference)
    disagreement = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * disagreement + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, lead) if lead else 0.0
    return lead / math.sqrt(variance)
