"""Boxes lie where ultralytics puts them, come back where they were, and overlap as the textbook says."""

import numpy as np
import pytest
from PIL import Image

from openmlops.core.images.boxes import BORDER, from_canvas, iou, letterbox, non_maximum_suppression, objects, place, to_canvas
from openmlops.errors import DataError

SIZES = [(480, 640), (375, 500), (500, 333), (33, 1000), (640, 640), (17, 13), (1, 900), (641, 427)]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def boxes_in(size, count, rng):
    """float32 (count, 4) within an image of this size."""
    height, width = size
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * [width, height]
    return corners.reshape(count, 4).astype(np.float32)


@pytest.mark.parametrize("canvas", [(320, 320), (192, 256), (33, 47)])
def test_images_are_placed_as_ultralytics_places_them(ultralytics, canvas):
    from ultralytics.data.augment import LetterBox

    for size in SIZES:
        ours, theirs = place(size, canvas), LetterBox(new_shape=canvas).get_params({"img": np.zeros((*size, 3), np.uint8)})
        expected = theirs["ratio"][0], theirs["left"], theirs["top"], *theirs["new_unpad"]
        assert (ours.scale, ours.left, ours.top, ours.width, ours.height) == expected
        assert ours.left + ours.width + theirs["right"] == canvas[1]
        assert ours.top + ours.height + theirs["bottom"] == canvas[0]


def test_an_image_lies_inside_its_border(rng):
    image = rng.integers(0, 100, (50, 100, 3), dtype=np.uint8)
    found = letterbox(image, (64, 64))
    assert found.shape == (64, 64, 3)
    assert found.dtype == np.uint8
    assert (found[:16] == BORDER).all()
    assert (found[48:] == BORDER).all()
    expected = Image.fromarray(image).resize((64, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found[16:48], np.asarray(expected))


def test_a_small_image_is_enlarged():
    found = letterbox(np.zeros((10, 20, 3), np.uint8), (64, 64))
    assert (found[16:48] == 0).all()


def test_an_image_of_the_right_size_is_unchanged(rng):
    image = rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)
    assert letterbox(image, (64, 48)) is image


def test_an_image_that_fills_one_side_is_not_resampled(rng):
    image = rng.integers(0, 255, (32, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(letterbox(image, (64, 64))[16:48], image)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8)])
def test_cannot_letterbox_if_it_is_no_rgb_image(image):
    with pytest.raises(DataError, match="Give uint8"):
        letterbox(image, (64, 64))


def test_cannot_place_if_there_are_no_pixels():
    with pytest.raises(DataError, match=r"\(0, 5\)"):
        place((0, 5), (64, 64))


def test_boxes_come_back_where_they_were(rng):
    for size in SIZES:
        placed, boxes = place(size, (320, 320)), boxes_in(size, 20, rng)
        back = from_canvas(to_canvas(boxes, placed), placed, size)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, boxes, atol=2e-3)


def test_a_box_marks_the_same_thing_in_the_image_and_on_the_canvas():
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:60, 100:180] = 255
    canvas, placed = letterbox(image, (64, 64)), place((100, 200), (64, 64))
    x1, y1, x2, y2 = to_canvas(np.array([[100, 20, 180, 60]], np.float32), placed)[0]
    rows, columns = np.nonzero(canvas[:, :, 0] > 128)
    assert np.abs(np.array([columns.min() - x1, rows.min() - y1, columns.max() + 1 - x2, rows.max() + 1 - y2])).max() <= 1


def test_boxes_beyond_the_image_are_clipped_to_it():
    placed = place((50, 100), (64, 64))
    found = from_canvas(np.array([[-5, 0, 70, 64]], np.float32), placed, (50, 100))
    assert found.tolist() == [[0, 0, 100, 50]]


def test_no_boxes_stay_no_boxes():
    placed, none = place((50, 100), (64, 64)), np.zeros((0, 4), np.float32)
    assert to_canvas(none, placed).shape == from_canvas(none, placed, (50, 100)).shape == (0, 4)
    assert iou(none, np.ones((3, 4), np.float32)).shape == (0, 3)
    assert non_maximum_suppression(none, np.zeros(0), np.zeros(0), 0.5, 10).tolist() == []


def test_overlap_by_hand():
    first = np.array([[0, 0, 2, 2]], np.float32)
    second = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 2, 4], [1, 1, 1, 1], [5, 5, 6, 6]], np.float32)
    np.testing.assert_allclose(iou(first, second), [[1, 1 / 7, 0, 0.5, 0, 0]], rtol=1e-6)
    assert iou(second[4:5], second[4:5])[0, 0] == 0


def test_overlap_agrees_with_torchvision(rng):
    torchvision, torch = pytest.importorskip("torchvision"), pytest.importorskip("torch")
    first, second = boxes_in((300, 400), 40, rng), boxes_in((300, 400), 60, rng)
    expected = torchvision.ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(iou(first, second), expected, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.2, 0.45, 0.7])
def test_the_boxes_kept_are_those_that_torchvision_keeps(rng, overlap):
    torchvision, torch = pytest.importorskip("torchvision"), pytest.importorskip("torch")
    boxes, scores, classes = boxes_in((300, 400), 300, rng), rng.random(300).astype(np.float32), rng.integers(0, 3, 300)
    expected = torchvision.ops.batched_nms(*map(torch.from_numpy, (boxes, scores, classes)), overlap).numpy()
    assert len(expected) < 300
    found = non_maximum_suppression(boxes, scores, classes, overlap, 1000)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(non_maximum_suppression(boxes, scores, classes, overlap, 7), expected[:7])


def test_a_repeat_goes_only_if_it_is_of_the_same_class():
    boxes, scores = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32), np.array([0.4, 0.9], np.float32)
    assert non_maximum_suppression(boxes, scores, np.array([1, 1]), 0.5, 10).tolist() == [1]
    assert non_maximum_suppression(boxes, scores, np.array([0, 1]), 0.5, 10).tolist() == [1, 0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_arrays_of_one_shape_are_held_apart(count):
    held = objects([np.full((2, 5), row) for row in range(count)])
    assert held.shape == (count,)
    assert held.dtype == object
    assert [item[0, 0] for item in held] == list(range(count))
