"""Calibrated probabilities: one temperature, fitted on the validation images (Guo et al., ICML 2017).

What is here: the fit. What is not: the graph that divides logits by it (`learning.export`), and how well probabilities are
calibrated afterwards (`metrics.expected_calibration_error`). scipy is imported where it is used.
"""

import numpy as np

LEAST_IMAGES = 50
"""fewest images that a temperature is fitted on"""
RANGE = (0.1, 10.0)
"""smallest and largest temperature"""
DIGITS = 3
"""decimals of a temperature: machines round logits differently, and equal trainings give equal files"""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Logits (n, classes) of a trained model and labels (n,) of images that it was not trained on -> the number by which the
    logits are divided, so that their softmax is most likely; 1 for fewer than LEAST_IMAGES.

    Each label counts as (n + 1) / (n + 2) of its class and the rest of the others (Platt), so that a model without an error
    does not become certain. The order of the classes, and so every decision, stays.
    """
    from scipy.optimize import minimize_scalar

    n, classes = logits.shape
    if n < LEAST_IMAGES or classes < 2:
        return 1.0
    rest = 1 / (n + 2)
    centred = logits.astype(np.float64) - logits.mean(axis=1, keepdims=True, dtype=np.float64)
    own = centred[np.arange(n), labels]
    expected = ((1 - rest - rest / (classes - 1)) * own + rest / (classes - 1) * centred.sum(axis=1)).mean()

    def loss(log_temperature: float) -> float:
        scaled = centred / np.exp(log_temperature)
        top = scaled.max(axis=1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))).mean() - expected / np.exp(log_temperature))

    found = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded")
    return round(float(np.exp(found.x)), DIGITS)
