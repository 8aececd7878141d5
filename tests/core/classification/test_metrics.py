"""Metrics agree with scikit-learn, come with intervals that hold what they say, and are never made up."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from openmlops.core.classification.metrics import (
    classification_report,
    confusion_matrix,
    evaluate_classification,
    expected_calibration_error,
    log_loss,
    wilson,
)
from openmlops.errors import EvaluationError

NAMES = ("aeroplane", "bird", "cat", "dog", "ship")


@pytest.fixture
def predictions():
    """Labels and float32 probabilities of 700 images; `ship` is never the truth and `dog` never the answer."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 4, 700)
    logits = rng.normal(size=(700, 5)) + 2 * np.eye(5)[labels]
    logits[:, 3] = -9
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def evaluate(labels, probabilities, names=NAMES):
    return evaluate_classification(labels, probabilities, names, "test", "f" * 64)


def test_scores_agree_with_scikit_learn(predictions):
    labels, probabilities = predictions
    found, predicted = evaluate(*predictions), probabilities.argmax(axis=1)
    expected = sk.precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=0)
    np.testing.assert_allclose([(c.precision, c.recall, c.f1, c.n) for c in found.classes], np.transpose(expected))
    assert found.accuracy == sk.accuracy_score(labels, predicted)
    assert found.macro_f1 == pytest.approx(sk.f1_score(labels, predicted, average="macro", zero_division=0))
    assert found.log_loss == pytest.approx(sk.log_loss(labels, probabilities, labels=range(5)), rel=1e-5)
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(labels, predicted, labels=range(5)))


def test_rows_of_the_confusion_matrix_are_the_truth():
    assert confusion_matrix(np.array([0, 0, 0, 1]), np.array([1, 1, 0, 1]), 2).tolist() == [[1, 2], [0, 1]]


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (1, 3), (782, 1000), (8216, 10000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_agrees_with_scipy(successes, n, confidence):
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    found = wilson(successes, n, confidence)
    assert (found.value, found.low, found.high) == pytest.approx((successes / n, expected.low, expected.high), abs=1e-12)


def test_the_interval_holds_the_true_accuracy_as_often_as_it_says():
    draws = np.random.default_rng(0).binomial(1000, 0.8, 2000)
    held = np.mean([found.low <= 0.8 <= found.high for found in (wilson(int(k), 1000) for k in draws)])
    assert 0.93 <= held <= 0.97


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    """Ten images at confidence 0.8 of which six are right, ten at 0.6 of which all are: (0.2 + 0.4) / 2."""
    probabilities = np.array([[0.8, 0.2]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 6 + [1] * 4 + [0] * 10)
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.3)


def test_calibration_error_agrees_with_a_count_bin_by_bin(predictions):
    labels, probabilities = predictions
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert evaluate(*predictions).calibration_error == pytest.approx(expected)


def test_a_model_that_knows_its_own_odds_has_a_small_calibration_error():
    rng = np.random.default_rng(1)
    first = rng.uniform(0, 1, 20_000)
    labels = (rng.uniform(size=20_000) > first).astype(int)
    assert expected_calibration_error(labels, np.stack([first, 1 - first], axis=1)) < 0.02


def test_a_certain_and_wrong_answer_costs_a_finite_loss():
    certain = np.array([[1.0, 0.0]], dtype=np.float32)
    assert log_loss(np.array([1]), certain) == pytest.approx(-np.log(np.finfo(np.float32).eps))


def test_every_class_is_in_the_report_with_its_intervals(predictions):
    evaluation = evaluate(*predictions)
    report = classification_report(evaluation)
    cat = evaluation.classes[2]
    line = next(line for line in report.splitlines() if line.strip().startswith("cat"))
    assert f"{cat.precision:.3f} [" in line
    assert f"{cat.recall:.3f} [" in line
    assert line.endswith(f" {cat.n}")
    assert "undefined" in next(line for line in report.splitlines() if "ship" in line)
    assert f"{evaluation.accuracy:.3f} [{evaluation.accuracy_low:.3f}, {evaluation.accuracy_high:.3f}]" in report


def test_missing_metrics_are_an_error_and_never_made_up(predictions):
    labels, probabilities = predictions
    for value in (np.nan, np.inf):
        broken = probabilities.copy()
        broken[3, 1] = value
        with pytest.raises(EvaluationError, match="1 images have probabilities that are NaN or infinite"):
            evaluate(labels, broken)
    with pytest.raises(EvaluationError, match="test split cannot be evaluated: it has no images"):
        evaluate(labels[:0], probabilities[:0])
    with pytest.raises(EvaluationError, match="0 of 0 is not a share"):
        wilson(0, 0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda y, p: (y + 2, p), "labels from 2 to 5 for 5 classes"),
        (lambda y, p: (y - 1, p), "labels from -1 to 2"),
        (lambda y, p: (y.astype(float), p), "float64, not whole numbers"),
        (lambda y, p: (y, p[:-1]), r"\(699, 5\) probabilities for 700 images"),
        (lambda y, p: (y, p[:, :4]), r"\(700, 4\) probabilities"),
        (lambda y, p: (y, np.log(p)), "700 images have probabilities that are negative"),
        (lambda y, p: (y, p * 0.9), "do not sum to 1"),
    ],
)
def test_what_cannot_be_measured_is_named(predictions, change, problem):
    with pytest.raises(EvaluationError, match=problem):
        evaluate(*change(*predictions))
