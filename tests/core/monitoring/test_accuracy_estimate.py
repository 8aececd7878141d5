"""Claims about accuracy without labels: it covers the real one without drift, and is distrusted with it."""

import numpy as np
import pytest

from openmlops.core.monitoring.accuracy_estimate import (
    AccuracyEstimate,
    ConfidenceTable,
    check_against_labels,
    estimate_accuracy,
    fit_confidence,
)
from openmlops.core.monitoring.drift import ColumnShift, DriftReport
from openmlops.errors import DataError

CLEAR = DriftReport(outcome="no_drift", reasons=(), reference="r", false_alarm_rate=0.01, n=500)
MOVED = ColumnShift(name="embedding.3", reference_mean=0, window_mean=1, shift=1, z=9, moved=True)
DRIFTED = CLEAR.model_copy(update={"outcome": "drift", "columns": (MOVED,)})
UNKNOWN = CLEAR.model_copy(update={"outcome": "not_measurable", "reasons": ("too few rows",)})


def predictions(n: int, rng: np.random.Generator, hardness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 10) of an overconfident model, and labels drawn from cooler ones, hence its real accuracy."""
    logits = rng.normal(size=(n, 10)) * 2.5 * rng.uniform(0.3, 1.5, size=(n, 1)) / hardness
    truth = softmax(logits)
    labels = (rng.random((n, 1)) < truth.cumsum(axis=1)).argmax(axis=1)
    return softmax(2 * logits), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def table() -> ConfidenceTable:
    return fit_confidence(*predictions(3000, np.random.default_rng(0)))


@pytest.mark.parametrize("windows", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_the_interval_covers_the_real_accuracy_of_95_percent_of_windows(table: ConfidenceTable, windows: int) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for i in range(windows):
        probabilities, labels = predictions(200, rng)
        interval = estimate_accuracy(probabilities, table, CLEAR, seed=i).accuracy
        assert interval
        covered += interval.low <= (probabilities.argmax(axis=1) == labels).mean() <= interval.high
    assert covered >= 0.92 * windows


def test_the_estimate_corrects_an_overconfident_model(table: ConfidenceTable) -> None:
    probabilities, labels = predictions(5000, np.random.default_rng(2))
    real = (probabilities.argmax(axis=1) == labels).mean()
    estimate = estimate_accuracy(probabilities, table, CLEAR)
    assert estimate.trustworthy
    assert estimate.accuracy
    assert abs(estimate.accuracy.value - real) < 0.03
    assert probabilities.max(axis=1).mean() - real > 0.1


def test_harder_images_lower_the_estimate(table: ConfidenceTable) -> None:
    probabilities, labels = predictions(5000, np.random.default_rng(3), hardness=1.5)
    estimate = estimate_accuracy(probabilities, table, CLEAR).accuracy
    assert estimate
    assert abs(estimate.value - (probabilities.argmax(axis=1) == labels).mean()) < 0.04


@pytest.mark.parametrize(("drift", "words"), [(DRIFTED, "embedding.3"), (UNKNOWN, "too few rows")])
def test_an_estimate_under_drift_is_not_trustworthy(table: ConfidenceTable, drift: DriftReport, words: str) -> None:
    probabilities, _ = predictions(500, np.random.default_rng(4))
    estimate = estimate_accuracy(probabilities, table, drift)
    assert not estimate.trustworthy
    assert words in estimate.reasons[0]


def test_few_answers_or_unheard_of_confidence_are_not_trusted(table: ConfidenceTable) -> None:
    few, _ = predictions(49, np.random.default_rng(5))
    flat = np.full((500, 10), 0.1)
    assert "49 predictions" in estimate_accuracy(few, table, CLEAR).reasons[0]
    assert "100% of the predictions" in estimate_accuracy(flat, table, CLEAR).reasons[0]


@pytest.mark.parametrize(
    "rubbish",
    [None, [[1.0]], np.empty((0, 10)), np.ones((5, 10)), np.full((5, 10), np.nan), np.array([[1.5, -0.5]]), np.ones(5)],
)
def test_rubbish_gives_no_number_and_no_trust(table: ConfidenceTable, rubbish: object) -> None:
    estimate = estimate_accuracy(rubbish, table, CLEAR)
    assert estimate.accuracy is None
    assert not estimate.trustworthy
    assert estimate.reasons


def test_delayed_labels_give_the_real_accuracy_and_the_error_of_the_estimate(table: ConfidenceTable) -> None:
    probabilities, labels = predictions(1000, np.random.default_rng(6))
    estimate = estimate_accuracy(probabilities, table, CLEAR)
    real = check_against_labels(probabilities.argmax(axis=1), labels, estimate)
    assert estimate.accuracy
    assert real.accuracy.low < real.accuracy.value < real.accuracy.high
    assert real.error == pytest.approx(estimate.accuracy.value - real.accuracy.value)
    assert real.covered


def test_labels_without_an_estimate_still_give_the_real_accuracy() -> None:
    nothing = AccuracyEstimate(accuracy=None, n=0, trustworthy=False, reasons=("there are no predictions",))
    real = check_against_labels(np.array([1, 2]), np.array([1, 3]), nothing)
    assert (real.accuracy.value, real.error, real.covered) == (0.5, None, None)


def test_a_table_survives_one_confidence_and_refuses_what_cannot_be_calibrated(table: ConfidenceTable) -> None:
    sure = np.tile([1.0, 0.0], (100, 1))
    assert fit_confidence(sure, np.zeros(100, int)).counts == (100,)
    assert sum(table.counts) == 3000
    for probabilities, labels in ((sure, np.zeros(99, int)), (sure[:5], np.zeros(5, int)), (2 * sure, np.zeros(100, int))):
        with pytest.raises(DataError, match="cannot be calibrated"):
            fit_confidence(probabilities, labels)


def test_answers_without_a_label_each_are_refused() -> None:
    for predicted, labels in (([1], []), ([], []), ([1], [1, 2])):
        with pytest.raises(DataError, match="labels for"):
            check_against_labels(np.array(predicted), np.array(labels), None)
