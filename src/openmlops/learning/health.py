"""Health checks of a training: stop one that diverges or does not learn, with the step, the numbers and a remedy.

Chance level is the loss of the best constant prediction: the entropy of the (smoothed) label frequencies. What is not here:
whether a model is good, which the gate decides.
"""

import math

import numpy as np

from openmlops.errors import TrainingError

PATIENCE = 20
"""steps after which the model must have begun to learn; checked at the end of an epoch"""
MARGIN = 0.99
"""share of the chance-level loss that the mean loss of an epoch's second half must stay below"""


def chance_loss(labels: np.ndarray, smoothing: float) -> float:
    """Cross-entropy in nats of always predicting the label frequencies of `labels` (n,), with smoothed targets."""
    shares = np.bincount(labels) / len(labels)
    target = (1 - smoothing) * shares + smoothing / len(shares)
    return float(-sum(p * math.log(p) for p in target if p > 0))


def require_finite(loss: float, step: int, lr: float) -> None:
    """Raise TrainingError if the loss of `step` is NaN or infinite."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"The training loss is {loss} at step {step} (learning rate {lr:.3g})",
            "Lower the learning rate (--lr), and check the images for extreme values",
        )


def require_learning(late_loss: float, chance: float, predictions: np.ndarray, truth: np.ndarray, step: int, lr: float) -> None:
    """Raise TrainingError if the mean loss of an epoch's second half is at chance level, or all `predictions` (n,) are the
    same class while `truth` (n,) is not."""
    remedy = "Check that the labels belong to the images, and lower the learning rate (--lr)"
    if step < PATIENCE:
        return
    if not late_loss < chance * MARGIN:
        raise TrainingError(
            f"The model learned nothing by step {step}: the training loss is {late_loss:.4g}, chance level {chance:.4g} "
            f"(learning rate {lr:.3g})",
            remedy,
        )
    if len(np.unique(predictions)) == 1 < len(np.unique(truth)):
        raise TrainingError(
            f"At step {step} the model predicts class {predictions[0]} for every validation image: the training loss is "
            f"{late_loss:.4g} (learning rate {lr:.3g})",
            remedy,
        )
