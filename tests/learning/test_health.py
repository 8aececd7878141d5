"""Claims about when a training is stopped, on numbers alone."""

import math

import numpy as np
import pytest

from openmlops.errors import TrainingError
from openmlops.learning import health


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


@pytest.mark.parametrize(("loss", "step"), [(2.3, 70), (2.29, 70), (50.0, 40), (math.nan, 40)])
def test_a_loss_at_chance_level_late_or_diverged_without_evidence_of_validation_is_nothing_learned(
    loss: float, step: int
) -> None:
    with pytest.raises(TrainingError, match=f"The model learned nothing by step {step}"):
        health.require_learning(loss, 2.3, evidence(75, 153), step, 100, 0.0, 0.2)
    health.require_learning(loss, 2.3, evidence(110, 153), step, 100, 0.0, 0.2)


def test_what_learns_slowly_goes_on_and_this_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    health.require_learning(2.31, 2.3, evidence(75, 153), 40, 100, 0.0, 0.2)
    said = capsys.readouterr().err
    assert said.startswith("Nothing is learned yet, by step 40 of 100: 75 of 153 images are classified correctly")
    assert said.strip().endswith("The training goes on.")


def test_what_is_learned_by_heart_is_refused_in_the_end_alone() -> None:
    health.require_learning(1.0, 2.3, evidence(75, 153), 99, 100, 0.0, 0.2)
    with pytest.raises(TrainingError, match="nothing that holds for other images"):
        health.require_learning(1.0, 2.3, evidence(75, 153), 100, 100, 0.0, 0.2)


@pytest.mark.parametrize(("step", "total", "warmup"), [(19, 19, 0.0), (33, 100, 0.0), (49, 100, 0.5)])
def test_the_first_steps_are_not_judged(step: int, total: int, warmup: float) -> None:
    health.require_learning(50.0, 2.3, evidence(75, 153), step, total, warmup, 0.2)


def evidence(hits: int, n: int, classes: int = 2) -> health.Evidence:
    truth = np.arange(n) % classes
    return health.Evidence.of(np.array([0, 0, 1]), truth, hits)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (evidence(110, 153), "learned"),
        (evidence(77, 153), "nothing"),
        (evidence(90, 153), "unclear"),
        (evidence(13, 15), "learned"),
        (evidence(11, 15), "unclear"),
        (evidence(8, 15), "nothing"),
        (evidence(12, 20, classes=20), "learned"),
    ],
)
def test_learning_is_judged_against_the_largest_class_with_its_uncertainty(found: health.Evidence, verdict: str) -> None:
    assert found.verdict == verdict


def test_one_in_twenty_models_that_guess_is_not_called_hopeless_on_enough_images() -> None:
    """n = 4,000 models that are right as often as the largest class, on 100 images."""
    hits = np.random.default_rng(0).binomial(100, 0.5, 4000)
    passed = np.mean([evidence(int(each), 100).verdict != "nothing" for each in hits])
    assert 0.02 <= passed <= 0.06
