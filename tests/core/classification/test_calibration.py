"""Probabilities mean what they say: a temperature fitted on few validation images holds on new ones."""

import numpy as np
import pytest

from openmlops.core.classification.calibration import fit_temperature
from openmlops.core.classification.metrics import expected_calibration_error

CLASSES, FEATURES, SMOOTHING = 10, 20, 0.2
VALIDATION = 500


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def drawn(n: int, rng: np.random.Generator, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, CLASSES, n)
    return centres[labels] + rng.normal(size=(n, FEATURES)), labels


def trained_with_smoothing(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights of a linear classifier trained with label smoothing, by gradient descent."""
    target = np.eye(CLASSES)[labels] * (1 - SMOOTHING) + SMOOTHING / CLASSES
    weights = np.zeros((FEATURES, CLASSES))
    for _ in range(300):
        weights -= 0.3 * x.T @ (softmax(x @ weights) - target) / len(x)
    return weights


@pytest.mark.parametrize("seed", range(3))
def test_what_label_smoothing_leaves_is_gone_on_ten_thousand_new_images(seed: int):
    rng = np.random.default_rng(seed)
    centres = 0.75 * rng.normal(size=(CLASSES, FEATURES))
    weights = trained_with_smoothing(*drawn(3000, rng, centres))
    x, labels = drawn(VALIDATION, rng, centres)
    temperature = fit_temperature(x @ weights, labels)
    x, labels = drawn(10_000, rng, centres)
    before, after = (expected_calibration_error(labels, softmax(x @ weights / t)) for t in (1.0, temperature))
    assert before > 0.12
    assert after <= 0.02
    assert (softmax(x @ weights).argmax(axis=1) == softmax(x @ weights / temperature).argmax(axis=1)).all()


def test_a_calibrated_model_keeps_its_probabilities():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(4000, CLASSES))
    labels = (softmax(logits).cumsum(axis=1) > rng.uniform(size=(4000, 1))).argmax(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.06)


def test_a_model_without_an_error_does_not_become_certain():
    logits = np.eye(CLASSES)[np.arange(60) % CLASSES] * 3.0
    found = softmax(logits / fit_temperature(logits, np.arange(60) % CLASSES)).max()
    assert 0.95 < found < 0.999


def test_few_images_say_nothing():
    assert fit_temperature(np.eye(CLASSES), np.arange(CLASSES)) == 1
