"""What the generic checks find, miss on purpose, and cost."""

import numpy as np
import pytest

from openmlops.core import validation
from openmlops.core.images.corruptions import corrupt

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
    assert found.what == "few images of c (3); the average class has 68"


def test_perceptual_hashes_of_any_size_from_8_by_9_pixels() -> None:
    for shape in ((8, 9), (32, 32), (37, 61)):
        hashes = validation.perceptual_hashes(RNG.integers(0, 256, (5, *shape, 3), dtype=np.uint8))
        assert hashes.shape == (5, 64)
        assert set(np.unique(hashes)) == {-1, 1}


def of_sizes(sizes: list[tuple[int, int]]) -> np.ndarray:
    """Images of these heights and widths, an object array (n,)."""
    found = np.empty(len(sizes), dtype=object)
    for row, (height, width) in enumerate(sizes):
        found[row] = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return found


def test_hashes_of_images_of_different_sizes_are_those_of_each_alone() -> None:
    images = of_sizes([(20, 30), (32, 32), (20, 30), (61, 37)])
    together = validation.perceptual_hashes(images)
    for row, image in enumerate(images):
        assert np.array_equal(together[row], validation.perceptual_hashes(image[None])[0])
        assert validation.content_hashes(images)[row] == validation.content_hashes(image[None])[0]


def test_the_same_pixels_in_another_shape_are_another_image() -> None:
    images = of_sizes([(20, 30), (1, 1)])
    images[1] = images[0].reshape(30, 20, 3)
    assert len(set(validation.content_hashes(images))) == 2


def test_a_copy_cannot_be_missed_if_it_is_another_array_in_memory() -> None:
    image = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    views = of_sizes([(20, 30), (20, 30)])
    views[0], views[1] = np.asfortranarray(image), np.ascontiguousarray(image)
    assert len(set(validation.content_hashes(views))) == 1


def test_duplicates_among_images_of_different_sizes_are_found() -> None:
    train, test = of_sizes([(40, 30), (30, 40), (50, 50)]), of_sizes([(30, 40), (40, 30)])
    test[1] = train[0].copy()
    (found,) = validation.check_duplicates(train, test, "train", "test")
    assert (found.rows, found.blocking) == ((1,), True)


def test_images_of_a_few_pixels_have_perceptual_hashes() -> None:
    with np.errstate(all="raise"):
        hashes = validation.perceptual_hashes(of_sizes([(1, 1), (3, 40), (40, 2)]))
    assert set(np.unique(hashes)) <= {-1, 1}


def test_of_all_pairs_of_images_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = (RNG.integers(0, 2**64, count, dtype=np.uint64) for count in (50_000, 10_000))
    test[9000] = train[5] ^ np.uint64(0b1000_0000_0001_1000_0001)
    compared, count = [], np.bitwise_count

    def counted(pairs: np.ndarray) -> np.ndarray:
        compared.append(len(pairs))
        return count(pairs)

    monkeypatch.setattr(np, "bitwise_count", counted)
    assert np.flatnonzero(validation.near_hashes(test, train)).tolist() == [9000]
    assert 1 <= sum(compared) < len(test) * len(train) / 10_000
