"""Observations of a version as plain values, which decisions store; importable without numpy.

What is not here: how they are measured (`drift`, `accuracy_estimate`) and the decision based on them (`policy`).
"""

from datetime import datetime
from typing import Literal, NamedTuple

from openmlops.core.types import Interval, Value

Action = Literal["retrain", "collect_labels", "roll_back", "nothing", "not_measurable"]


class ColumnShift(Value):
    """The shift of one column's mean: `shift` in reference standard deviations, `z` in standard errors of the difference."""

    name: str
    reference_mean: float
    window_mean: float
    shift: float
    z: float
    moved: bool
    """`z` is significant by itself, at the false-alarm rate divided by the number of columns (Bonferroni)"""


class DriftReport(Value):
    """The result for one window. Numbers are None if it was not measurable; `n` counts distinct rows; largest shift first."""

    outcome: Literal["drift", "no_drift", "not_measurable"]
    reasons: tuple[str, ...]
    reference: str
    false_alarm_rate: float
    n: int = 0
    statistic: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    columns: tuple[ColumnShift, ...] = ()


class AccuracyEstimate(Value):
    """Estimated accuracy (0..1) of `n` predictions with its 95 % interval; None if there was nothing to estimate from."""

    accuracy: Interval | None
    n: int
    trustworthy: bool
    reasons: tuple[str, ...]


class LabelledAccuracy(Value):
    """Accuracy, or another `metric` (0..1, 95 % interval), on `n` labelled predictions; `error`: the estimate minus it."""

    metric: str = "accuracy"
    accuracy: Interval
    n: int
    error: float | None
    covered: bool | None
    """whether the two intervals overlap"""
    sampled: bool = False
    """whether the labels are a drawn sample, weighted to stand for all answers; else they came of themselves"""
    apart: int = 0
    """labels that are left out, because they came of themselves beside the sample"""
    accuracy_apart: Interval | None = None
    """the metric on those, if they are enough"""


class Observation(Value):
    """One window of one version, evaluated at an instant. Shares are None if they were not measured."""

    at: datetime
    version: int
    drift: DriftReport
    share_of_drifted_columns: float | None = None
    estimate: AccuracyEstimate | None = None
    labelled: LabelledAccuracy | None = None


class Drawn(NamedTuple):
    """How one answer of a label request's window took part in the draw (core.monitoring.sampling).

    `stratum`: it had a known label then, is one of the uncertain ones that were all asked about, or of the rest. `probability`:
    that it was asked about, given its stratum."""

    prediction: str
    stratum: Literal["known", "uncertain", "rest"]
    at_random: bool
    probability: float


class WorthLabelling(Value):
    """Ids of images worth labelling: half drawn at `random` from all, half `uncertain` ones of the others, least certain first.

    The random half alone is an unbiased sample; with the uncertain half it is one once each label is weighted by how probable
    it was to be asked for (core.monitoring.sampling).
    """

    uncertain: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
