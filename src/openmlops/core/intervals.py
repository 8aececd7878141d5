"""Confidence intervals of a proportion."""

from statistics import NormalDist

import numpy as np

from openmlops.core.types import Interval
from openmlops.errors import EvaluationError

CONFIDENCE = 0.95


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """`successes / n` with its Wilson score interval. Raises EvaluationError unless 0 <= successes <= n and n > 0."""
    if n <= 0 or not 0 <= successes <= n:
        raise EvaluationError(f"{successes} of {n} is not a share", "Evaluate on at least one image")
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(value=share, low=max(0.0, float(centre - half)), high=min(1.0, float(centre + half)))
