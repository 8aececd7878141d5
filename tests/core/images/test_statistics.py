"""Image statistics say what they are named after, and corruptions move them."""

import numpy as np
import pytest

from openmlops.core.images import statistics
from openmlops.core.images.corruptions import CORRUPTIONS, corrupt
from openmlops.core.images.statistics import image_statistics
from openmlops.errors import DataError


def flat(red: int, green: int, blue: int, n: int = 1) -> np.ndarray:
    return np.full((n, 32, 32, 3), (red, green, blue), dtype=np.uint8)


def textured(n: int = 50, seed: int = 0) -> np.ndarray:
    """Waves of colour with fine grain, away from black and white."""
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(32), np.arange(32))
    phase = rng.uniform(0, 6, (n, 1, 1, 3))
    waves = np.sin(across[None, :, :, None] / 3 + phase) + np.cos(down[None, :, :, None] / 4 + phase)
    return (120 + 25 * waves + rng.normal(0, 6, waves.shape)).astype(np.uint8)


def test_every_statistic_is_a_finite_float32_column():
    columns = image_statistics(np.random.default_rng(0).integers(0, 256, (2500, 32, 32, 3), dtype=np.uint8))
    assert len(columns) >= 8
    assert {(column.dtype.name, column.shape) for column in columns.values()} == {("float32", (2500,))}
    assert all(np.isfinite(column).all() for column in columns.values())


def test_constant_images_have_their_colour_and_nothing_else():
    found = {name: float(column[0]) for name, column in image_statistics(flat(200, 100, 50)).items()}
    assert (found["red"], found["green"], found["blue"]) == (200, 100, 50)
    assert found["brightness"] == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=1e-3)
    assert found["saturation"] == pytest.approx(0.75)
    for name in ("contrast", "sharpness", "noise", "entropy", "clipped"):
        assert found[name] == pytest.approx(0, abs=1e-3), name


def test_the_noise_estimate_is_the_noise_that_was_added():
    noisy = flat(128, 128, 128, n=200).astype(np.float32) + np.random.default_rng(0).normal(0, 10, (200, 32, 32, 1))
    assert image_statistics(np.rint(noisy).astype(np.uint8))["noise"].mean() == pytest.approx(10, rel=0.03)


def test_entropy_counts_bits():
    halves = flat(0, 0, 0)
    halves[:, :16] = 255
    assert image_statistics(halves)["entropy"][0] == pytest.approx(1.0)
    assert image_statistics(halves)["clipped"][0] == 1.0


def test_an_image_is_described_alike_alone_and_among_others():
    images = textured(1003)
    alone = image_statistics(images[1001:1002])
    among = image_statistics(images)
    for name in alone:
        np.testing.assert_allclose(alone[name], among[name][1001:1002], rtol=1e-5)


def test_no_images_give_empty_columns():
    assert {column.shape for column in image_statistics(flat(0, 0, 0, n=0)).values()} == {(0,)}


def test_images_of_one_size_are_described_together_up_to_a_limit(monkeypatch: pytest.MonkeyPatch):
    described, count = [], statistics._statistics
    monkeypatch.setattr(statistics, "_statistics", lambda images: described.append(len(images)) or count(images))
    image_statistics(textured(2100))
    assert described == [1000, 1000, 100]


@pytest.mark.parametrize(
    ("kind", "statistic", "direction"),
    [("brightness", "brightness", 1), ("noise", "noise", 1), ("blur", "sharpness", -1), ("contrast", "contrast", -1)],
)
def test_a_corruption_moves_its_statistic_further_with_severity(kind: str, statistic: str, direction: int):
    images = textured()
    moved = [direction * image_statistics(corrupt(images, kind, severity, 0))[statistic].mean() for severity in range(1, 6)]
    assert np.all(np.diff([direction * image_statistics(images)[statistic].mean(), *moved]) > 0)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_keep_shape_and_type_repeat_with_the_seed_and_spare_the_original(kind: str):
    images = textured()
    before = images.copy()
    once, again = corrupt(images, kind, 3, seed=7), corrupt(images, kind, 3, seed=7)
    assert (once.dtype, once.shape) == (np.uint8, images.shape)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(images, before)
    assert (once != images).any()


@pytest.mark.parametrize(("kind", "severity"), [("fog", 1), ("noise", 0), ("noise", 6)])
def test_an_unknown_corruption_is_named(kind: str, severity: int):
    with pytest.raises(DataError, match=f"no corruption '{kind}' with severity {severity}.*brightness, noise"):
        corrupt(textured(2), kind, severity, 0)
