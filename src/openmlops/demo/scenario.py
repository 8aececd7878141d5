"""What differs between the demos of the use cases: the camera's fault, how long is trained, and what must come out.

What is not here: anything that decides a verdict. A scenario chooses what happens to the camera and how much is trained.
"""

from typing import Any

from openmlops.core.types import Value
from openmlops.errors import OpenMLOpsError


class Scenario(Value):
    """One use case's story. Scores are shares of what its task is judged by."""

    camera: tuple[str, int]
    """kind and severity of core.corruptions.corrupt"""
    first: dict[str, Any]
    """of the first training: fields of the use case's TrainConfig"""
    second: dict[str, Any]
    """of the retraining"""
    good: float
    """the score that the first model must pass on the test split"""
    lost: float
    """how much of it the broken camera must cost, and the retraining must bring back"""
    labelled: int
    """images of the broken camera whose labels arrive"""
    rate: float
    """images a second that clients send"""


SCENARIOS = {
    "cifar10": Scenario(
        camera=("contrast", 4), first={"epochs": 8}, second={"epochs": 12}, good=0.8, lost=0.1, labelled=900, rate=150.0
    ),
    "person": Scenario(
        camera=("night", 4), first={"epochs": 5}, second={"epochs": 8}, good=0.6, lost=0.1, labelled=650, rate=30.0
    ),
}


def scenario_of(use_case: str) -> Scenario:
    """Raises OpenMLOpsError for a use case without a demo."""
    if use_case not in SCENARIOS:
        raise OpenMLOpsError(f"The use case '{use_case}' has no demo", f"Choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[use_case]


def shown(metric: str, value: float) -> str:
    """A score for people."""
    return f"{value:.1%} right" if metric == "accuracy" else f"{metric} {value:.3f}"
