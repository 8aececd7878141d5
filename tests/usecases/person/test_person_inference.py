"""From a detector's raw outputs to boxes in the image as it came."""

import numpy as np
import pytest

from openmlops.core.images.boxes import objects, place, to_canvas
from openmlops.errors import DataError, EvaluationError
from openmlops.usecases.base import ModelInput
from openmlops.usecases.yolo_folder.inference import CANDIDATES, FLOOR, MOST, to_model_input, to_predictions

CANVAS = (96, 128)
SIZES = [(96, 128), (480, 640), (640, 480), (37, 400), (400, 37), (31, 29), (1080, 1920)]


def blank(size: tuple[int, int] = (200, 100), n: int = 1) -> ModelInput:
    return to_model_input(objects([np.zeros((*size, 3), dtype=np.uint8)] * n), CANVAS)


def tensors(boxes: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Of one image: boxes (a, 4), scores (a, c)."""
    embedding = np.ones((1, 3), dtype=np.float32)
    return {"boxes": boxes[None].astype(np.float32), "scores": scores[None].astype(np.float32), "embedding": embedding}


def answered(boxes: list, scores: list, model_input: ModelInput | None = None) -> np.ndarray:
    """The answer (k, 6) to candidates of one class or, with rows of scores, of several."""
    raw = tensors(np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(scores, dtype=np.float32).reshape(len(boxes), -1))
    return to_predictions(raw, model_input or blank(CANVAS)).predictions[0]


def crowd(n: int, anchors: int, certain: int, seed: int = 0, size: float = 20.0) -> dict[str, np.ndarray]:
    """`n` images of `anchors` candidates all over the canvas, `certain` of them with a score above FLOOR."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 80, (n, anchors, 2))
    scores = np.full((n, anchors, 1), FLOOR / 2, dtype=np.float32)
    scores[:, :certain] = rng.uniform(0.02, 1, (n, certain, 1))
    boxes = np.concatenate([corner, corner + rng.uniform(5, size, corner.shape)], axis=2).astype(np.float32)
    return {"boxes": boxes, "scores": scores, "embedding": np.zeros((n, 3), dtype=np.float32)}


@pytest.mark.parametrize("size", SIZES)
def test_a_box_drawn_on_an_image_comes_back_within_one_pixel(size: tuple[int, int]):
    height, width = size
    box = np.array([0.2 * width, 0.3 * height, 0.9 * width, 0.8 * height], dtype=np.float32)
    model_input = blank(size)
    raw = tensors(to_canvas(box[None], place(size, CANVAS)), np.array([[0.9]]))
    np.testing.assert_allclose(to_predictions(raw, model_input).predictions[0], [[*box, 0.9, 0]], atol=1)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (200, 90)])
def test_what_is_seen_on_the_canvas_is_found_where_it_was_painted(size: tuple[int, int]):
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[80:160, 40:60] = 255
    model_input = to_model_input([image], CANVAS)
    seen = model_input.pixels[0, :, :, 0] > 127
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    found = answered([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], [0.5], model_input)
    scale = place(size, CANVAS).scale
    np.testing.assert_allclose(found[0, :4], [40, 80, 60, 160], atol=0.75 / scale)


def test_images_of_any_size_are_shown_alike_and_their_sizes_kept():
    images = objects([np.full((*size, 3), 200, dtype=np.uint8) for size in SIZES])
    model_input = to_model_input(images, CANVAS)
    assert (model_input.pixels.shape, model_input.pixels.dtype) == ((len(SIZES), *CANVAS, 3), np.uint8)
    assert model_input.sizes.dtype == np.int64
    np.testing.assert_array_equal(model_input.sizes, SIZES)
    assert (model_input.pixels.max(axis=(1, 2, 3)) == 200).all()


def test_a_dense_array_of_the_canvas_size_is_shown_as_it_is():
    images = np.random.default_rng(0).integers(0, 256, (3, *CANVAS, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_model_input(images, CANVAS).pixels, images)


def test_no_images_are_shown_and_answered_as_none():
    model_input = to_model_input(objects([]), CANVAS)
    outputs = to_predictions(crowd(0, 5, 0), model_input)
    assert model_input.sizes.shape == (0, 2)
    assert outputs.predictions.shape == (0,)


def test_an_image_that_is_none_cannot_be_shown():
    with pytest.raises(DataError, match="float64"):
        to_model_input([np.zeros((5, 5, 3))], CANVAS)


def test_answers_are_rows_by_falling_score_in_an_object_array():
    outputs = to_predictions(crowd(3, 525, 40), blank(n=3))
    assert (outputs.predictions.dtype, outputs.predictions.shape) == (object, (3,))
    for boxes in outputs.predictions:
        assert (boxes.dtype, boxes.shape[1]) == (np.float32, 6)
        assert (np.diff(boxes[:, 4]) <= 0).all()
        assert boxes[:, 4].min() >= FLOOR


def test_images_with_equally_many_boxes_are_an_object_array_too():
    raw = tensors(np.array([[10, 10, 20, 20]]), np.array([[0.5]]))
    doubled = {name: np.concatenate([found, found]) for name, found in raw.items()}
    assert to_predictions(doubled, blank(CANVAS, n=2)).predictions.shape == (2,)


def test_of_two_boxes_on_one_thing_the_surer_is_kept():
    found = answered([[10, 10, 50, 50], [11, 10, 51, 50], [60, 60, 90, 90]], [0.6, 0.8, 0.3])
    np.testing.assert_allclose(found, [[11, 10, 51, 50, 0.8, 0], [60, 60, 90, 90, 0.3, 0]], rtol=1e-6)


def test_boxes_of_two_classes_do_not_suppress_each_other():
    found = answered([[10, 10, 50, 50], [10, 10, 50, 50]], [[0.6, 0], [0, 0.8]])
    np.testing.assert_array_equal(found[:, 5], [1, 0])


def test_one_candidate_can_be_answered_as_two_classes():
    found = answered([[10, 10, 50, 50]], [[0.6, 0.7]])
    np.testing.assert_allclose(found[:, 4:], [[0.7, 1], [0.6, 0]], rtol=1e-6)


def test_scores_below_the_floor_are_no_answer():
    found = answered([[10, 10, 50, 50], [60, 60, 90, 90]], [FLOOR, FLOOR * 0.99])
    assert len(found) == 1


def test_boxes_are_clipped_to_the_image_and_those_in_the_border_left_out():
    model_input = blank((96, 32))
    found = answered([[40, 10, 90, 50], [2, 2, 30, 30]], [0.9, 0.8], model_input)
    np.testing.assert_allclose(found, [[0, 10, 32, 50, 0.9, 0]], rtol=1e-6)


def test_no_more_boxes_are_answered_than_stated_and_the_best_are():
    raw = crowd(1, 2100, 2100, size=6)
    (found,) = to_predictions(raw, blank(CANVAS)).predictions
    assert len(found) == MOST
    best = np.sort(raw["scores"].ravel())[-CANDIDATES:]
    assert found[0, 4] == best[-1]
    assert found[-1, 4] >= best[0]


def test_only_the_best_candidates_are_considered():
    boxes, scores = [[10, 10, 50, 50]] * CANDIDATES, [0.9] * CANDIDATES
    assert len(answered([*boxes, [60, 60, 90, 90]], [*scores, 0.5])) == 1
    assert len(answered([*boxes[1:], [60, 60, 90, 90]], [*scores[1:], 0.5])) == 2


def test_the_best_score_of_each_class_is_told_of_every_image():
    raw = tensors(np.array([[0, 0, 9, 9], [20, 20, 29, 29]]), np.array([[0.3, FLOOR / 2, 0], [0.4, 0, 0]]))
    np.testing.assert_allclose(to_predictions(raw, blank()).tensors["class_scores"], [[0.4, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["boxes", "scores", "embedding"])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf])
def test_rubbish_cannot_become_an_answer(name: str, rubbish: float):
    raw = crowd(2, 50, 5)
    raw[name].ravel()[[0, 3]] = rubbish
    with pytest.raises(EvaluationError, match=rf"2 of {raw[name].size} numbers of the model's {name}"):
        to_predictions(raw, blank(n=2))


@pytest.mark.parametrize("name", ["boxes", "scores", "embedding"])
def test_tensors_that_do_not_belong_together_are_refused(name: str):
    raw = crowd(2, 50, 5)
    for wrong in (raw[name][:1], raw[name][0]):
        with pytest.raises(EvaluationError, match="for 2 images"):
            to_predictions(raw | {name: wrong}, blank(n=2))
