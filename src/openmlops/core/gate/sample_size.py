"""What a test split can decide: how exactly it measures a score, and how many images the gate needs to promote a better model.

For classifiers the number comes from the gate's own paired test and rules (`rules`), by the exact distribution of the images on
which two models disagree. For detectors, whose paired test is a bootstrap over their predictions, it follows from the standard
error of the score. What is not here: the test itself (`paired`).
"""

from statistics import NormalDist

import numpy as np

from openmlops.core.gate.paired import images_needed, standard_errors, standard_normal
from openmlops.core.gate.rules import RULES, GateRules
from openmlops.core.intervals import wilson
from openmlops.core.quality import Evaluation
from openmlops.core.types import HoldoutPower, Interval

GAIN = 0.02
"""the gain for which the number of images is stated"""
SHARED = 0.8
"""correlation of how hard an image is for two models of one task, by which they are assumed to disagree: on 14 % of the images
at an accuracy of 80 %, on 8 % at 90 %"""
ASSUMED = 0.9
"""accuracy that is assumed where no model has been trained yet"""
TOGETHER = 0.5
"""correlation that is assumed of the scores of two detectors over draws of test images"""
MOST_IMAGES = 200_000
"""no more images are looked for"""
_TAIL = 1e-7
"""probability of the numbers of disagreements that are left out at either end"""


def before_training(n: int) -> HoldoutPower:
    """What n test images would decide of a classifier with the accuracy ASSUMED."""
    return of_classifier(wilson(round(ASSUMED * n), n), n)


def of_evaluation(evaluation: Evaluation) -> HoldoutPower:
    """What the evaluated split can decide of this model and one that is better."""
    _, score = evaluation.headline()
    return (of_classifier if evaluation.kind == "classification" else of_detector)(score, evaluation.n)


def of_detector(score: Interval, n: int, rules: GateRules = RULES, gain: float = GAIN) -> HoldoutPower:
    """What n test images decide of a detector with this score and bootstrap interval, and one whose score varies with it."""
    half = (score.high - score.low) / 2 * (2 * (1 - TOGETHER)) ** 0.5
    difference = Interval(value=gain, low=gain - half, high=gain + half)
    needed = images_needed(n, difference, rules.confidence, gain, rules.alpha, rules.power)
    return HoldoutPower(n=n, score=score, gain=gain, images_needed=max(1, _two_digits(needed)), power=rules.power)


def sentences(power: HoldoutPower) -> tuple[str, str]:
    """The two answers in words: what the score is known to, and how many images the gate needs."""
    low, high, value = (f"{100 * each:.1f}" for each in (power.score.low, power.score.high, power.score.value))
    known = f"{power.n:,} test images measure a score of {value} % as {low} to {high} % (95 % interval)"
    if power.images_needed is None:
        return known, f"No number of test images shows a gain of {100 * power.gain:g} points"
    gain = f"a model that is {100 * power.gain:g} points better in {power.power:.0%} of cases"
    return known, f"The gate needs about {power.images_needed:,} test images to promote {gain}; there are {power.n:,}"


def of_classifier(score: Interval, n: int, rules: GateRules = RULES, gain: float = GAIN) -> HoldoutPower:
    """What n test images decide of a classifier that has this accuracy there."""
    disagreement = assumed_disagreement(score.value, gain)
    needed = images_for_gain(gain, disagreement, rules)
    return HoldoutPower(n=n, score=score, gain=gain, images_needed=needed, power=rules.power, disagreement=disagreement)


def assumed_disagreement(accuracy: float, gain: float = GAIN) -> float:
    """Share of images on which exactly one of two models is right: one of `accuracy`, one `gain` better, whose difficulties
    have the correlation SHARED. The better one has at most 1 - `gain` / 2, so that there is something to gain."""
    from scipy.stats import multivariate_normal

    worse = min(max(accuracy, 0.01), 1 - 1.5 * gain)
    ease = [standard_normal(worse), standard_normal(worse + gain)]
    both = float(multivariate_normal([0, 0], [[1, SHARED], [SHARED, 1]]).cdf(ease))
    return worse + (worse + gain) - 2 * both


def images_for_gain(gain: float, disagreement: float, rules: GateRules = RULES) -> int | None:
    """The number of images on which the gate promotes a challenger that is truly `gain` better with the rules' power, if the
    models disagree on this share of the images; rounded up to two digits, None if more than MOST_IMAGES."""
    low, high = 1, 2
    while promotion_rate(high, gain, disagreement, rules) < rules.power:
        low, high = high, 2 * high
        if low > MOST_IMAGES:
            return None
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        is_enough = promotion_rate(middle, gain, disagreement, rules) >= rules.power
        low, high = (low, middle) if is_enough else (middle, high)
    return _two_digits(high)


def promotion_rate(n: int, gain: float, disagreement: float, rules: GateRules = RULES) -> float:
    """Probability that the gate promotes, on n images, a challenger that is truly `gain` better than the only champion.

    The number of disagreements is binomial, and so is the number of them that the challenger wins; those that the rules
    promote are counted.
    """
    from scipy.stats import binom

    disagreements = np.arange(int(binom.ppf(_TAIL, n, disagreement)), int(binom.isf(_TAIL, n, disagreement)) + 1)
    wins = _fewest_wins(n, disagreements, rules)
    share = (disagreement + gain) / (2 * disagreement)
    return float(binom.pmf(disagreements, n, disagreement) @ binom.sf(wins - 1, disagreements, share))


def _two_digits(count: int) -> int:
    """`count` rounded up to two digits."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _fewest_wins(n: int, disagreements: np.ndarray, rules: GateRules) -> np.ndarray:
    """For each number of disagreements int64 (k,), how many of them the challenger must win to be promoted."""
    from scipy.stats import binom

    z = NormalDist().inv_cdf((1 + rules.confidence) / 2)
    wins = binom.isf(rules.alpha, disagreements, 0.5).astype(np.int64) + 1  # McNemar's exact test
    for bound, least in ((-rules.margin, z), (rules.worthwhile, -z)):  # not inferior; a worthwhile gain is not ruled out
        while (short := (wins <= disagreements) & _is_short(wins, disagreements - wins, n, bound, least)).any():
            wins = wins + short
    return wins


def _is_short(wins: np.ndarray, losses: np.ndarray, n: int, bound: float, least: float) -> np.ndarray:
    """Whether the score interval of the difference lies on the wrong side of `bound`."""
    pairs = zip(wins.tolist(), losses.tolist(), strict=True)
    return np.array([standard_errors(won, lost, n, bound) <= least for won, lost in pairs], bool)
