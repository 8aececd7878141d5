"""The number of test images that is stated is the one at which the gate promotes as often as stated."""

import numpy as np
import pytest

from core.gate.test_rules import outcomes
from openmlops.core.gate.paired import exact_mcnemar
from openmlops.core.gate.rules import RULES
from openmlops.core.gate.sample_size import (
    assumed_disagreement,
    before_training,
    images_for_gain,
    of_classifier,
    of_detector,
    promotion_rate,
    sentences,
)
from openmlops.core.intervals import wilson
from openmlops.core.types import Interval

TOLERANCE = 0.045
"""3.5 standard errors of a share of 0.8 over 1,000 gates"""


def test_at_the_stated_number_of_images_a_gain_of_two_points_is_promoted_as_often_as_stated() -> None:
    """Champion at 80 %, 1,000 simulated gates, to within 4.5 points."""
    power = of_classifier(wilson(800, 1000), 1000)
    assert power.images_needed is not None
    share = outcomes(0.02, power.images_needed, gates=1000, seed=21).count("promote") / 1000
    assert abs(share - RULES.power) <= TOLERANCE


def test_at_half_of_it_clearly_less_often() -> None:
    needed = of_classifier(wilson(800, 1000), 1000).images_needed
    assert needed is not None
    assert outcomes(0.02, needed // 2, gates=500, seed=22).count("promote") / 500 < RULES.power - 0.15


@pytest.mark.parametrize(("gain", "n"), [(0.0, 2000), (0.02, 1500), (-0.01, 2000)])
def test_the_rate_of_promotions_is_that_of_the_gate(gain: float, n: int) -> None:
    """1,000 simulated gates; the champion at 80 %, so that both disagree as much as is assumed."""
    simulated = outcomes(gain, n, gates=1000, seed=23).count("promote") / 1000
    assert promotion_rate(n, gain, assumed_disagreement(0.8, gain)) == pytest.approx(simulated, abs=TOLERANCE)


def test_two_models_at_80_percent_disagree_on_about_14_percent_of_the_images() -> None:
    assert assumed_disagreement(0.8, 0.0) == pytest.approx(0.14, abs=0.005)


@pytest.mark.parametrize("value", [0, 0.5, 0.9, 0.99, 1])
def test_every_accuracy_has_a_number(value: float) -> None:
    power = of_classifier(wilson(round(value * 50), 50), 50)
    assert power.images_needed is not None
    assert 100 < power.images_needed < 10_000


def test_a_small_gain_needs_more_images_and_one_that_cannot_be_shown_has_no_number() -> None:
    of_gains = [images_for_gain(gain, 0.1) for gain in (0.04, 0.02, 0.01)]
    assert of_gains == sorted(of_gains)  # type: ignore[type-var]
    assert images_for_gain(1e-3, 0.1) is None


def test_few_disagreements_that_the_challenger_wins_are_enough_only_where_mcnemar_says_so() -> None:
    fewest = next(k for k in range(1, 20) if exact_mcnemar(k, 0) <= RULES.alpha)
    assert promotion_rate(fewest - 1, 1.0, 1.0) == 0
    assert promotion_rate(fewest, 1.0, 1.0) == 1


def test_a_detector_needs_as_many_images_as_the_standard_error_of_its_score_says() -> None:
    """Four times the images for twice the interval."""
    narrow, wide = (
        of_detector(Interval(value=0.8, low=0.8 - half, high=0.8 + half), 500).images_needed for half in (0.02, 0.04)
    )
    assert narrow is not None
    assert wide == pytest.approx(4 * narrow, rel=0.06)


def test_it_is_said_in_two_sentences() -> None:
    known, needed = sentences(before_training(120))
    assert known == "120 test images measure a score of 90.0 % as 83.3 to 94.2 % (95 % interval)"
    assert needed == (
        "The gate needs about 1,400 test images to promote a model that is 2 points better in 80% of cases; there are 120"
    )


def test_the_sampled_number_of_disagreements_is_that_of_the_assumption() -> None:
    """The assumption is a correlation of difficulties: drawn, 200,000 images."""
    rng, n = np.random.default_rng(4), 200_000
    from core.gate.test_rules import predictions

    difficulty = rng.normal(size=n)
    ours, theirs = predictions(0.92, difficulty, rng), predictions(0.9, difficulty, rng)
    assert np.mean(ours != theirs) == pytest.approx(assumed_disagreement(0.9), abs=0.003)
