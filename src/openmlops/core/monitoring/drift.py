"""Drift detection: tests whether the mean of a window of production features differs from the served version's reference.

What is not covered: changes that leave every mean unchanged, and windows whose images depend on one another beyond exact
repetition (ten frames of one scene count as ten). A window that cannot be tested is `not_measurable`, with the reason; that
is never an exception and never "no drift".

Measured (docs/decisions/0006-calibrated-drift.md): false alarms, power and time.
"""

from statistics import NormalDist
from typing import Literal

import numpy as np

from openmlops.core.monitoring import feature_frames
from openmlops.core.monitoring.drift_reference import DriftReference, calibrate, null_for, statistic
from openmlops.core.monitoring.observed import ColumnShift, DriftReport

__all__ = ["ColumnShift", "DriftReference", "DriftReport", "calibrate", "measure"]

OVERLAP = 0.5
"""A window with more than this share of rows from the reference counts as the reference itself, not as traffic."""


def measure(window: object, reference: DriftReference) -> DriftReport:
    """Test a window of production features, a frame with the reference's columns. Never raises for the content of `window`."""
    if found := _frame_refusals(window, reference):
        return _not_measurable(reference, found)
    x = feature_frames.matrix(window, reference.names)  # type: ignore[arg-type]
    z = (x - reference.mean) / reference.scale
    keys, first = np.unique(feature_frames.row_keys(z), return_index=True)
    if found := _row_refusals(x, keys, reference):
        return _not_measurable(reference, found, len(keys))
    return _test(z[first], len(z) - len(first), reference)


def _not_measurable(reference: DriftReference, reasons: tuple[str, ...], n: int = 0) -> DriftReport:
    return DriftReport(
        outcome="not_measurable",
        reasons=reasons,
        reference=reference.fingerprint,
        false_alarm_rate=reference.false_alarm_rate,
        n=n,
    )


def _frame_refusals(window: object, reference: DriftReference) -> tuple[str, ...]:
    """Why the columns of `window` cannot be compared with the reference's."""
    if found := feature_frames.defects(window):
        return found
    present, expected = set(window), {*reference.names, *reference.constant}  # type: ignore[call-overload]
    missing, extra = sorted(expected - present), sorted(present - expected)
    found = (f"{len(missing)} columns are missing: {_listed(missing)}",) if missing else ()
    return (*found, f"{len(extra)} columns are not in the reference: {_listed(extra)}") if extra else found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _row_refusals(x: np.ndarray, keys: np.ndarray, reference: DriftReference) -> tuple[str, ...]:
    """Why the rows of a window (n, d), with their distinct keys, cannot be tested."""
    floor = int(reference.sizes[0])
    if len(keys) < floor:
        return (f"the window has {len(keys)} distinct rows of {len(x)}, fewer than {floor}, the smallest calibrated window",)
    if stuck := _stuck(x, reference):
        return (f"{len(stuck)} columns are constant, within the reference's range: {_listed(stuck)}",)
    known = np.isin(keys, reference.keys).mean()
    return (
        (f"{known:.0%} of the rows are also in the reference, which would be compared with itself",) if known > OVERLAP else ()
    )


def _stuck(x: np.ndarray, reference: DriftReference) -> list[str]:
    """Columns of a window (n, d) that cannot be measurements: constant, and inside the reference's range.

    A constant at or beyond an end of the range is drift, such as no clipped pixel at all once the contrast is low.
    """
    within = (x[0] > reference.low) & (x[0] < reference.high)
    return [reference.names[i] for i in np.flatnonzero((np.ptp(x, axis=0) == 0) & within)]


def _test(z: np.ndarray, repeated: int, reference: DriftReference) -> DriftReport:
    """Compare distinct standardised rows (n, d) with the reference's threshold for that many rows."""
    n, rate = len(z), reference.false_alarm_rate
    difference = z.mean(axis=0)
    distance = float(statistic(difference[None], reference.covariance, n, reference.rows)[0])
    null = null_for(n, reference)
    threshold = float(np.quantile(null, 1 - rate))
    p_value = float((1 + (null >= distance).sum()) / (1 + len(null)))
    columns = _columns(difference, n, reference)
    outcome: Literal["drift", "no_drift"] = "drift" if distance > threshold else "no_drift"
    side = "above" if outcome == "drift" else "not above"
    reasons = [
        f"statistic {distance:.1f} is {side} {threshold:.1f}, the threshold for {n} rows at a false-alarm rate of {rate:g}"
    ]
    if moved := [column for column in columns if column.moved and outcome == "drift"]:
        furthest = ", ".join(f"{column.name} by {column.shift:+.2f}" for column in moved[:3])
        reasons.append(f"{len(moved)} of {len(columns)} columns shifted; largest shifts in standard deviations: {furthest}")
    if repeated:
        reasons.append(f"{repeated} duplicate rows were excluded")
    return DriftReport(
        outcome=outcome,
        reasons=tuple(reasons),
        reference=reference.fingerprint,
        false_alarm_rate=rate,
        n=n,
        statistic=distance,
        threshold=threshold,
        p_value=p_value,
        columns=columns,
    )


def _columns(difference: np.ndarray, n: int, reference: DriftReference) -> tuple[ColumnShift, ...]:
    """The shift of every tested column, largest first."""
    z = difference / np.sqrt(1 / n + 1 / reference.rows)
    limit = NormalDist().inv_cdf(1 - reference.false_alarm_rate / (2 * len(z)))
    order = np.argsort(-np.abs(difference))
    return tuple(
        ColumnShift(
            name=reference.names[i],
            reference_mean=float(reference.mean[i]),
            window_mean=float(reference.mean[i] + difference[i] * reference.scale[i]),
            shift=float(difference[i]),
            z=float(z[i]),
            moved=bool(abs(z[i]) > limit),
        )
        for i in order
    )
