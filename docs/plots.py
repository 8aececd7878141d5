"""The plots of docs/gate.md and docs/drift.md, made by the project's own functions, and the figures that those pages state.

    python docs/plots.py        # writes docs/pictures/gate-*.svg, drift-*.svg and loop*.svg, and prints the figures

What is here: simulations whose truth is known. What is not: real data; those figures stand in docs/benchmarks.md. Two models
answer the same simulated images: how hard an image is is common to both (correlation 0.8), so that at 80 % accuracy they
disagree on about 13 % of them. Features are skewed and correlated, as embeddings after a ReLU are.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.stats import norm

from openmlops.core.classification.metrics import wilson
from openmlops.core.gate.rules import Contender, compare, decide
from openmlops.core.monitoring.drift import DriftReference, calibrate, measure
from openmlops.core.monitoring.drift_reference import null_for

PICTURES = Path(__file__).parent / "pictures"
SHARED, ACCURACY = 0.8, 0.8
GAINS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
"""true gains of the challenger, in points"""
COLUMNS, RATE = 20, 0.05
SHIFTS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""shifts of one column, in standard deviations"""
MIXING = np.random.default_rng(7).normal(size=(COLUMNS, COLUMNS)) / np.sqrt(COLUMNS)
TEAL, AMBER, ROSE, GREY = "#2a9d8f", "#d08c2a", "#d1495b", "#7a828d"
"""mid-tones, which stand out from white and from black"""


def main() -> None:
    """Draw everything at the n that the pages state."""
    import diagram

    for path in diagram.draw_all():
        print(path)
    rates = gate_rates(GAINS, images=10_000, gates=1000)
    for gain, shares in rates.items():
        print(f"gain {gain:+.1f}: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))
    _save(_plot_rates(rates), "gate-rates")
    _save(_plot_labels(labels_asked_for()), "gate-labels")
    print("asked for:", labels_asked_for())
    kept = {name: generations(50, remembers) for name, remembers in (("with", True), ("without", False))}
    print("lost:", {name: lost[-1] for name, lost in kept.items()})
    _save(_plot_generations(kept), "gate-best-ever")
    reference = reference_of(5000)
    _save(_plot_null(reference), "drift-null")
    alarms = false_alarms((50, 100, 200, 500, 1000), references=6, windows=200)
    print("false alarms:", {size: round(share, 4) for size, share in alarms.items()})
    _save(_plot_alarms(alarms), "drift-false-alarms")
    found = {size: power(reference, size, SHIFTS, windows=400) for size in (50, 200, 1000)}
    for size, shares in found.items():
        print(f"power {size}:", {shift: round(share, 3) for shift, share in zip(SHIFTS, shares, strict=True)})
    _save(_plot_power(found), "drift-power")


# What the gate does


def predictions(accuracy: float, difficulty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool (n,): which images a model of this accuracy answers right, given how hard each is (standard normal)."""
    ease = np.sqrt(SHARED) * difficulty + np.sqrt(1 - SHARED) * rng.normal(size=len(difficulty))
    return ease < norm.ppf(accuracy)


def contender(version: int, correct: np.ndarray) -> Contender:
    """A version at the gate with these answers."""
    return Contender(version=version, sha256=f"{version:064d}", score=wilson(int(correct.sum()), len(correct)))


def gate_rates(gains: Sequence[float], images: int, gates: int, seed: int = 1) -> dict[float, dict[str, float]]:
    """True gain in points -> share of each verdict, on new images each time."""
    return {gain: _verdicts(gain / 100, images, gates, np.random.default_rng((seed, i))) for i, gain in enumerate(gains)}


def _verdicts(gain: float, images: int, gates: int, rng: np.random.Generator) -> dict[str, float]:
    found: Counter[str] = Counter()
    for _ in range(gates):
        difficulty = rng.normal(size=images)
        challenger, champion = predictions(ACCURACY + gain, difficulty, rng), predictions(ACCURACY, difficulty, rng)
        direct = compare("holdout", challenger, champion, 1, holdout=True)
        found[decide(contender(2, challenger), contender(1, champion), (direct,), 0.1).outcome] += 1
    return {name: found[name] / gates for name in ("promote", "inconclusive", "reject")}


def labels_asked_for(disagreement: float = 0.13) -> dict[float, dict[int, int | None]]:
    """Observed gain in points -> images so far -> further labels that the gate asks for (None: it is settled)."""
    return {gain: {n: _asked(gain / 100, n, disagreement) for n in (500, 1000, 2000, 4000, 8000)} for gain in (0.0, 0.5, 1.0)}


def _asked(gain: float, n: int, disagreement: float) -> int | None:
    only_challenger, only_champion = (round(n * (disagreement + sign * gain) / 2) for sign in (1, -1))
    kinds = np.repeat([0, 1, 2], [only_challenger, only_champion, n - only_challenger - only_champion])
    return compare("holdout", (kinds == 0) | (kinds == 2), (kinds == 1) | (kinds == 2), 1, holdout=True).more_labels


def generations(count: int, remembers: bool, loss: float = 0.004, images: int = 40_000) -> list[float]:
    """Points truly lost after each of `count` challengers, each truly `loss` worse on the holdout and better on a fresh slice;
    with the best champion ever as a bar, or with the champion of the day alone."""
    rng = np.random.default_rng(15)
    difficulty = rng.normal(size=images)
    truth, kept, lost = 0.85, [predictions(0.85, difficulty, rng)], [0.0]
    fresh = np.repeat([True, False, True], [100, 40, 860]), np.repeat([False, True, True], [100, 40, 860])
    for _ in range(count):
        challenger, champion = predictions(truth - loss, difficulty, rng), kept[-1]
        comparisons = [compare("holdout", challenger, champion, 1, holdout=True), compare("fresh", *fresh, 1, holdout=False)]
        if remembers:
            comparisons.append(compare("holdout", challenger, max(kept, key=np.sum), 0, holdout=True))
        if decide(contender(2, challenger), contender(1, champion), comparisons, 0.1).outcome == "promote":
            truth, kept = truth - loss, [*kept, challenger]
        lost.append(100 * (0.85 - truth))
    return lost


# What drift is


def features(n: int, rng: np.random.Generator) -> np.ndarray:
    """float (n, COLUMNS) without drift."""
    return np.exp(0.5 * rng.standard_normal((n, COLUMNS)) @ MIXING)


def frame(x: np.ndarray) -> dict[str, np.ndarray]:
    """The columns by name."""
    return {f"embedding.{i:02d}": column.astype(np.float32) for i, column in enumerate(x.T)}


def reference_of(rows: int, seed: int = 0) -> DriftReference:
    """A reference of that many rows, calibrated at RATE."""
    return calibrate(frame(features(rows, np.random.default_rng((1, seed)))), false_alarm_rate=RATE, seed=seed)


def false_alarms(sizes: Sequence[int], references: int, windows: int, rows: int = 5000) -> dict[int, float]:
    """Window size -> share of windows without drift that raise an alarm; `windows` new ones for each of the references."""
    drawn, rng = [reference_of(rows, seed) for seed in range(references)], np.random.default_rng(2)
    return {size: float(np.mean([power(one, size, (0.0,), windows, rng)[0] for one in drawn])) for size in sizes}


def power(
    reference: DriftReference, size: int, shifts: Sequence[float], windows: int, rng: np.random.Generator | None = None
) -> list[float]:
    """Share of windows with an alarm, for each shift of one column in standard deviations of the reference."""
    rng = rng or np.random.default_rng(3)
    return [float(np.mean([_alarms(reference, size, shift, rng) for _ in range(windows)])) for shift in shifts]


def _alarms(reference: DriftReference, size: int, shift: float, rng: np.random.Generator) -> bool:
    x = features(size, rng)
    x[:, 4] += shift * reference.scale[reference.names.index("embedding.04")]
    return measure(frame(x), reference).outcome == "drift"


# How it looks


def _axes(x: str, y: str, title: str) -> Any:
    import matplotlib.pyplot as plt

    axes = plt.figure(figsize=(6.4, 3.8), layout="constrained").add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10, color=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, color=GREY)
    return axes


def _save(axes: Any, name: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=GREY, fontsize=9)
    axes.figure.savefig(PICTURES / f"{name}.svg", transparent=True, metadata={"Date": None})
    print(PICTURES / f"{name}.svg")


def _plot_rates(rates: dict[float, dict[str, float]]) -> Any:
    axes = _axes(
        "true gain of the challenger (points)", "share of gates", "10,000 images a gate, 1,000 gates a point, champion at 80 %"
    )
    for name, colour in (("promote", TEAL), ("inconclusive", AMBER), ("reject", ROSE)):
        axes.plot(list(rates), [shares[name] for shares in rates.values()], "o-", color=colour, label=name)
    return axes


def _plot_labels(asked: dict[float, dict[int, int | None]]) -> Any:
    axes = _axes("images answered so far", "further labels asked for", "13 % disagreement; at 80 % power")
    for (gain, counts), colour in zip(asked.items(), (ROSE, AMBER, TEAL), strict=True):
        open_ = {n: more for n, more in counts.items() if more is not None}
        axes.plot(list(open_), list(open_.values()), "o-", color=colour, label=f"observed gain {gain:+.1f} points")
    axes.set(xscale="log", yscale="log")
    return axes


def _plot_generations(kept: dict[str, list[float]]) -> Any:
    axes = _axes(
        "challengers, one after the other",
        "truly lost (points)",
        "holdout of 40,000 images, each challenger 0.4 points worse, n = 1",
    )
    for name, what, colour in (
        ("with", "with the best champion ever as the bar", TEAL),
        ("without", "champion of the day alone", ROSE),
    ):
        axes.step(range(len(kept[name])), kept[name], where="post", color=colour, label=what)
    axes.axhline(1.0, color=GREY, linestyle=":", label="margin, 1 point")
    return axes


def _plot_null(reference: DriftReference) -> Any:
    size, rng = 200, np.random.default_rng(4)
    null = null_for(size, reference)
    axes = _axes(
        "statistic of a window of 200 rows",
        "null windows",
        f"n = {len(null):,} null windows of a reference of 5,000 rows, 20 columns",
    )
    axes.hist(null, bins=50, color=GREY, alpha=0.6, label="without drift, held out of the reference")
    axes.axvline(float(np.quantile(null, 1 - RATE)), color=AMBER, label=f"threshold at a false-alarm rate of {RATE:g}")
    x = features(size, rng)
    x[:, 4] += 0.5 * reference.scale[4]
    axes.axvline(
        float(measure(frame(x), reference).statistic or 0), color=ROSE, label="a window, one column 0.5 deviations off"
    )
    return axes


def _plot_alarms(alarms: dict[int, float]) -> Any:
    axes = _axes(
        "rows in the window",
        "share of windows with an alarm",
        "no drift; 6 references of 5,000 rows, 200 new windows each a size",
    )
    low, high = zip(*((w.low, w.high) for share in alarms.values() if (w := wilson(round(1200 * share), 1200))), strict=True)
    shares = np.array(list(alarms.values()))
    axes.errorbar(
        list(alarms), shares, [shares - low, high - shares], fmt="o", color=TEAL, capsize=3, label="measured, 95 % interval"
    )
    axes.axhline(RATE, color=AMBER, linestyle=":", label="stated rate")
    axes.set(xscale="log", ylim=(0, 0.1))
    return axes


def _plot_power(found: dict[int, list[float]]) -> Any:
    axes = _axes(
        "shift of one of 20 columns (standard deviations)",
        "share of windows with an alarm",
        "stated rate 0.05, 400 windows a point",
    )
    for (size, shares), colour in zip(found.items(), (ROSE, AMBER, TEAL), strict=True):
        axes.plot(SHIFTS, shares, "o-", color=colour, label=f"{size:,} rows")
    return axes


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "openmlops", "font.family": "sans-serif"}
        | dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), GREY)
    )
    main()
