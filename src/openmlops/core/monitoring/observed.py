"""What was observed of a version, as decisions keep it: plain values, read without numpy.

What is not here: how each is measured (`drift`, `accuracy_estimate`) and what follows from it (`policy`).
"""

from datetime import datetime
from typing import Literal

from openmlops.core.types import Interval, Value

Action = Literal["retrain", "collect_labels", "roll_back", "nothing", "not_measurable"]


class ColumnShift(Value):
    """How far one column's mean moved: `shift` in reference standard deviations, `z` in standard errors of the difference."""

    name: str
    reference_mean: float
    window_mean: float
    shift: float
    z: float
    moved: bool
    """`z` alone would be an alarm, at the stated rate divided by the number of columns"""


class DriftReport(Value):
    """One window judged. Numbers are None when it was not measurable; `n` counts distinct rows; columns: furthest first."""

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
    """Estimated accuracy (a share) of `n` answers with its 95 % interval; None when there was nothing to estimate from."""

    accuracy: Interval | None
    n: int
    trustworthy: bool
    reasons: tuple[str, ...]


class LabelledAccuracy(Value):
    """Accuracy, or what `metric` says (a share, 95 % interval), on `n` labelled answers; `error`: the estimate minus it."""

    metric: str = "accuracy"
    accuracy: Interval
    n: int
    error: float | None
    covered: bool | None
    """whether the two intervals overlap"""


class Observation(Value):
    """One window of one version, judged at an instant. Shares are None when they were not measured."""

    at: datetime
    version: int
    drift: DriftReport
    share_of_drifted_columns: float | None = None
    estimate: AccuracyEstimate | None = None
    labelled: LabelledAccuracy | None = None


class WorthLabelling(Value):
    """Ids worth a label: half of them `uncertain` (smallest margin first), half drawn at `random` from the rest.

    Only the random half says how accurate the model is; the uncertain half is there to learn from.
    """

    uncertain: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
