"""Claims about when a training is stopped, on numbers alone."""

import math

import numpy as np
import pytest

from openmlops.errors import TrainingError
from openmlops.learning import health

MIXED = np.array([0, 1, 2, 0])


def test_chance_is_the_entropy_of_the_smoothed_label_frequencies() -> None:
    assert health.chance_loss(np.arange(10), 0.0) == pytest.approx(math.log(10))
    assert health.chance_loss(np.arange(10), 0.2) == pytest.approx(math.log(10))
    assert health.chance_loss(np.array([0, 0, 0, 1]), 0.0) == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert health.chance_loss(np.array([0, 0, 0, 2]), 0.0) == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_step_and_rate(loss: float) -> None:
    with pytest.raises(TrainingError, match=rf"{loss} at step 17 \(learning rate 0.2\).*--lr"):
        health.require_finite(loss, 17, 0.2)
    health.require_finite(1e30, 17, 0.2)


@pytest.mark.parametrize("loss", [2.3, 2.29, 50.0, math.nan])
def test_a_loss_at_chance_level_is_nothing_learned(loss: float) -> None:
    with pytest.raises(TrainingError, match="The model learned nothing by step 20"):
        health.require_learning(loss, 2.3, MIXED, MIXED, 20, 0.2)


def test_one_answer_for_every_image_is_nothing_learned_unless_it_is_the_truth() -> None:
    with pytest.raises(TrainingError, match="class 3 for every validation image"):
        health.require_learning(1.0, 2.3, np.full(4, 3), MIXED, 20, 0.2)
    health.require_learning(1.0, 2.3, np.full(4, 3), np.full(4, 3), 20, 0.2)
    health.require_learning(1.0, 2.3, MIXED, MIXED, 20, 0.2)


def test_the_first_steps_are_not_judged() -> None:
    health.require_learning(50.0, 2.3, np.full(4, 3), MIXED, health.PATIENCE - 1, 0.2)
