"""The paired interval and test do what their names promise, also where textbooks' simpler ones fail."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from openmlops.core.gate.paired import exact_mcnemar, images_needed, score_interval, standard_normal
from openmlops.core.types import Interval

COUNTS = [(12, 5, 100), (0, 1, 44), (0, 0, 30), (300, 210, 10_000), (3, 0, 50), (40, 60, 100)]


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (0, 5), (61, 40), (40, 61)])
def test_mcnemar_agrees_with_scipys_binomial_test(first, second):
    expected = binomtest(first, first + second, alternative="greater").pvalue if first + second else 1.0
    assert exact_mcnemar(first, second) == pytest.approx(expected)


def errors_by_brute_force(first, second, n, difference):
    """The lead in standard errors under a given difference, its nuisance share found by maximising the likelihood."""

    def minus_likelihood(share):
        pieces = [(first, share + difference), (second, share), (n - first - second, 1 - 2 * share - difference)]
        return -sum(count * math.log(max(p, 1e-300)) for count, p in pieces if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = minimize_scalar(minus_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (first - second - n * difference) / math.sqrt(n * (2 * share + difference - difference**2))


@pytest.mark.parametrize(("first", "second", "n"), COUNTS)
def test_the_bounds_lie_where_the_score_statistic_is_critical(first, second, n):
    found, z = score_interval(first, second, n, 0.95), standard_normal(0.975)
    assert found.value == (first - second) / n
    assert errors_by_brute_force(first, second, n, found.low) == pytest.approx(z, abs=2e-3)
    assert errors_by_brute_force(first, second, n, found.high) == pytest.approx(-z, abs=2e-3)


@pytest.mark.parametrize(("first", "second", "n"), COUNTS)
def test_swapping_the_models_mirrors_the_interval(first, second, n):
    found, mirrored = score_interval(first, second, n, 0.95), score_interval(second, first, n, 0.95)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(20, 0), (0, 20), (0, 0)])
def test_models_that_never_or_always_disagree_have_an_interval_too(first, second):
    found = score_interval(first, second, 20, 0.95)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.1


@pytest.mark.parametrize(("p_first", "p_second", "n"), [(0.06, 0.04, 500), (0.01, 0.01, 200), (0.08, 0.02, 100)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(p_first, p_second, n):
    draws = np.random.default_rng(3).multinomial(n, [p_first, p_second, 1 - p_first - p_second], 1500)
    intervals = [score_interval(int(first), int(second), n, 0.95) for first, second, _ in draws]
    assert np.mean([found.low <= p_first - p_second <= found.high for found in intervals]) >= 0.935


def test_the_number_of_images_gives_the_power_that_it_was_asked_for():
    """Disagreement on 10 % of the images, a true gain of 1 point: the number for 80 % power, tried 2,000 times."""
    half = standard_normal(0.975) * math.sqrt(0.1 / 2000)
    n = images_needed(2000, Interval(value=0.01, low=0.01 - half, high=0.01 + half), 0.95, gap=0.01, alpha=0.05, power=0.8)
    draws = np.random.default_rng(4).multinomial(n, [0.055, 0.045, 0.9], 2000)
    shown = np.mean([exact_mcnemar(int(first), int(second)) <= 0.05 for first, second, _ in draws])
    assert 0.76 <= shown <= 0.84
