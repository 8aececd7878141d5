"""The drift reference of one registered version: the statistics that windows are compared with, and calibrated thresholds.

The statistic is Hotelling's T-squared with a shrunk covariance, over all columns: image statistics, log-probabilities and
embedding. `calibrate` draws its null distribution when the model is registered: windows sampled from the reference without
replacement, each compared with rows that it does not contain, so that the stated false-alarm rate is a measured one.
What is not here: the test of a window, which is `drift.measure`.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from openmlops.core.monitoring import feature_frames
from openmlops.errors import DataError, ModelCorrupt
from openmlops.files import write_bytes

WINDOW_SIZES = (50, 100, 200, 500, 1000)
"""Window sizes in rows that are calibrated; smaller windows than the smallest are not tested."""
DRAWS = 2000
"""Windows drawn for the null distribution of each size."""
FOLD = 0.2
"""Share of the reference that a fold holds out to draw null windows from; one window's size if that is larger."""
SHRINKAGE = 0.4
"""Weight of the identity in the covariance. 0 whitens fully and has little power along high-variance directions, such as class
frequencies; 1 does not whiten and has little power along low-variance ones. See docs/decisions/0006-calibrated-drift.md."""
FLAT = 1e-5
"""A column whose range is at most this share of its largest magnitude counts as constant (float noise)."""
CONFIDENCE = 0.95
"""Approximate share of references whose false-alarm rate, conditional on their rows, is at most the stated one."""


@dataclass(frozen=True, eq=False)
class DriftReference:
    """The reference that a registered version's windows are compared with: d columns, k window sizes, n reference rows."""

    names: tuple[str, ...]
    constant: tuple[str, ...]
    """columns with one value in all reference rows: required in a window, but not tested"""
    mean: np.ndarray
    """float64 (d,), in units of the column"""
    scale: np.ndarray
    """float64 (d,), standard deviations in units of the column"""
    low: np.ndarray
    """float64 (d,), smallest value, in units of the column"""
    high: np.ndarray
    """float64 (d,), largest value, in units of the column"""
    covariance: np.ndarray
    """float64 (d, d), of the standardised columns, shrunk by `SHRINKAGE`"""
    keys: np.ndarray
    """uint64 (n,), sorted: `feature_frames.row_keys` of the reference rows"""
    rows: int
    sizes: np.ndarray
    """int64 (k,), rows, ascending"""
    nulls: np.ndarray
    """float64 (k, draws), ascending along each row: null distribution of the statistic (no drift)"""
    false_alarm_rate: float

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """An `.npz` of plain arrays without pickle; equal references give equal bytes."""
        about = json.dumps({name: getattr(self, name) for name in _NOT_ARRAYS})
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        buffer = io.BytesIO()
        np.savez(buffer, about=np.frombuffer(about.encode(), dtype=np.uint8), **arrays)
        return buffer.getvalue()

    def save(self, path: Path) -> Path:
        """Write it to `path` atomically."""
        return write_bytes(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> "DriftReference":
        """Read a file that `save` wrote. Raises ModelCorrupt for any other."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                arrays = {name: stored[name] for name in _ARRAYS}
            about["names"], about["constant"] = tuple(about["names"]), tuple(about["constant"])
            return cls(**about, **arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            problem = f"{path} is not a readable drift reference ({type(error).__name__})"
            raise ModelCorrupt(problem, "Fetch the model version again, or register it again") from error


_ARRAYS = ("mean", "scale", "low", "high", "covariance", "keys", "sizes", "nulls")
_NOT_ARRAYS = ("names", "constant", "rows", "false_alarm_rate")


def calibrate(
    reference: feature_frames.Frame,
    sizes: Sequence[int] = WINDOW_SIZES,
    false_alarm_rate: float = 0.01,
    seed: int = 0,
) -> DriftReference:
    """Fit the statistic to the features of the validation images and draw its null distribution for each window size.

    Sizes above half of the reference are left out. Raises DataError for a frame that is unusable as a reference.
    """
    if found := feature_frames.defects(reference):
        raise DataError(f"the drift reference is unusable: {'; '.join(found)}", "Compute the features again")
    if not 0 < false_alarm_rate < 1:
        raise DataError(f"the false-alarm rate is {false_alarm_rate}", "Give a share between 0 and 1, such as 0.01")
    names, constant = _split_constant(reference)
    x = feature_frames.matrix(reference, names)
    usable = _usable(sizes, len(x))
    mean, scale = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / scale
    rng = np.random.default_rng(seed)
    return DriftReference(
        names=names,
        constant=constant,
        mean=mean,
        scale=scale,
        low=x.min(axis=0),
        high=x.max(axis=0),
        covariance=_shrunk(z.T @ z / len(z)),
        keys=_distinct(z),
        rows=len(z),
        sizes=usable,
        nulls=np.stack([_null(z, int(size), rng) for size in usable]),
        false_alarm_rate=false_alarm_rate,
    )


def _split_constant(reference: feature_frames.Frame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns that vary, and of the constant ones, both sorted."""
    constant = tuple(sorted(name for name, column in reference.items() if np.ptp(column) <= FLAT * np.abs(column).max()))
    names = tuple(sorted(set(reference) - set(constant)))
    if not names:
        raise DataError(f"all {len(constant)} columns of the drift reference are constant", "Compute the features again")
    return names, constant


def _usable(sizes: Sequence[int], rows: int) -> np.ndarray:
    """The window sizes that can be drawn from `rows` reference rows, ascending."""
    usable = np.array(sorted(size for size in set(sizes) if 2 <= size <= rows // 2), dtype=np.int64)
    if not len(usable):
        smallest = min(sizes, default=2)
        problem = f"{rows} reference rows are too few for windows of {smallest}"
        raise DataError(problem, f"Use at least {2 * smallest} validation images")
    return usable


def _distinct(z: np.ndarray) -> np.ndarray:
    """The keys of standardised rows. Most must be distinct, else a window taken from the reference would not be recognised."""
    keys = np.unique(feature_frames.row_keys(z))
    if len(keys) < len(z) / 2:
        problem = f"only {len(keys)} of {len(z)} reference rows are distinct"
        raise DataError(problem, "Use validation images and features that tell images apart")
    return keys


def _null(z: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The statistic of `DRAWS` windows of standardised rows (n, d), ascending: (DRAWS,).

    Each fold holds rows out, fits to the rest and draws disjoint windows from the held-out rows. The difference between
    disjoint random parts of a finite set has exactly the variance that `statistic` divides by.
    """
    n, total, gram = len(z), z.sum(axis=0), z.T @ z
    windows = max(1, int(n * FOLD) // size)
    drawn = np.empty(0)
    while len(drawn) < DRAWS:
        held = z[rng.choice(n, windows * size, replace=False)]
        rest = n - len(held)
        mean = (total - held.sum(axis=0)) / rest
        covariance = _shrunk((gram - held.T @ held) / rest - np.outer(mean, mean))
        means = held.reshape(windows, size, -1).mean(axis=1)
        drawn = np.append(drawn, statistic(means - mean, covariance, size, rest))
    return np.sort(drawn[:DRAWS])


def statistic(differences: np.ndarray, covariance: np.ndarray, window: int, reference: int) -> np.ndarray:
    """Hotelling's T-squared (k,) of k differences of means (k, d), of `window` rows against `reference` rows."""
    whitened = np.linalg.solve(covariance, differences.T).T
    return (differences * whitened).sum(axis=1) / (1 / window + 1 / reference)


def _shrunk(covariance: np.ndarray) -> np.ndarray:
    """The covariance (d, d) of standardised columns, mixed with the identity by `SHRINKAGE`."""
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(covariance))


def null_for(n: int, reference: DriftReference) -> np.ndarray:
    """Null distribution (draws,) for a window of `n` rows: interpolated between sizes on a log scale, then corrected."""
    at = np.interp(np.log(n), np.log(reference.sizes), np.arange(len(reference.sizes)))
    low, high = int(np.floor(at)), int(np.ceil(at))
    between = reference.nulls[low] + (at - low) * (reference.nulls[high] - reference.nulls[low])
    return between * _finite_reference(between, n / (n + reference.rows), reference.false_alarm_rate)


def _finite_reference(null: np.ndarray, share: float, rate: float) -> float:
    """Factor by which the threshold is widened because all windows of a version are compared with the same reference rows.

    The null draws average over references. One reference has one error of its mean, which all its windows share and which
    makes up `share` of the variance. The factor takes that error at its `CONFIDENCE` quantile, and approximates the
    conditional statistic, a noncentral chi-squared, by a normal with the degrees of freedom implied by the null's moments.
    """
    d = 2 * null.mean() ** 2 / null.var()
    upper = NormalDist().inv_cdf(1 - rate)
    error = d + NormalDist().inv_cdf(CONFIDENCE) * np.sqrt(2 * d)
    mean = d * (1 - share) + error * share
    variance = 2 * d * (1 - share) ** 2 + 4 * error * share * (1 - share)
    return float(max(1.0, (mean + upper * np.sqrt(variance)) / (d + upper * np.sqrt(2 * d))))
