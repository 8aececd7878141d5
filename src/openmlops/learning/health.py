"""Health checks of a training: stop one that diverges or does not learn, with the step, the numbers and a remedy.

Chance level is the loss of the best constant prediction: the entropy of the (smoothed) label frequencies. What is not here:
whether a model is good, which the gate decides.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import bdtrc

from openmlops.errors import TrainingError
from openmlops.terminal import say

PATIENCE = 20
"""fewest steps after which a model is judged, at the end of an epoch"""
JUDGED_FROM, HOPELESS_FROM = 1 / 3, 2 / 3
"""shares of the steps before which a training is not judged at all, and is stopped only if its loss has diverged"""
DIVERGED = 2.0
"""multiple of the chance-level loss from which on a loss has diverged"""
REMEDY = "Check that the labels belong to the images, and lower the learning rate (--lr)"
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


def require_learning(
    late_loss: float, chance: float, found: "Evidence", step: int, total: int, warmup: float, lr: float
) -> None:
    """Judge an epoch that ends at `step` of `total`, whose schedule warms up for the share `warmup`.

    Raise TrainingError if validation says that nothing was learned, and the loss has diverged (the mean of the epoch's second
    half, `late_loss`, is far above chance level), or is at chance level after two thirds of the steps, or the training has
    ended. Before, a slow learner looks like one that does not learn: it goes on, and this is said. The beginning, a third of
    the steps or the warm-up, is not judged at all.
    """
    if step < PATIENCE or step < max(warmup, JUDGED_FROM) * total or found.verdict != "nothing":
        return
    if step < HOPELESS_FROM * total and late_loss < chance * DIVERGED:
        say(f"Nothing is learned yet, by step {step} of {total}: {found}. The training goes on.")
        return
    if not late_loss < chance * MARGIN:
        raise TrainingError(
            f"The model learned nothing by step {step}: the training loss is {late_loss:.4g}, chance level {chance:.4g} "
            f"(learning rate {lr:.3g}); {found}",
            REMEDY,
        )
    if step >= total:
        raise TrainingError(
            f"The model learned nothing that holds for other images: the training loss is {late_loss:.4g}, and of the "
            f"validation images {found}",
            REMEDY,
        )


LEARNED, NOTHING, NOTHING_OF_FEW, FEW = 0.01, 0.05, 0.2, 50
"""probabilities of doing as well by always naming one class: below LEARNED a model has learned; above NOTHING it has not, or
above NOTHING_OF_FEW on fewer than FEW images; between them nobody can tell"""


@dataclass(frozen=True)
class Evidence:
    """How many of `n` images a model that was not trained on them classifies correctly, and how many the majority class of the
    training images would."""

    n: int
    hits: int
    majority: int

    @classmethod
    def of(cls, train: np.ndarray, truth: np.ndarray, hits: int) -> "Evidence":
        """`train` (n,) and `truth` (m,): class indices, of which `hits` were predicted correctly."""
        most = int(np.bincount(train).argmax())
        return cls(len(truth), hits, int((truth == most).sum()))

    def joined(self, other: "Evidence") -> "Evidence":
        """Both together."""
        return Evidence(self.n + other.n, self.hits + other.hits, self.majority + other.majority)

    @property
    def chance(self) -> float:
        """Probability of at least so many hits for a model that is right as often as the majority class."""
        return float(bdtrc(self.hits - 1, self.n, self.majority / self.n)) if self.hits else 1.0

    @property
    def verdict(self) -> Literal["learned", "unclear", "nothing"]:
        """Whether the model has learned more than which class is the most frequent."""
        if self.chance < LEARNED:
            return "learned"
        return "nothing" if self.chance > (NOTHING if self.n >= FEW else NOTHING_OF_FEW) else "unclear"

    def __str__(self) -> str:
        return f"{self.hits} of {self.n} images are classified correctly, {self.majority} by always naming the largest class"


def require_learned(found: Evidence, what: str) -> None:
    """Raise TrainingError if the evidence says that nothing was learned; say so where it is unclear."""
    if found.verdict == "nothing":
        remedy = "Check that the labels belong to the images; with few images, add more"
        raise TrainingError(f"Nothing was learned by {what}: {found}", remedy)
    if found.verdict == "unclear":
        say(f"It is not clear yet whether anything was learned: {found}. The training goes on.")
