"""Corruptions do what they are called, and true boxes follow what the camera then sees."""

import numpy as np
import pytest

from openmlops.core.images.boxes import objects
from openmlops.core.images.corruptions import CORRUPTIONS, all_moved, corrupt, moved, occluded, view
from openmlops.core.images.statistics import image_statistics
from openmlops.errors import DataError

SIZES = ((120, 160), (160, 120), (333, 200), (48, 48))
GEOMETRIC = ("zoom", "crop")
SEVERITIES = range(1, 6)


def scenes(sizes: tuple[tuple[int, int], ...] = SIZES, seed: int = 0) -> np.ndarray:
    """Waves of colour with fine grain, one image of each size."""
    rng = np.random.default_rng(seed)
    return objects([scene(size, rng) for size in sizes])


def scene(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    down, across = np.indices(size)
    waves = np.sin(across[:, :, None] / 5 + rng.uniform(0, 6, 3)) + np.cos(down[:, :, None] / 4 + rng.uniform(0, 6, 3))
    return np.clip(120 + 30 * waves + rng.normal(0, 6, waves.shape), 0, 255).astype(np.uint8)


def painted(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """A black image with one white box."""
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def extent(image: np.ndarray) -> list[int]:
    """x1, y1, x2, y2 of what is white."""
    rows, columns = (np.flatnonzero((image[:, :, 0] > 127).any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def true(*boxes: tuple[float, ...]) -> np.ndarray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_images_of_different_sizes_keep_their_sizes_repeat_with_the_seed_and_are_spared(kind: str):
    images = scenes()
    before = [image.copy() for image in images]
    once, again = corrupt(images, kind, 3, seed=7), corrupt(images, kind, 3, seed=7)
    assert once.dtype == object
    for image, first, second, original in zip(images, once, again, before, strict=True):
        assert (first.dtype, first.shape) == (np.uint8, image.shape)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(image, original)
        assert (first != image).any()


@pytest.mark.parametrize("kind", ["noise", "night", "occlusion"])
def test_what_is_drawn_differs_by_seed_and_by_place(kind: str):
    same = objects([scenes()[0]] * 2)
    first, second = corrupt(same, kind, 3, seed=0)
    other = corrupt(same, kind, 3, seed=1)[0]
    assert (first != second).any()
    assert (first != other).any()


@pytest.mark.parametrize("kind", ["night", "occlusion", "zoom", "crop"])
def test_dense_and_object_arrays_are_corrupted_alike(kind: str):
    dense = np.stack(list(scenes(((64, 48),) * 3)))
    for row, image in enumerate(corrupt(objects(list(dense)), kind, 4, seed=3)):
        np.testing.assert_array_equal(image, corrupt(dense, kind, 4, seed=3)[row])


@pytest.mark.parametrize(
    ("kind", "statistic", "direction"),
    [
        ("brightness", "brightness", 1),
        ("noise", "noise", 1),
        ("blur", "sharpness", -1),
        ("contrast", "contrast", -1),
        ("night", "brightness", -1),
        ("occlusion", "noise", -1),
        ("zoom", "sharpness", -1),
        ("crop", "sharpness", -1),
    ],
)
def test_a_corruption_moves_its_statistic_from_the_weakest_to_the_strongest(kind: str, statistic: str, direction: int):
    images = scenes(SIZES * 10)
    clean, weak, strong = (image_statistics(seen)[statistic].mean() for seen in (images, *_ends(images, kind)))
    assert direction * (strong - clean) > 0
    assert abs(strong - clean) > abs(weak - clean)


def _ends(images: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    return corrupt(images, kind, 1, seed=0), corrupt(images, kind, 5, seed=0)


def test_night_takes_red_before_blue():
    night = image_statistics(corrupt(objects([np.full((100, 100, 3), 200, dtype=np.uint8)]), "night", 3, seed=0))
    assert night["red"][0] < night["green"][0] < night["blue"][0] < 100
    assert night["noise"][0] > 3


def test_large_images_are_blurred_as_visibly_as_small_ones_once_they_are_shrunk():
    small = np.kron(np.random.default_rng(0).integers(0, 256, (40, 40, 1)), np.ones((4, 4, 3))).astype(np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    shrunk = corrupt(objects([large]), "blur", 4, seed=0)[0].reshape(160, 4, 160, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - corrupt(objects([small]), "blur", 4, seed=0)[0]).mean() < 4


@pytest.mark.parametrize("kind", GEOMETRIC)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", SIZES)
def test_a_box_moves_with_the_pixels_in_it(kind: str, severity: int, size: tuple[int, int]):
    seen = view(kind, severity, size)
    assert seen is not None
    width, height = seen[2] - seen[0], seen[3] - seen[1]
    box = (seen[0] + width // 4, seen[1] + height // 4, seen[2] - width // 4, seen[3] - height // 3)
    found = extent(corrupt(objects([painted(size, box)]), kind, severity, 0)[0])
    np.testing.assert_allclose(moved(true((*box, 2)), kind, severity, size)[0], [*found, 2], atol=1.01)


@pytest.mark.parametrize("kind", GEOMETRIC)
def test_what_is_seen_shrinks_with_severity_and_stays_in_the_image(kind: str):
    for size in (*SIZES, (1, 1), (2, 300)):
        views = [view(kind, severity, size) for severity in SEVERITIES]
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in views]
        assert all(0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0] for x1, y1, x2, y2 in views)
        assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("kind", ["brightness", "noise", "blur", "contrast", "night"])
def test_boxes_stay_where_geometry_stays(kind: str):
    boxes = true((1, 2, 30, 40, 0), (5, 5, 6, 6, 1))
    assert view(kind, 3, (100, 100)) is None
    np.testing.assert_array_equal(moved(boxes, kind, 3, (100, 100)), boxes)


def test_zoom_drops_what_is_hardly_seen_and_clips_what_is_seen_in_part():
    assert view("zoom", 5, (300, 300)) == (100, 100, 200, 200)
    mostly_out = (10, 120, 110, 180, 0)
    partly_out = (40, 120, 140, 180, 1)
    gone = (0, 0, 50, 50, 2)
    found = moved(true(mostly_out, partly_out, gone), "zoom", 5, (300, 300))
    np.testing.assert_allclose(found, [[0, 60, 120, 240, 1]], atol=1e-3)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_moved_boxes_lie_in_the_image_with_area_and_are_new(kind: str, severity: int):
    rng = np.random.default_rng(severity)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1).reshape(50, 4) * [160, 120, 160, 120]
    boxes = np.column_stack([corners, rng.integers(0, 3, 50)]).astype(np.float32)
    before = boxes.copy()
    found = moved(boxes, kind, severity, (120, 160))
    assert (found.dtype, found.shape[1]) == (np.float32, 5)
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:4] <= np.array([160.001, 120.001])).all()
    assert (found[:, 2:4] > found[:, :2]).all()
    found[:] = -1
    np.testing.assert_array_equal(boxes, before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_without_boxes_keeps_none(kind: str):
    assert moved(true(), kind, 3, (50, 60)).shape == (0, 5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_covered_part_is_the_one_that_changes_and_no_other(severity: int):
    images = scenes()
    for index, (image, changed) in enumerate(zip(images, corrupt(images, "occlusion", severity, seed=5), strict=True)):
        x1, y1, x2, y2 = occluded(severity, image.shape[:2], 5, index)
        inside = np.zeros(image.shape[:2], dtype=bool)
        inside[y1:y2, x1:x2] = True
        np.testing.assert_array_equal(changed[~inside], image[~inside])
        assert (changed[inside] != image[inside]).any(axis=1).mean() > 0.9


def test_occlusion_drops_the_boxes_that_it_covers_and_moves_no_other():
    x1, y1, x2, y2 = occluded(3, (200, 200), 1, 4)
    width, height = x2 - x1, y2 - y1
    covered, half = (x1, y1, x2, y2, 0), (x1 + width / 2, y1, x2 + width / 2, y2, 1)
    nearly = (x1, y1 + 0.15 * height, x2, y2 + 0.15 * height, 2)
    found = moved(true(covered, half, nearly), "occlusion", 3, (200, 200), seed=1, index=4)
    np.testing.assert_array_equal(found, true(half))


def test_the_covered_part_grows_with_severity():
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (occluded(severity, (200, 300), 0, 0) for severity in SEVERITIES)]
    assert areas == sorted(set(areas))
    assert areas[0] > 0.04 * 60_000
    assert areas[-1] < 0.5 * 60_000


@pytest.mark.parametrize("kind", ["occlusion", "crop"])
def test_all_labels_move_with_their_images(kind: str):
    images = scenes()
    labels = objects([true((10, 10, 40, 40, 0), (20, 5, 45, 45, 1))] * len(images))
    found = all_moved(labels, np.array([image.shape[:2] for image in images]), kind, 4, seed=2)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(found[index], moved(labels[index], kind, 4, image.shape[:2], seed=2, index=index))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_of_one_pixel_can_be_corrupted(kind: str, severity: int):
    assert corrupt(objects([np.full((1, 1, 3), 9, dtype=np.uint8)]), kind, severity, 0)[0].shape == (1, 1, 3)


@pytest.mark.parametrize("call", [lambda: view("fog", 1, (9, 9)), lambda: moved(true(), "occlusion", 6, (9, 9))])
def test_an_unknown_corruption_is_named_wherever_it_is_asked_for(call):
    with pytest.raises(DataError, match=r"no corruption '(fog|occlusion)' with severity"):
        call()


def test_statistics_of_images_of_different_sizes_are_those_of_each_alone():
    images = scenes(SIZES * 3)
    together = image_statistics(images)
    for row, image in enumerate(images):
        for name, column in image_statistics(image[None]).items():
            np.testing.assert_allclose(together[name][row], column[0], rtol=1e-5)


def test_no_images_of_no_size_give_empty_columns():
    assert {column.shape for column in image_statistics(objects([])).values()} == {(0,)}
