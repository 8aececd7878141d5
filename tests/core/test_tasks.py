"""What a task makes of labels and answers comes back as it was, and what is no label is refused in one clear line."""

import json

import numpy as np
import pytest

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.detection.task import DETECTION, MOST_BOXES
from openmlops.core.images.boxes import objects
from openmlops.core.tasks import Task, by_number
from openmlops.errors import DataError

NAMES = ("person", "dog", "kite")
CLASSES = np.array([2, 0, 1], np.int64)
BOXES = objects(
    [
        np.array([[0, 0, 10.5, 20, 0], [3.25, 4, 90, 80.125, 2]], np.float32),
        np.zeros((0, 5), np.float32),
        np.array([[1, 2, 3, 4, 1]], np.float32),
    ]
)
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
FOUND = objects(
    [
        np.array([[0, 0, 10.5, 20, 0.9, 0], [3.25, 4, 90, 80.125, 0.0101, 2]], np.float32),
        np.zeros((0, 6), np.float32),
        np.array([[1, 2, 3, 4, 0.25, 1]], np.float32),
    ]
)
BOTH = pytest.mark.parametrize(
    ("task", "labels", "predictions"),
    [(CLASSIFICATION, CLASSES, PROBABILITIES), (DETECTION, BOXES, FOUND)],
    ids=["classes", "boxes"],
)


def same(ones, others, atol: float = 0) -> bool:
    """Two arrays of labels or answers: as long, of one dtype, and equal row by row."""
    rows = [
        np.shape(one) == np.shape(other) and np.allclose(one, other, rtol=0, atol=atol)
        for one, other in zip(ones, others, strict=True)
    ]
    return (
        ones.dtype == others.dtype
        and all(rows)
        and [np.asarray(one).dtype for one in ones] == [np.asarray(other).dtype for other in others]
    )


def as_json(task: Task, labels: np.ndarray) -> list[str]:
    return [task.as_json(label) for label in labels]


# Round trips


@BOTH
def test_labels_come_back_from_json(task, labels, predictions):
    assert same(task.labels(as_json(task, labels)), labels)


@BOTH
def test_what_a_client_is_told_to_send_is_read_as_the_same_label(task, labels, predictions):
    sent = [json.loads(json.dumps(task.as_feedback(label, NAMES))) for label in labels]
    assert [task.read_label(told, NAMES) for told in sent] == as_json(task, labels)


@BOTH
def test_labels_come_back_from_a_column_that_has_gaps(task, labels, predictions):
    texts = as_json(task, labels)
    column = task.label_column([None, *texts, None])
    assert column[0] is column[-1] is None
    assert same(task.from_label_column(column[1:-1]), labels)


@BOTH
def test_answers_come_back_bit_for_bit_from_the_log(task, labels, predictions):
    rows = task.pack(predictions)
    assert [type(row) for row in rows] == [bytes] * len(predictions)
    assert same(task.unpack(rows, len(NAMES)), predictions)


@BOTH
def test_answers_come_back_from_the_columns_of_a_table(task, labels, predictions):
    columns = task.columns(predictions, NAMES)
    assert {len(column) for column in columns.values()} == {len(predictions)}
    assert same(task.from_columns(columns, NAMES), predictions, atol=1e-4)


@BOTH
def test_no_images_are_no_trouble(task, labels, predictions):
    assert same(task.labels([]), labels[:0])
    assert task.pack(predictions[:0]) == []
    assert same(task.unpack([], len(NAMES)), predictions[:0])
    assert {len(column) for column in task.columns(predictions[:0], NAMES).values()} == {0}
    assert same(task.from_columns(task.columns(predictions[:0], NAMES), NAMES), predictions[:0])
    assert task.label_column([]) == []


@BOTH
def test_a_row_alone_is_packed_as_among_others(task, labels, predictions):
    assert [task.pack(predictions[row : row + 1])[0] for row in range(len(predictions))] == task.pack(predictions)


@BOTH
def test_every_answer_has_a_margin_that_is_no_nan(task, labels, predictions):
    margins = task.margin(predictions)
    assert margins.shape == (len(predictions),)
    assert (margins >= 0).all()


# Classes by other names


def test_a_renamed_class_is_the_same_class_elsewhere():
    assert CLASSIFICATION.renamed("2", NAMES, ("kite", "person")) == "0"
    assert CLASSIFICATION.renamed("1", NAMES, ("kite", "person")) is None


def test_renamed_boxes_are_the_same_boxes_with_the_class_elsewhere():
    text = DETECTION.as_json(BOXES[0])
    (moved,) = DETECTION.labels([DETECTION.renamed(text, NAMES, ("kite", "person"))])
    np.testing.assert_array_equal(moved[:, :4], BOXES[0][:, :4])
    assert moved[:, 4].tolist() == [1, 0]


def test_one_box_of_an_unknown_class_is_enough_to_have_no_label():
    both = DETECTION.as_json(np.concatenate([BOXES[0], BOXES[2]]))
    assert DETECTION.renamed(both, NAMES, ("kite", "person")) is None


def test_no_boxes_have_no_class_that_could_be_unknown():
    assert DETECTION.renamed("[]", NAMES, ("elephant",)) == "[]"


@BOTH
def test_renaming_to_the_same_names_changes_nothing(task, labels, predictions):
    texts = [task.renamed(text, NAMES, NAMES) for text in as_json(task, labels)]
    assert same(task.labels(texts), labels)


# Within the image


def test_boxes_are_cut_to_their_image_and_a_label_that_speaks_of_what_lies_outside_is_none():
    image = (20, 10)
    told = np.array([[1, 2, 30, 40, 2], [0, 0, 10, 20, 1]], np.float32)
    np.testing.assert_array_equal(DETECTION.within(told, image), [[1, 2, 10, 20, 2], [0, 0, 10, 20, 1]])
    assert told[0].tolist() == [1, 2, 30, 40, 2], "what was told stays as it is"
    assert DETECTION.within(told[:0], image).shape == (0, 5)
    for outside in ([10, 0, 30, 20, 0], [0, 19.5, 10, 30, 0]):
        assert DETECTION.within(np.array([*told, outside], np.float32), image) is None


def test_a_class_is_within_any_image():
    assert CLASSIFICATION.within(3, (4, 4)) == 3


# What clients tell


@pytest.mark.parametrize(("told", "label"), [(0, "0"), (2, "2"), ("kite", "2"), ("person", "0")])
def test_a_class_is_told_by_index_or_name(told, label):
    assert CLASSIFICATION.read_label(told, NAMES) == label


def test_a_name_is_one_however_its_accents_are_written():
    composed, apart = ("person", "caf\u00e9"), ("cafe\u0301", "person")
    for told, names in ((apart[0], composed), (composed[1], apart)):
        assert CLASSIFICATION.read_label(told, names) == str(names.index({*names}.difference(["person"]).pop()))
    assert CLASSIFICATION.renamed("1", composed, apart) == "0"
    assert DETECTION.renamed("[[1, 2, 3, 4, 1]]", composed, apart) == "[[1, 2, 3, 4, 0]]"


NUMBERS = ("1", "2", "3", "007")


@pytest.mark.parametrize(("told", "index"), [(0, 0), ("2", 1), ("3", 2), (7, 3), ("007", 3)])
def test_classes_called_by_numbers_are_told_by_name_and_by_a_number_that_means_one(told, index):
    assert CLASSIFICATION.read_label(told, NUMBERS) == str(index)
    assert DETECTION.read_label([box(1, 2, 3, 4, name=told)], NUMBERS) == f"[[1.0, 2.0, 3.0, 4.0, {index}]]"


def test_a_number_that_is_the_index_of_one_class_and_the_name_of_another_is_refused_with_both():
    for told in (2, [box(1, 2, 3, 4, name=2)]):
        with pytest.raises(DataError) as caught:
            (CLASSIFICATION if told == 2 else DETECTION).read_label(told, NUMBERS)
        said = "The class 2 can be the class called \"2\", or the one with the index 2, which is called '3'."
        assert str(caught.value) == f'{said} Send the name as text: "2", in quotes.'
    assert CLASSIFICATION.read_label(2, ("0", "1", "2")) == "2"


def test_what_traffic_sends_is_read_back_whatever_classes_are_called():
    assert [CLASSIFICATION.read_label(CLASSIFICATION.as_feedback(k, NUMBERS), NUMBERS) for k in range(4)] == list("0123")
    boxes = np.array([[1, 2, 3, 4, k] for k in range(4)], np.float32)
    assert (
        DETECTION.labels([DETECTION.read_label(DETECTION.as_feedback(boxes, NUMBERS), NUMBERS)])[0].tolist() == boxes.tolist()
    )


def test_numbers_sort_as_numbers_before_names():
    assert sorted(["b", "10", "9", "-1", "2.5", "a1", "010"], key=by_number) == ["-1", "2.5", "9", "010", "10", "a1", "b"]


def box(*corners: object, name: object = "dog") -> dict[str, object]:
    return {"class": name, "box": list(corners)}


def test_boxes_are_told_with_a_class_by_index_or_name():
    by_name = DETECTION.read_label([box(1, 2, 3, 4)], NAMES)
    assert by_name == DETECTION.read_label([box(1.0, 2, 3.0, 4, name=1)], NAMES)
    assert same(DETECTION.labels([by_name]), objects([np.array([[1, 2, 3, 4, 1]], np.float32)]))
    assert DETECTION.read_label([], NAMES) == "[]"


def test_a_box_at_the_edge_of_what_is_allowed_is_a_label():
    assert DETECTION.read_label([box(0, 0, 1e-3, 999_999.9)] * MOST_BOXES, NAMES)


NEITHER = {
    "None": None,
    "true": True,
    "a float": 1.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "an object": {},
    "bytes": b"person",
    "a name of nothing": "elephant",
    "an empty text": "",
    "the name in capitals": "PERSON",
    "a name with a line break": "person\nperson",
    "a negative index": -1,
    "an index too large": 3,
    "a huge index": 10**400,
    "a numpy integer": np.int64(1),
}
NO_CLASS = {**NEITHER, "a list": [], "a list of a name": ["person"], "boxes": [box(1, 2, 3, 4)]}
NO_BOX: dict[str, dict[str, object] | object] = {
    "three numbers": box(1, 2, 3),
    "five numbers": box(1, 2, 3, 4, 5),
    "none": box(),
    "texts": box("1", "2", "3", "4"),
    "booleans": box(False, False, True, True),
    "gaps": box(1, 2, None, 4),
    "lists": box([1], [2], [3], [4]),
    "a tuple": {"class": 0, "box": (1, 2, 3, 4)},
    "NaN": box(1, 2, float("nan"), 4),
    "NaN first": box(float("nan"), 2, 3, 4),
    "infinity": box(1, 2, float("inf"), 4),
    "minus infinity": box(-float("inf"), 2, 3, 4),
    "beyond an image": box(1, 2, 1e6, 4),
    "an integer beyond floats": box(1, 2, 10**400, 4),
    "x1 above x2": box(3, 2, 1, 4),
    "y1 above y2": box(1, 4, 3, 2),
    "no width": box(1, 2, 1, 4),
    "no height": box(1, 2, 3, 2),
    "no width as it is kept": box(100, 2, 100.0000001, 4),
    "negative x": box(-1, 2, 3, 4),
    "negative y": box(1, -0.5, 3, 4),
    "no box": {"class": 0},
    "no class": {"box": [1, 2, 3, 4]},
    "numbers alone": [1, 2, 3, 4],
    "a number": 1,
    "a text": "person",
}
NO_LABEL = {
    **NEITHER,
    "an index": 0,
    "a name": "person",
    "one box alone": box(1, 2, 3, 4),
    "a tuple": (box(1, 2, 3, 4),),
    "too many": [box(1, 2, 3, 4)] * (MOST_BOXES + 1),
    **{f"a box of {what}": [box(1, 2, 3, 4), rubbish] for what, rubbish in NO_BOX.items()},
    **{f"a class: {what}": [box(1, 2, 3, 4, name=rubbish)] for what, rubbish in NO_CLASS.items()},
}


def refusal(task: Task, told: object) -> str:
    with pytest.raises(DataError) as caught:
        task.read_label(told, NAMES)
    return str(caught.value)


@pytest.mark.parametrize("told", NO_CLASS.values(), ids=NO_CLASS.keys())
def test_what_is_no_class_is_refused_in_one_line_that_names_the_classes(told):
    line = refusal(CLASSIFICATION, told)
    assert "\n" not in line
    assert len(line) < 250
    assert "person, dog, kite" in line


@pytest.mark.parametrize("told", NO_LABEL.values(), ids=NO_LABEL.keys())
def test_what_is_no_list_of_boxes_is_refused_in_one_line_that_says_how_to_send_them(told):
    line = refusal(DETECTION, told)
    assert "\n" not in line
    assert len(line) < 350
    assert '{"class": "person", "box": [x1, y1, x2, y2]}' in line


def test_what_is_wrong_with_a_box_is_said():
    assert "[3.0, 2.0, 1.0, 4.0] has no area" in refusal(DETECTION, [box(3.0, 2.0, 1.0, 4.0)])
    assert "class 'elephant'" in refusal(DETECTION, [box(1, 2, 3, 4, name="elephant")])
    assert "not have four numbers" in refusal(DETECTION, [box(1, 2, 3)])


# What is judged


def test_bytes_that_are_no_answer_are_refused():
    with pytest.raises(DataError, match="not rows of 6 numbers"):
        DETECTION.unpack([b"x" * 25], len(NAMES))


def test_labels_without_any_box_give_a_detector_no_score():
    assert DETECTION.labelled(FOUND, objects([np.zeros((0, 5), np.float32)] * 3), len(NAMES), None) is None


def test_a_detector_is_scored_on_labels_that_came_as_json():
    truths = DETECTION.labels([DETECTION.read_label(DETECTION.as_feedback(label, NAMES), NAMES) for label in BOXES])
    scored = DETECTION.labelled(FOUND, truths, len(NAMES), None)
    assert scored is not None
    assert (scored.n, scored.metric) == (3, "mAP@50")
    assert scored.accuracy.value == pytest.approx(0.995)


def test_the_accuracy_of_a_detector_is_not_estimated_without_labels():
    with pytest.raises(DataError, match="cannot be estimated"):
        DETECTION.confidence(FOUND, BOXES)
