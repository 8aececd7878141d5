"""The files that explain an evaluation: pictures that show what they say, and a page in which no name is markup."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.detection.task import DETECTION
from openmlops.core.explanations import Explanations
from openmlops.core.images.boxes import objects
from openmlops.core.intervals import wilson
from openmlops.operations.release.error_pictures import PICTURES, errors, heated
from openmlops.operations.release.evaluation_report import Evaluated
from openmlops.operations.release.explanations import FILE, PAGE, slices, write_explanations

HOSTILE = ("ant", '<script>alert("x")</script>', "bee & co")
N = 60
CURVES = {"loss": [(1, 1.2), (2, 0.7)], "validation_accuracy": [(1, 0.5), (2, 0.8)], "seconds": [(1, 3.0), (2, 3.0)]}


PICTURES_OF_IT = ("worst_errors.png", "curves.png", "validation_by_time.png")


def classified(heat: bool = True) -> Evaluated:
    """60 images, the brighter the later; of the last 20 the darker half is predicted wrongly as the hostile class."""
    images = np.broadcast_to(np.linspace(10, 240, N).astype(np.uint8)[:, None, None, None], (N, 16, 16, 3)).copy()
    labels = np.arange(N) % 2 * 2
    predicted = np.where(np.arange(N) < 50, labels, 1)
    probabilities = np.full((N, 3), 0.05, np.float32)
    probabilities[np.arange(N), predicted] = 0.9
    evaluation = CLASSIFICATION.evaluate(labels, probabilities, HOSTILE, "test", "f")
    maps = (lambda images, classes: np.ones((len(images), 16, 16), np.float32)) if heat else None
    return Evaluated(evaluation, images, labels, probabilities, maps)


def test_the_files_of_a_classifier(tmp_path: Path) -> None:
    paths = write_explanations(classified(), CLASSIFICATION, CURVES, tmp_path)
    assert {path.name for path in paths} == {FILE, PAGE, *PICTURES_OF_IT}
    told = Explanations.model_validate_json((tmp_path / FILE).read_bytes())
    assert [(pair.predicted, pair.count) for pair in told.pairs] == [(HOSTILE[1], 5), (HOSTILE[1], 5)]
    for name in PICTURES_OF_IT:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


def test_no_name_of_the_data_is_markup_in_the_page(tmp_path: Path) -> None:
    write_explanations(classified(), CLASSIFICATION, CURVES, tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    assert page.count("data:image/png;base64,") == 3


def test_the_page_says_which_stage_of_the_training_was_kept(tmp_path: Path) -> None:
    write_explanations(classified(), CLASSIFICATION, CURVES, tmp_path, "epoch 4 of 5, fine-tuned <b>")
    assert "Kept of the training: epoch 4 of 5, fine-tuned &lt;b&gt;." in (tmp_path / PAGE).read_text()


def test_accuracy_by_brightness_is_low_where_the_errors_are(tmp_path: Path) -> None:
    found = [each for each in slices(classified(), CLASSIFICATION) if each.by.startswith("brightness")]
    assert [(each.name.split()[0], each.n) for each in found] == [("dark", 20), ("medium", 20), ("bright", 20)]
    assert [each.score for each in found] == [wilson(20, 20), wilson(20, 20), wilson(10, 20)]


def test_without_errors_there_is_no_picture_of_them_and_without_heat_only_the_images(tmp_path: Path) -> None:
    found = classified(heat=False)
    assert [picture.title for picture in PICTURES["classification"](found, tmp_path)] == ["Worst errors"]
    right = np.eye(3, dtype=np.float32)[found.labels]
    evaluation = CLASSIFICATION.evaluate(found.labels, right, HOSTILE, "test", "f")
    perfect = replace(found, predictions=right, evaluation=evaluation)
    assert list(PICTURES["classification"](perfect, tmp_path)) == []


def test_heat_is_laid_over_the_image_where_it_is_hot() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[:2] = 1
    found = heated(np.full((4, 4, 3), 100, np.uint8), heat)
    assert (found[2:] == 100).all()
    assert (found[:2, :, 0] > 150).all()


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, len(rows[0]) if rows else 5)


def test_missed_and_false_boxes_are_those_without_a_partner_of_their_class() -> None:
    true = boxes([0, 0, 10, 10, 0], [20, 20, 30, 30, 0], [40, 40, 50, 50, 1])
    found = boxes([0, 0, 10, 10, 0.9, 0], [40, 40, 50, 50, 0.8, 0], [60, 60, 70, 70, 0.1, 0])
    missed, false = errors(true, found)
    assert missed.tolist() == true[1:].tolist()
    assert false.tolist() == found[1:2].tolist(), "the last is not confident enough to be shown"


@pytest.mark.parametrize("found", [True, False])
def test_the_files_of_a_detector_show_the_images_with_errors(tmp_path: Path, found: bool) -> None:
    labels = objects([boxes([10, 10, 30, 30, 0])] * 12)
    right = [boxes([10, 10, 30, 30, 0.9, 0])] * 12
    predictions = objects(right if found else [*right[:-1], boxes([50, 50, 60, 60, 0.9, 0])])
    images = np.full((12, 64, 64, 3), 90, np.uint8)
    evaluation = DETECTION.evaluate(labels, predictions, ("person",), "test", "f")
    paths = write_explanations(Evaluated(evaluation, images, labels, predictions), DETECTION, {}, tmp_path)
    names = {path.name for path in paths}
    assert names == {FILE, PAGE} | (set() if found else {"missed_and_false.png"})
    if not found:
        with Image.open(tmp_path / "missed_and_false.png") as picture:
            assert picture.size[0] < 2 * 360 + 60, "one tile"
