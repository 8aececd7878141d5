"""Scenarios of the demo per use case: corruption of the camera, training budgets, and required results.

A scenario has no influence on verdicts; it only sets the corruption and the training budgets.
"""

from typing import Any

from openmlops.core.types import Value
from openmlops.errors import OpenMLOpsError


class Scenario(Value):
    """The scenario of one use case. Scores are those of its task, 0 to 1."""

    camera: tuple[str, int]
    """kind and severity (core.images.corruptions)"""
    first: dict[str, Any]
    """fields of the use case's TrainConfig for the first training"""
    second: dict[str, Any]
    """fields of TrainConfig for the retraining"""
    good: float
    """the minimum score of the first model on the test split"""
    lost: float
    """the minimum loss of score due to the corruption, and the minimum recovery by retraining"""
    labelled: int
    """number of corrupted images that are labelled"""
    rate: float
    """images per second that clients send"""


SCENARIOS = {
    "cifar10": Scenario(
        camera=("contrast", 4), first={"epochs": 8}, second={"epochs": 12}, good=0.8, lost=0.1, labelled=900, rate=150.0
    ),
    "person": Scenario(
        camera=("night", 4), first={"epochs": 5}, second={"epochs": 8}, good=0.6, lost=0.1, labelled=650, rate=30.0
    ),
}


def scenario_of(use_case: str) -> Scenario:
    """The scenario of a use case. Raises OpenMLOpsError if it has no demo."""
    if use_case not in SCENARIOS:
        raise OpenMLOpsError(f"The use case '{use_case}' has no demo", f"Choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[use_case]


def shown(metric: str, value: float) -> str:
    """A score as text."""
    return f"{value:.1%} right" if metric == "accuracy" else f"{metric} {value:.3f}"
