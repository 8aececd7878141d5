"""What the generic checks find, miss on purpose, and cost."""

import time

import numpy as np
import pytest

from openmlops.core import validation
from openmlops.core.images import corrupt

RNG = np.random.default_rng(0)


def smooth(n: int, seed: int = 0) -> np.ndarray:
    """n different images (n, 32, 32, 3) with structure, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)


def test_a_share_of_duplicates_blocks_and_less_is_reported() -> None:
    train, test = smooth(300, 1), smooth(200, 2)
    for leaked, blocking in ((1, False), (2, False), (3, True)):
        test[:leaked] = train[:leaked]
        (found,) = validation.check_duplicates(train, test, "train", "test")
        assert (found.count, found.blocking, found.where) == (leaked, blocking, "test")
        assert found.rows == tuple(range(leaked))


@pytest.mark.parametrize("kind", ["brightness", "contrast"])
def test_a_copy_with_another_light_is_a_near_duplicate(kind: str) -> None:
    train, test = smooth(300, 1) // 2 + 40, smooth(100, 2)
    test[:50] = corrupt(train[:50], kind, 2, 0)
    (found,) = validation.check_duplicates(train, test, "train", "test")
    assert not found.blocking
    assert "perceptual hash" in found.what
    assert found.count >= 45
    assert set(found.rows) <= set(range(50))


def test_different_images_are_no_near_duplicates() -> None:
    assert validation.check_duplicates(smooth(2000, 1), smooth(1000, 2), "train", "test") == []


def test_repeats_inside_train_are_reported_where_they_repeat() -> None:
    train = smooth(100, 1)
    train[[7, 9]] = train[3]
    (found,) = validation.check_duplicates(train, smooth(10, 2), "train", "test")
    assert (found.where, found.rows, found.count, found.blocking) == ("train", (7, 9), 2, False)


def test_a_few_images_of_one_colour_are_reported_and_many_block() -> None:
    images = RNG.integers(0, 256, (1000, 12), dtype=np.uint8)
    images[:10] = 7
    assert [found.blocking for found in validation.check_constant(images, "b")] == [False]
    images[:11] = 7
    assert [found.blocking for found in validation.check_constant(images, "b")] == [True]


def test_a_rare_class_is_reported() -> None:
    labels = np.array([0] * 100 + [1] * 100 + [2] * 3)
    (found,) = validation.check_balance(labels, ("a", "b", "c"), "b")
    assert not found.blocking
    assert found.what == "few images of c (3), the mean class has 68"


def test_perceptual_hashes_of_any_size_from_8_by_9_pixels() -> None:
    for shape in ((8, 9), (32, 32), (37, 61)):
        hashes = validation.perceptual_hashes(RNG.integers(0, 256, (5, *shape, 3), dtype=np.uint8))
        assert hashes.shape == (5, 64)
        assert set(np.unique(hashes)) == {-1, 1}


def test_duplicates_among_60_000_images_are_found_within_some_seconds() -> None:
    images = RNG.integers(0, 256, (60_000, 32, 32, 3), dtype=np.uint8)
    images[59_000] = images[5]
    started = time.process_time()
    (found,) = validation.check_duplicates(images[:50_000], images[50_000:], "train", "test")
    assert found.rows == (9000,)
    assert time.process_time() - started < 15, "claimed: 2.5 cpu-seconds"
