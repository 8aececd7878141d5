"""How often chance alone would raise alarms as strong as those of a few windows, at the rate at which windows come.

Each window alarms with a stated probability without drift. Several windows together alarm far less often, but a year has many
of them: with 500 of 600 predictions an hour, two of three windows at 1 % alarm twice a year. So the p-values of the alarmed
windows are combined (Fisher), and the more windows a year has, the stronger they must be. Windows share no prediction. Not
here: the p-value of a window (`drift`), and what follows from alarms (`policy`).
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from openmlops.core.monitoring.drift_reference import DRAWS

YEAR = timedelta(days=365)
A_YEAR = 0.5
"""most false episodes a year that the evidence leaves to be expected"""
CLOSEST = timedelta(minutes=5)
"""windows that come faster than this, as of a batch, are taken to be this far apart: a year does not go on like that"""
STRONGEST = 1 / (1 + DRAWS)
"""the smallest p-value that a calibration can show: beyond all of its windows"""


def by_chance(p_values: Sequence[float], rate: float, choices: int, apart: timedelta) -> float:
    """Expected number of times a year that chance alone gives alarms whose p-values have a product as small as these.

    Each of m windows alarms with the probability `rate` without drift, its p-value then uniform below that. `choices`: how many
    sets of windows that end with the newest count together. `apart`: time between windows.
    """
    product, most, m = math.prod(p_values), rate ** len(p_values), len(p_values)
    if product >= most:
        probability = most
    else:
        excess = math.log(most / product)
        probability = product * sum(excess**i / math.factorial(i) for i in range(m))
    return float(choices * probability * (YEAR / max(apart, CLOSEST)))


def doubt(p_values: Sequence[float | None], rate: float, at: Sequence[datetime], required: int) -> str:
    """Why alarms with these p-values are no evidence yet; empty if they are. `at`: when the last windows came, alarmed or not;
    `required` of them must alarm."""
    known = [p for p in p_values if p is not None]
    if len(known) < len(p_values) or not known or len(at) < 2 or max(known) <= STRONGEST or not 0 < rate < 1:
        return ""
    gaps = np.diff([instant.timestamp() for instant in at])
    often = by_chance(known, rate, math.comb(len(at) - 1, required - 1), timedelta(seconds=float(np.median(gaps))))
    if often <= A_YEAR:
        return ""
    return f"chance alone would raise alarms as strong as these {often:.1f} times a year; at most {A_YEAR} are accepted"
