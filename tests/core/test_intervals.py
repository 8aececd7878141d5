"""The interval of cross-validation covers what it is of as often as stated; without its correction it does not."""

import numpy as np
import pytest

from openmlops.core.intervals import widened, wilson
from openmlops.core.types import Interval

N, FOLDS, WIDTH, CLASSES = 100, 5, 20, 3


def nearest_neighbour(x: np.ndarray, y: np.ndarray, images: np.ndarray) -> np.ndarray:
    return y[((images[:, None] - x[None]) ** 2).sum(2).argmin(1)]


def drawn(n: int, means: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(CLASSES, size=n)
    return means[labels] + rng.normal(size=(n, WIDTH)), labels


@pytest.mark.parametrize("data_sets", [150, pytest.param(400, marks=pytest.mark.slow)])
def test_it_covers_the_accuracy_of_a_model_trained_on_all_images_at_least_as_often_as_stated(data_sets: int) -> None:
    """So many data sets of 100 images, a classifier by the nearest neighbour, its accuracy measured on 1,000 further images."""
    rng, covered = np.random.default_rng(0), {"plain": 0, "widened": 0}
    for _ in range(data_sets):
        means = rng.normal(size=(CLASSES, WIDTH)) * 2.5 / WIDTH**0.5
        x, y = drawn(N, means, rng)
        fold = rng.permutation(N) % FOLDS
        right = sum(
            int((nearest_neighbour(x[fold != k], y[fold != k], x[fold == k]) == y[fold == k]).sum()) for k in range(FOLDS)
        )
        fresh, truth = drawn(1000, means, rng)
        true = float(np.mean(nearest_neighbour(x, y, fresh) == truth))
        plain = wilson(right, N)
        for name, interval in (("plain", plain), ("widened", widened(plain, FOLDS))):
            covered[name] += interval.low <= true <= interval.high
    assert covered["widened"] >= 0.95 * data_sets
    assert covered["plain"] < (0.95 * data_sets if data_sets == 400 else covered["widened"])


def test_it_stays_within_a_score() -> None:
    assert widened(Interval(value=0.99, low=0.9, high=1.0), 5) == Interval(value=0.99, low=0.99 - 1.5 * 0.09, high=1.0)
