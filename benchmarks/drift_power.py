"""How often each drift rule is right, on real windows: false alarms without drift, power under corruption. Prints Markdown.

MODEL is a folder with `model.onnx` and `reference.parquet` (the features of its validation images), DATA a folder in the
CIFAR-10 layout, of which the test images are used: they are in no reference. Windows are drawn without replacement from
the (corrupted) test images; a class prior is a window with one class more often than it should be.

Beside our measure stand two rules as the examples of this field have them: the first half of a window against its second
half (share of columns with a K-S p-value under 0.05 at least 0.3), and Evidently's default for references of more than
1,000 rows (share of columns with a normed Wasserstein distance of at least 0.1 at least 0.5; Evidently's own function).

    python benchmarks/drift_power.py MODEL DATA [--rate 0.05] [--windows 200] [--null-windows 1000]
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet

from openmlops.core.images.corruptions import corrupt
from openmlops.core.monitoring.drift import DriftReference, calibrate, measure
from openmlops.operations.release import inference
from openmlops.usecases.base import load_use_case

SIZES = (50, 200, 1000)
SEVERITIES = (1, 3)
PRIORS = (0.2, 0.3)
"""Share of the favoured class, which has a tenth of the test images."""
SLOW_RULE_WINDOWS = 40
"""Windows for Evidently's rule, which takes a hundred times longer than the others."""

Frame = dict[str, np.ndarray]
Rule = Callable[[np.ndarray], bool]


def main(model: Path, data: Path, rate: float, windows: int, null_windows: int) -> None:
    """Compute the features of every condition, then judge windows of each size by each rule."""
    names, reference_rows = _reference(model / "reference.parquet")
    started = time.perf_counter()
    reference = calibrate(dict(zip(names, reference_rows.T, strict=True)), false_alarm_rate=rate)
    calibration = time.perf_counter() - started
    rules = _rules(names, reference_rows, reference)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}; {reference.rows} reference rows, {len(names)}"
    )
    print(f"columns, calibrated in {calibration:.1f} s at a false-alarm rate of {rate:g}. Share of windows with an alarm:\n")
    print("| condition | " + " | ".join(f"{rule} {size}" for rule in rules for size in SIZES) + " |")
    print("|---" * (1 + len(rules) * len(SIZES)) + "|")
    powers = []
    for condition, rows, weights in _conditions(model, data, names):
        n = null_windows if condition == "none" else windows
        shares = [_share(rule, rows, weights, size, _count(name, n)) for name, rule in rules.items() for size in SIZES]
        print(f"| {condition} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)
        powers += [shares] if condition != "none" else []
    print("| **mean power** | " + " | ".join(f"{share:.2f}" for share in np.mean(powers, axis=0)) + " |")
    print(f"\nn = {null_windows} windows without drift and {windows} a condition (Evidently's rule: {SLOW_RULE_WINDOWS}).\n")
    _print_time(reference_rows, rate)


def _reference(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Column names, and the rows (n, d) of the validation images."""
    table = pyarrow.parquet.read_table(path)
    return tuple(table.column_names), np.stack([table[name].to_numpy() for name in table.column_names], axis=1)


def _conditions(model: Path, data: Path, names: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, features (n, d) and drawing weights (n,) of each condition over the test images; `none` comes first."""
    use_case = load_use_case("cifar10")
    onnx = inference.load_exported(use_case, model)
    rows = use_case.read(data)
    images, labels = rows.images[rows.test], rows.labels[rows.test]
    even = np.full(len(images), 1 / len(images))

    def features(of: np.ndarray) -> np.ndarray:
        _, found = inference.predict_with_features(use_case, onnx, of)
        return np.stack([found[name] for name in names], axis=1)

    clean = features(images)
    yield "none", clean, even
    for kind in ("brightness", "noise", "blur", "contrast"):
        for severity in SEVERITIES:
            yield f"{kind} {severity}", features(corrupt(images, kind, severity, seed=0)), even
    for share in PRIORS:
        favoured = labels == 0
        yield f"class prior {share}", clean, np.where(favoured, share / favoured.sum(), (1 - share) / (~favoured).sum())


def _rules(names: tuple[str, ...], reference_rows: np.ndarray, reference: DriftReference) -> dict[str, Rule]:
    return {
        "calibrated": lambda window: measure(dict(zip(names, window.T, strict=True)), reference).outcome == "drift",
        "halves": lambda window: _halves(window),
        "Evidently": _evidently_default(reference_rows),
    }


def _halves(window: np.ndarray) -> bool:
    """First half against second half of one window, all columns at once; the asymptotic K-S limit at 0.05."""
    half = len(window) // 2
    order = np.argsort(window, axis=0, kind="stable")
    steps = np.where(order < half, 1 / half, -1 / (len(window) - half))
    distance = np.abs(np.cumsum(steps, axis=0)).max(axis=0)
    limit = 1.358 * np.sqrt(len(window) / (half * (len(window) - half)))
    return bool((distance > limit).mean() >= 0.3)


def _evidently_default(reference_rows: np.ndarray) -> Rule:
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently.legacy.calculations.stattests.wasserstein_distance_norm import _wasserstein_distance_norm as distance
    from evidently.legacy.core import ColumnType

    def judge(window: np.ndarray) -> bool:
        pairs = zip(reference_rows.T, window.T, strict=True)
        return bool(np.mean([distance(old, new, ColumnType.Numerical, 0.1)[1] for old, new in pairs]) >= 0.5)

    return judge


def _count(rule: str, windows: int) -> int:
    return min(windows, SLOW_RULE_WINDOWS) if rule == "Evidently" else windows


def _share(rule: Rule, rows: np.ndarray, weights: np.ndarray, size: int, windows: int) -> float:
    """Share of `windows` random windows of `size` rows that the rule calls drift."""
    rng = np.random.default_rng(size)
    return float(np.mean([rule(rows[rng.choice(len(rows), size, replace=False, p=weights)]) for _ in range(windows)]))


def _print_time(reference_rows: np.ndarray, rate: float) -> None:
    """Time of one measurement of 1,000 rows and 20 columns: the median of 50."""
    old, window = reference_rows[:, :20], np.random.default_rng(0).permutation(reference_rows)[:1000, :20]
    window = window + np.float32(0.01) * old.std(axis=0)
    columns = [str(i) for i in range(20)]
    reference = calibrate(dict(zip(columns, old.T, strict=True)), false_alarm_rate=rate)
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        measure(dict(zip(columns, window.T, strict=True)), reference)
        seconds.append(time.perf_counter() - started)
    print(f"One measurement of {len(window)} rows x 20 columns: {1000 * np.median(seconds):.1f} ms (median of 50).")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rate", type=float, default=0.05, help="stated false-alarm rate per window, a share")
    parser.add_argument("--windows", type=int, default=200, help="windows a condition and size")
    parser.add_argument("--null-windows", type=int, default=1000, help="windows without drift a size")
    given = parser.parse_args()
    main(given.model, given.data, given.rate, given.windows, given.null_windows)
