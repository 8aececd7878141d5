"""Two detectors are told apart at the stated rates, and it is noticed who stands where."""

import numpy as np
import pytest

from openmlops.core.detection.evaluation import compare_detections, map50
from openmlops.core.gate.rules import RULES, Contender, decide
from openmlops.core.images.boxes import objects
from openmlops.errors import EvaluationError, GateError
from simulated_detectors import boxes, detected, predicted, two_detectors


def compared(labels, challenger, opponent):
    return compare_detections("holdout", labels, challenger, opponent, 1, holdout=True)


def lucky(n, gates, seed, change, gain=0.0):
    """In how many of so many comparisons, each on new images, `p_better` is at most alpha."""
    rng = np.random.default_rng(seed)
    found = [compared(*change(*two_detectors(n, rng, gain), rng)).p_better for _ in range(gates)]
    return int(np.sum(np.array(found) <= RULES.alpha))


def mostly_the_same(labels, first, second, rng):
    """The first answers as the second does, but in one image of twenty."""
    return labels, objects([a if rng.random() < 0.05 else b for a, b in zip(first, second, strict=True)]), second


def another_scale(labels, first, second, rng):
    return labels, objects([found ** np.array([1, 1, 1, 1, 3, 1], np.float32) for found in first]), second


def as_they_are(labels, first, second, rng):
    return labels, first, second


@pytest.mark.parametrize("change", [as_they_are, mostly_the_same, another_scale])
@pytest.mark.parametrize(
    ("gates", "at_most"), [(12, 3), pytest.param(1000, 67, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_equal_detectors_seem_better_at_most_at_the_stated_rate(change, gates, at_most):
    """On 50 images each; if 5 % seem better, more than `at_most` do with a probability of 1 %."""
    assert lucky(50, gates, 21, change) <= at_most


@pytest.mark.parametrize("gates", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_a_clearly_better_detector_is_found_at_least_nine_times_in_ten(gates):
    assert lucky(100, gates, 22, as_they_are, gain=0.4) >= 0.9 * gates


@pytest.mark.parametrize("gates", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_a_worse_detector_is_never_found_better(gates):
    assert lucky(100, gates, 23, as_they_are, gain=-0.4) == 0


def verdict(labels, challenger, opponent):
    """Of version 2 against the champion, version 1."""
    two, one = (
        Contender(version=version, sha256=f"{version:064d}", score=map50(labels, predictions, 1))
        for version, predictions in ((2, challenger), (1, opponent))
    )
    return decide(two, one, (compared(labels, challenger, opponent),), 0.1)


def test_swapped_roles_turn_a_promotion_into_a_rejection():
    labels, better, worse = two_detectors(400, np.random.default_rng(24), 0.6)
    assert verdict(labels, better, worse).outcome == "promote"
    assert verdict(labels, worse, better).outcome == "reject"


def test_a_difference_is_challenger_minus_opponent():
    labels, better, worse = two_detectors(200, np.random.default_rng(25), 0.6)
    found, swapped = compared(labels, better, worse), compared(labels, worse, better)
    assert found.difference == found.challenger_score - found.opponent_score > 0
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx((-found.difference, -found.high, -found.low))
    assert found.low < found.difference < found.high
    assert found.p_better < 0.01 < 0.99 < swapped.p_better
    assert found.challenger_score == map50(labels, better, 1).value
    assert (found.opponent, found.holdout, found.n, found.name) == (1, True, 200, "holdout")


def test_identical_answers_are_no_lead():
    labels, predictions = detected(40, 26)
    found = compared(labels, predictions, predictions)
    assert (found.difference, found.low, found.high, found.p_better, found.more_labels) == (0, 0, 0, 1, None)


def test_more_labels_are_asked_for_only_while_it_is_open():
    labels, better, worse = two_detectors(200, np.random.default_rng(27), 0.6)
    assert compared(labels, better, worse).more_labels is None
    equal = compared(*two_detectors(60, np.random.default_rng(28), 0.0))
    assert equal.p_better > RULES.alpha
    assert equal.more_labels > 60


def test_cannot_compare_if_not_all_images_were_answered_by_both():
    labels, predictions = detected(5, 29)
    for first, second in ((predictions[:4], predictions), (predictions, predictions[:4])):
        with pytest.raises(GateError, match="Run both models on the same images"):
            compared(labels, first, second)
    with pytest.raises(GateError, match="at least one"):
        compared(labels[:0], predictions[:0], predictions[:0])


def test_cannot_compare_if_a_number_is_not_finite():
    labels, nothing = objects([boxes([0, 0, 1, 1, 0])]), objects([predicted()])
    with pytest.raises(EvaluationError, match="NaN or infinite"):
        compared(labels, objects([predicted([0, 0, 1, 1, 0.5, np.inf])]), nothing)
