"""The columns of a detector say what they are named after, are always finite, and move when the camera is disturbed."""

import numpy as np
import pytest

from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.images.boxes import objects, place, to_canvas
from openmlops.core.images.corruptions import all_moved, corrupt
from openmlops.core.monitoring.drift import DriftReference, calibrate, measure
from openmlops.images.lazy import sizes
from openmlops.usecases.base import Outputs
from openmlops.usecases.yolo_folder.features import features
from openmlops.usecases.yolo_folder.inference import to_model_input, to_predictions

CANVAS = (160, 160)


def row(*box: float, score: float = 0.9) -> list[float]:
    return [*box, score, 0.0]


def described(*predictions: list[list[float]], size: tuple[int, int] = (100, 200), classes: int = 1) -> dict[str, np.ndarray]:
    """The columns of blank images of `size` (height, width) with these answers."""
    found = objects([np.array(rows, dtype=np.float32).reshape(-1, 6) for rows in predictions])
    model_input = to_model_input(objects([np.full((*size, 3), 90, dtype=np.uint8)] * len(predictions)), CANVAS)
    n = len(predictions)
    return features(
        model_input, Outputs(found, np.zeros((n, 12), np.float32), {"class_scores": np.full((n, classes), 0.5, np.float32)})
    )


def street(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of different sizes with grain and a few upright objects, and their true boxes."""
    rng = np.random.default_rng(seed)
    pairs = [_scene(rng) for _ in range(n)]
    return objects([image for image, _ in pairs]), objects([boxes for _, boxes in pairs])


def _scene(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    height, width = rng.integers(120, 200, 2)
    down = np.linspace(0, 1, height)[:, None, None]
    image = rng.uniform(60, 180, 3) + 40 * down + rng.normal(0, 12, (height, width, 3))
    boxes = []
    for _ in range(rng.integers(1, 5)):
        h, w = rng.uniform(0.15, 0.4) * height, rng.uniform(0.08, 0.2) * width
        x, y = rng.uniform(0, width - w), rng.uniform(0.3, 0.55) * height
        image[int(y) : int(y + h), int(x) : int(x + w)] += rng.uniform(-60, 60, 3)
        boxes.append([x, y, x + w, y + h, 0])
    return np.clip(image, 0, 255).astype(np.uint8), np.array(boxes, dtype=np.float32)


def watched(images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The columns of a detector that finds the true boxes, small ones with less confidence, and some that are not there."""
    rng, model_input = np.random.default_rng(seed), to_model_input(images, CANVAS)
    boxes, scores = np.zeros((len(images), 30, 4), np.float32), np.zeros((len(images), 30, 1), np.float32)
    for i, (image, true) in enumerate(zip(images, labels, strict=True)):
        k = len(true)
        boxes[i, :k] = to_canvas(true[:, :4], place(image.shape[:2], CANVAS)) + rng.normal(0, 1, (k, 4))
        side = np.sqrt((boxes[i, :k, 2] - boxes[i, :k, 0]) * (boxes[i, :k, 3] - boxes[i, :k, 1]))
        scores[i, :k, 0] = 1 / (1 + np.exp(-(side / 16 - 1 + rng.normal(0, 1, k))))
        corner = rng.uniform(0, 120, (30 - k, 2))
        boxes[i, k:] = np.hstack([corner, corner + rng.uniform(5, 40, corner.shape)])
        scores[i, k:, 0] = rng.exponential(0.02, 30 - k).clip(0, 1)
    raw = {"boxes": boxes, "scores": scores, "embedding": rng.normal(size=(len(images), 4)).astype(np.float32)}
    return features(model_input, to_predictions(raw, model_input))


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return calibrate(watched(*street(300, seed=0), seed=0), sizes=(50, 100))


def test_columns_are_finite_float32_of_one_value_an_image():
    columns = watched(*street(7, seed=3), seed=3)
    assert {(column.dtype.name, column.shape) for column in columns.values()} == {("float32", (7,))}
    assert all(np.isfinite(column).all() for column in columns.values())
    assert {"image.brightness", "image.flat", "boxes.count", "embedding.3"} <= set(columns)


def test_an_image_without_boxes_has_zeros_not_nan():
    columns = described([], [row(10, 10, 50, 50)])
    assert {float(column[0]) for name, column in columns.items() if name.startswith("boxes.")} == {0.0}


def test_no_box_column_is_ever_below_what_an_image_without_boxes_has():
    columns = watched(*street(60, seed=4), seed=4)
    assert all(column.min() >= 0 for name, column in columns.items() if name.startswith("boxes."))


@pytest.mark.parametrize("classes", [1, 12])
def test_names_do_not_depend_on_what_was_found(classes: int):
    assert set(described([], classes=classes)) == set(described([row(1, 1, 9, 9)], classes=classes))
    assert ("class.00.score" in described([], classes=classes)) == (classes > 1)


def test_no_images_give_empty_columns():
    assert {column.shape for column in described().values()} == {(0,)}


def test_boxes_are_described_in_shares_of_the_image():
    found = {
        name: float(column[0]) for name, column in described([row(0, 0, 50, 100), row(150, 60, 190, 70, score=0.3)]).items()
    }
    one, other = 0.9**2 / (0.9**2 + 0.3**2), 0.3**2 / (0.9**2 + 0.3**2)
    assert found["boxes.count"] == pytest.approx(np.log(3))
    assert found["boxes.score.max"] == pytest.approx(0.9)
    assert found["boxes.score.mean"] == pytest.approx(0.6)
    assert found["boxes.expected"] == pytest.approx(np.log(1 + 1.2))
    assert found["boxes.side.max"] == pytest.approx(np.sqrt(0.25))
    assert found["boxes.side.mean"] == pytest.approx(one * np.sqrt(0.25) + other * np.sqrt(0.02))
    assert found["boxes.tall"] == pytest.approx(one * np.log(2), abs=1e-6)
    assert found["boxes.wide"] == pytest.approx(other * np.log(4), abs=1e-6)
    assert found["boxes.left"] == pytest.approx(one * 0.375, abs=1e-6)
    assert found["boxes.right"] == pytest.approx(other * 0.35, abs=1e-6)
    assert found["boxes.above"] == pytest.approx(0, abs=1e-6)
    assert found["boxes.below"] == pytest.approx(other * 0.15, abs=1e-6)
    assert found["boxes.edge"] == pytest.approx(one, abs=1e-6)


def test_boxes_below_the_operating_score_do_not_count_but_are_expected():
    columns = described([row(10, 10, 50, 50, score=OPERATING - 0.01)], [row(10, 10, 50, 50, score=OPERATING)])
    np.testing.assert_allclose(columns["boxes.count"], [0, np.log(2)], rtol=1e-6)
    assert columns["boxes.expected"][0] > 0


def test_one_sure_box_outweighs_many_doubtful_ones():
    doubtful = [row(0, 0, 20, 10, score=0.01)] * 60
    columns = described([row(100, 0, 200, 100), *doubtful])
    assert columns["boxes.side.mean"][0] == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_a_box_as_thin_as_a_line_has_a_finite_shape():
    columns = described([row(10, 10, 10 + 1e-5, 90)], [row(10, 10, 190, 10 + 1e-5)])
    assert all(np.isfinite(column).all() for column in columns.values())
    assert max(columns["boxes.tall"].max(), columns["boxes.wide"].max()) <= 3


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1), (3, 200), (2000, 30)])
def test_an_image_of_any_shape_has_finite_columns(size: tuple[int, int]):
    assert all(np.isfinite(column).all() for column in described([], size=size).values())


@pytest.mark.parametrize("size", [(40, 160), (160, 40), (320, 80)])
def test_the_border_of_the_canvas_is_not_described(size: tuple[int, int]):
    columns = described([], size=size)
    assert columns["image.brightness"][0] == pytest.approx(90, abs=0.01)
    assert columns["image.contrast"][0] == pytest.approx(0, abs=0.01)


def test_versions_with_other_inputs_have_comparable_image_columns():
    images, _ = street(20, seed=5)
    large = objects([image.repeat(4, axis=0).repeat(4, axis=1) for image in images])
    empty = Outputs(objects([np.empty((0, 6), np.float32)] * 20), np.zeros((20, 2)), {"class_scores": np.zeros((20, 1))})
    small, big = (features(to_model_input(large, canvas), empty) for canvas in ((160, 160), (320, 320)))
    for name in (name for name in small if name.startswith("image.")):
        scatter = max(small[name].std(), 0.5)
        assert abs(small[name].mean() - big[name].mean()) < scatter, name


def test_a_lens_that_is_covered_shows_flat_tiles():
    images, labels = street(20, seed=6)
    covered = watched(corrupt(images, "occlusion", 5, seed=0), labels, seed=6)["image.flat"]
    assert (covered > watched(images, labels, seed=6)["image.flat"] + 0.2).all()


@pytest.mark.parametrize("kind", ["brightness", "noise", "blur", "contrast", "night", "occlusion", "zoom", "crop"])
def test_a_disturbed_camera_is_drift(kind: str, reference: DriftReference):
    images, labels = street(100, seed=1)
    window = watched(corrupt(images, kind, 4, seed=0), all_moved(labels, sizes(images), kind, 4, seed=0), seed=1)
    assert measure(window, reference).outcome == "drift"


def test_the_same_world_is_no_drift(reference: DriftReference):
    assert measure(watched(*street(100, seed=2), seed=2), reference).outcome == "no_drift"


def test_a_detector_that_finds_nothing_any_more_is_drift_not_unmeasurable(reference: DriftReference):
    images, _ = street(100, seed=7)
    model_input = to_model_input(images, CANVAS)
    nothing = {"boxes": np.zeros((100, 30, 4), np.float32), "scores": np.zeros((100, 30, 1), np.float32)}
    embedding = np.random.default_rng(7).normal(size=(100, 4)).astype(np.float32)
    found = measure(features(model_input, to_predictions(nothing | {"embedding": embedding}, model_input)), reference)
    assert found.outcome == "drift", found.reasons
