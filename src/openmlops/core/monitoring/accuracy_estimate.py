"""Accuracy estimated without labels, from the model's confidence, and whether the estimate is trustworthy.

`fit_confidence` counts on the validation images how often predictions of each confidence are correct. `estimate_accuracy`
applies that table to a window of production probabilities. `check_against_labels` gives the measured accuracy once labels
arrive, and the error of the estimate. What is not covered: a model that is confidently wrong because of drift. Confidence
does not reveal that, so an estimate under drift, or where drift was not measurable, is marked as not trustworthy.
"""

import numpy as np

from openmlops.core.intervals import Strata, weighted_share, wilson
from openmlops.core.monitoring.observed import AccuracyEstimate, DriftReport, LabelledAccuracy
from openmlops.core.types import Interval, Value
from openmlops.errors import DataError

BINS = 15
"""Bins with equal numbers of validation images; fewer if a bin would hold less than `BIN_ROWS`."""
BIN_ROWS = 20
MINIMUM_ROWS = 50
"""Fewest predictions of a trustworthy estimate."""
OUTSIDE = 0.05
"""Largest share of predictions less confident than every validation prediction in a trustworthy estimate."""
DRAWS = 4000
LEVEL = 0.95
"""Coverage of the interval while no drift is detected: share of windows whose true accuracy it contains."""


class ConfidenceTable(Value):
    """Correct validation predictions by confidence (top probability). Bin i holds `edges[i] <= c < edges[i + 1]`."""

    edges: tuple[float, ...]
    correct: tuple[int, ...]
    counts: tuple[int, ...]


def fit_confidence(probabilities: np.ndarray, labels: np.ndarray) -> ConfidenceTable:
    """Probabilities (n, classes) and labels (n,) of the validation images -> table. Raises DataError."""
    if found := _defects(probabilities):
        raise DataError(f"confidence cannot be calibrated: {'; '.join(found)}", "Evaluate the validation split again")
    if len(labels) != len(probabilities) or len(labels) < BIN_ROWS:
        problem = f"confidence cannot be calibrated on {len(labels)} labels for {len(probabilities)} predictions"
        raise DataError(problem, f"Give one label per prediction, and at least {BIN_ROWS}")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = min(BINS, len(labels) // BIN_ROWS)
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)))
    edges = np.append(edges[:-1] if len(edges) > 1 else edges, np.nextafter(1.0, 2.0))
    where = _bins(confidence, edges)
    counts, correct = (np.bincount(where, weights=weights, minlength=len(edges) - 1) for weights in (None, right))
    return ConfidenceTable(edges=tuple(edges.tolist()), correct=tuple(map(int, correct)), counts=tuple(map(int, counts)))


def estimate_accuracy(probabilities: object, table: ConfidenceTable, drift: DriftReport, seed: int = 0) -> AccuracyEstimate:
    """Estimate the accuracy of production probabilities (n, classes). Never raises for the content of `probabilities`.

    The interval is simulated: each bin's accuracy is drawn from its Beta posterior (uncertainty of the validation set), then
    each prediction is correct or not at that rate (sampling noise of the window).
    """
    if found := _defects(probabilities):
        return AccuracyEstimate(accuracy=None, n=0, trustworthy=False, reasons=found)
    confidence = np.asarray(probabilities).max(axis=1)
    n, edges = len(confidence), np.array(table.edges)
    predictions = np.bincount(_bins(confidence, edges), minlength=len(edges) - 1)
    drawn = _draw_accuracies(predictions, np.array(table.correct), np.array(table.counts), np.random.default_rng(seed))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    doubts = _doubts(n, float((confidence < edges[0]).mean()), drift)
    return AccuracyEstimate(
        accuracy=Interval(value=float(drawn.mean()), low=float(low), high=float(high)),
        n=n,
        trustworthy=not doubts,
        reasons=doubts or (f"no drift in {drift.n} rows, and all confidences are within the range seen in validation",),
    )


def check_against_labels(
    predicted: np.ndarray, labels: np.ndarray, estimate: AccuracyEstimate | None, strata: Strata | None = None
) -> LabelledAccuracy:
    """Predicted classes (n,) and their delayed labels (n,) -> the measured accuracy, weighted if they are a sample of `strata`.
    Raises DataError unless n > 0 of each."""
    if len(predicted) != len(labels) or not len(labels):
        raise DataError(f"{len(labels)} labels for {len(predicted)} predictions", "Give one label per prediction, at least one")
    hits = predicted == labels
    real = weighted_share(hits, strata) if strata else wilson(int(hits.sum()), len(labels))
    known = estimate.accuracy if estimate else None
    return LabelledAccuracy(
        accuracy=real,
        n=len(labels),
        error=known.value - real.value if known else None,
        covered=known.low <= real.high and real.low <= known.high if known else None,
        sampled=strata is not None,
    )


def _draw_accuracies(predictions: np.ndarray, correct: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulated accuracies (DRAWS,) of a window with `predictions` (bins,) in each bin of the table (Jeffreys' prior)."""
    rates = rng.beta(correct + 0.5, counts - correct + 0.5, size=(DRAWS, len(predictions)))
    return rng.binomial(predictions, rates).sum(axis=1) / predictions.sum()


def _bins(confidence: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, len(edges) - 2)


def _doubts(n: int, outside: float, drift: DriftReport) -> tuple[str, ...]:
    """Why the estimate is not trustworthy, one phrase each."""
    doubts = []
    if drift.outcome != "no_drift":
        doubts.append(_drift_doubt(drift))
    if n < MINIMUM_ROWS:
        doubts.append(f"{n} predictions are fewer than {MINIMUM_ROWS}")
    if outside > OUTSIDE:
        doubts.append(f"{outside:.0%} of the predictions are less confident than any validation prediction")
    return tuple(doubts)


def _drift_doubt(drift: DriftReport) -> str:
    if drift.outcome == "not_measurable":
        return f"drift was not measurable: {'; '.join(drift.reasons)}"
    moved = [column.name for column in drift.columns if column.moved]
    return f"drift was detected, so confidence may be misleading; {len(moved)} columns shifted: {', '.join(moved[:3])}"


def _defects(probabilities: object) -> tuple[str, ...]:
    """Why an array is not one of probabilities (n, classes) whose rows sum to 1."""
    if not isinstance(probabilities, np.ndarray) or probabilities.dtype.kind != "f" or probabilities.ndim != 2:
        return ("the probabilities are not a float array (n, classes)",)
    if not probabilities.size:
        return ("there are no predictions",)
    wrong = ~(np.abs(probabilities.sum(axis=1) - 1) < 1e-3) | (probabilities < 0).any(axis=1)
    return (f"{int(wrong.sum())} of {len(wrong)} rows are not probabilities that sum to 1",) if wrong.any() else ()
