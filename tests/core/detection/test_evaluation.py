"""A detector's figures are ultralytics' figures, come with intervals, and are never made up."""

from types import SimpleNamespace

import numpy as np
import pytest

from openmlops.core.detection.average_precision import RECALLS, average_precision, bootstrap
from openmlops.core.detection.evaluation import (
    OPERATING,
    confusion_matrix,
    evaluate_detection,
    floor,
    map50,
    margin,
    pack,
    unpack,
)
from openmlops.core.detection.matching import THRESHOLDS, match, same_class_overlap
from openmlops.core.images.boxes import objects
from openmlops.errors import DataError, EvaluationError
from simulated_detectors import boxes, detected, predicted

NAMES = ("person", "car", "dog", "kite")


def evaluate(labels, predictions, names=NAMES):
    return evaluate_detection(labels, predictions, names, "test", "f" * 64)


# Agreement with ultralytics


def their_hits(labels, predictions):
    import torch
    from ultralytics.engine.validator import BaseValidator

    validator = SimpleNamespace(iouv=torch.from_numpy(THRESHOLDS))
    for true, found in zip(labels, predictions, strict=True):
        overlap = torch.from_numpy(same_class_overlap(true, found))
        kinds = torch.from_numpy(found[:, 5].copy()), torch.from_numpy(true[:, 4].copy())
        yield BaseValidator.match_predictions(validator, *kinds, overlap).numpy()


@pytest.mark.parametrize(
    ("n", "seed", "classes", "skill"), [(120, 0, 1, 0.8), (60, 1, 4, 0.8), (25, 2, 4, -0.5), (3, 3, 2, 2.0)]
)
def test_average_precision_is_that_of_ultralytics_on_the_same_boxes(ultralytics, n, seed, classes, skill):
    from ultralytics.utils.metrics import ap_per_class

    labels, predictions = detected(n, seed, classes, skill)
    hits, found = np.concatenate(list(their_hits(labels, predictions))), np.concatenate(list(predictions))
    theirs = ap_per_class(hits, found[:, 4], found[:, 5], np.concatenate(list(labels))[:, 4])
    ours = average_precision(match(labels, predictions, classes), np.ones((1, n)))[0]
    np.testing.assert_allclose(ours[theirs[6]], theirs[5], atol=1e-9)
    assert 0.2 < theirs[5][:, 0].min() <= theirs[5].max() < 1
    evaluation = evaluate(labels, predictions, NAMES[:classes])
    assert evaluation.map50.value == pytest.approx(theirs[5][:, 0].mean(), abs=1e-9)
    assert evaluation.map50_95.value == pytest.approx(theirs[5].mean(), abs=1e-9)


# By hand


def test_a_perfect_answer_scores_what_the_101_points_allow():
    """The precision beyond the last recall is 0, also at recall 1: the last trapezoid has half its height."""
    labels = objects([boxes([0, 0, 10, 10, 0], [20, 20, 40, 40, 1]), boxes([5, 5, 9, 9, 1])])
    predictions = objects([np.insert(true, 4, 0.9, axis=1) for true in labels])
    found = evaluate(labels, predictions)
    assert (found.map50.value, found.map50_95.value) == (pytest.approx(0.995), pytest.approx(0.995))
    assert (found.precision.value, found.recall.value, found.boxes, found.n) == (1, 1, 3, 2)
    assert np.array(found.confusion)[:2, :2].tolist() == [[1, 0], [0, 2]]
    assert np.sum(found.confusion) == 3


def test_of_two_true_boxes_one_is_found_after_a_mistake():
    """Precision 1/2 up to recall 1/2, from there 0: 50 points of 0.5."""
    labels = objects([boxes([0, 0, 10, 10, 0], [50, 50, 60, 60, 0])])
    predictions = objects([predicted([80, 80, 90, 90, 0.9, 0], [0, 0, 10, 10, 0.8, 0])])
    assert map50(labels, predictions, 1).value == pytest.approx(0.5 * 0.495)


def test_a_true_box_is_found_once_and_by_the_surer_answer():
    labels = objects([boxes([0, 0, 10, 10, 0])])
    twice = objects([predicted([0, 0, 10, 9, 0.6, 0], [0, 0, 10, 10, 0.5, 0])])
    matched = match(labels, twice, 1)
    assert matched.hit[:, 0].tolist() == [True, False]
    assert matched.hit[:, 9].tolist() == [False, True]
    assert evaluate(labels, twice).precision.value == 0.5


def test_a_box_of_the_wrong_class_finds_nothing_and_is_a_confusion():
    labels, predictions = objects([boxes([0, 0, 10, 10, 2])]), objects([predicted([0, 0, 10, 10, 0.9, 0])])
    found = evaluate(labels, predictions)
    assert (found.map50.value, found.precision.value, found.recall.value) == (0, 0, 0)
    assert found.confusion[2][0] == 1
    assert np.sum(found.confusion) == 1


def test_rows_of_the_confusion_are_truths_and_the_last_is_background():
    labels = objects([boxes([0, 0, 10, 10, 0], [20, 20, 30, 30, 1])])
    predictions = objects([predicted([0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.8, 1], [20, 20, 30, 30, OPERATING - 0.01, 1])])
    assert confusion_matrix(labels, predictions, 2).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_the_diagonal_is_what_precision_and_recall_count():
    labels, predictions = detected(60, 5, 4)
    found = evaluate(labels, predictions)
    counts, sure = np.array(found.confusion), np.concatenate(list(predictions))[:, 4] >= OPERATING
    assert np.trace(counts) / sure.sum() == pytest.approx(found.precision.value)
    assert np.trace(counts) / found.boxes == pytest.approx(found.recall.value)
    assert counts[:, :-1].sum() == sure.sum()
    assert counts[:-1].sum(axis=1).tolist() == [score.boxes for score in found.classes]
    assert found.confidence == OPERATING


def test_classes_without_true_boxes_do_not_count():
    labels, predictions = detected(40, 6, 2)
    two, four = evaluate(labels, predictions, NAMES[:2]), evaluate(labels, predictions)
    assert two.map50 == four.map50
    assert [score.boxes for score in four.classes[2:]] == [0, 0]
    assert np.mean([score.map50 for score in two.classes]) == pytest.approx(two.map50.value)


def test_no_answer_at_all_scores_nothing():
    labels = objects([boxes([0, 0, 10, 10, 0])] * 4)
    found = evaluate(labels, objects([predicted()] * 4))
    assert {interval.value for interval in (found.map50, found.map50_95, found.precision, found.recall)} == {0}
    assert found.confusion[0][4] == 4


def test_the_curve_is_what_the_score_is_the_area_of():
    found = evaluate(*detected(60, 7, 4))
    assert np.trapezoid(found.curve, RECALLS) == pytest.approx(found.map50.value)
    assert list(found.curve) == sorted(found.curve, reverse=True)


# Intervals


def test_a_draw_scores_as_the_images_that_it_drew():
    labels, predictions = detected(30, 8, 3)
    matched, draws = match(labels, predictions, 3), bootstrap(30)[:5]
    found = average_precision(matched, draws)
    for draw, scores in zip(draws, found, strict=True):
        rows = np.repeat(np.arange(30), draw.astype(int))
        copied = match(labels[rows], predictions[rows], 3)
        np.testing.assert_allclose(scores, average_precision(copied, np.ones((1, len(rows))))[0], atol=1e-12)


def test_the_interval_narrows_with_more_images_and_holds_the_estimate():
    few, many = (evaluate(*detected(n, 9, 3)) for n in (40, 640))
    for name in ("map50", "map50_95", "precision", "recall"):
        small, large = getattr(few, name), getattr(many, name)
        assert 0 <= small.low < small.value < small.high <= 1
        assert (large.high - large.low) < 0.5 * (small.high - small.low)


@pytest.mark.parametrize(("splits", "held"), [(30, range(25, 31)), pytest.param(100, range(88, 100), marks=pytest.mark.slow)])
def test_the_interval_holds_the_true_score_about_as_often_as_it_says(splits, held):
    """So many splits of 50 images; the true score is that of all of them."""
    labels, predictions = detected(50 * splits, 10)
    truth = average_precision(match(labels, predictions, 1, THRESHOLDS[:1]), np.ones((1, 50 * splits)))[0, 0, 0]
    intervals = [map50(labels[rows], predictions[rows], 1) for rows in np.arange(50 * splits).reshape(splits, 50)]
    assert sum(interval.low <= truth <= interval.high for interval in intervals) in held


def test_an_interval_includes_its_estimate_even_if_the_draws_do_not():
    found = map50(objects([boxes([0, 0, 9, 9, 0])]), objects([predicted([0, 0, 9, 9, 0.9, 0])]), 1)
    assert found.low == found.value == found.high


def test_the_same_answers_give_the_same_evaluation():
    assert evaluate(*detected(30, 11, 4)) == evaluate(*detected(30, 11, 4))
    assert map50(*detected(30, 11, 4), 4) == map50(*detected(30, 11, 4)) == evaluate(*detected(30, 11, 4)).map50


# What cannot be measured


@pytest.mark.parametrize(
    ("true", "found", "problem"),
    [
        (boxes(), predicted([0, 0, 1, 1, 0.5, 0]), "no ground-truth box in 1 images"),
        (boxes([0, 0, 1, 1, 4]), predicted(), r"label of image 0: class indices \[4.0\] for 4 classes"),
        (boxes([0, 0, 1, 1, 0]), predicted([0, 0, 1, 1, 0.5, -1]), r"prediction for image 0: class indices \[-1.0\]"),
        (boxes([0, 0, 1, 1, 0]), predicted([0, 0, 1, 1, 0.5, 0.5]), "class indices"),
        (
            boxes([0, 0, 1, 1, 0]),
            predicted([0, 0, 1, np.nan, 0.5, 0]),
            "prediction for image 0: a box has a number that is NaN",
        ),
        (boxes([0, np.inf, 1, 1, 0]), predicted(), "label of image 0: a box has a number that is NaN or infinite"),
        (boxes([0, 0, 1, 1, 0]), predicted([0, 0, 1, 1, 7, 0]), "scores from 7 to 7"),
        (boxes([0, 0, 1, 1, 0]), boxes([0, 0, 1, 1, 0]), r"its shape is \(1, 5\), not \(boxes, 6\)"),
    ],
)
def test_cannot_evaluate_if_the_boxes_are_unsound(true, found, problem):
    with pytest.raises(EvaluationError, match=problem):
        evaluate(objects([true]), objects([found]))


@pytest.mark.parametrize("unsound", [[0, 0, 1, np.nan, 0.5, 0], [0, 0, 1, 1, 0.5, np.nan], [0, 0, 1, 1, 0.5, np.inf]])
def test_cannot_score_if_a_number_is_not_finite(unsound):
    labels = objects([boxes([0, 0, 1, 1, 0])])
    with pytest.raises(EvaluationError, match="NaN or infinite"):
        map50(labels, objects([predicted(unsound)]))


def test_cannot_evaluate_if_there_is_no_image_or_an_answer_is_missing():
    labels, predictions = detected(3, 12)
    for some, others in ((labels[:0], predictions[:0]), (labels, predictions[:2])):
        with pytest.raises(EvaluationError, match=f"there are {len(others)} predictions for {len(some)} images"):
            evaluate(some, others)


# Floor, log and labelling


def test_the_floor_is_the_score_of_one_box_of_the_commonest_class_in_each_image():
    """Of three images two are filled by a dog; the box in the third is small."""
    sizes = np.array([[20, 30]] * 3)
    labels = objects([boxes([0, 0, 30, 20, 2]), boxes([1, 1, 30, 20, 2]), boxes([0, 0, 3, 3, 2], [0, 0, 30, 20, 1])])
    assert floor(sizes, labels, 4) == floor(sizes, labels) == pytest.approx((0.005 + 66 * 0.01) / 2)


def test_cannot_say_the_floor_if_there_is_no_true_box():
    with pytest.raises(EvaluationError, match="no ground-truth box"):
        floor(np.array([[20, 30]]), objects([boxes()]), 4)


def test_what_is_packed_is_unpacked_unchanged():
    _, predictions = detected(20, 30, 4)
    packed = pack(predictions)
    assert [len(content) for content in packed] == [24 * len(found) for found in predictions]
    for found, back in zip(predictions, unpack(packed), strict=True):
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, found)
    assert pack(objects([predicted([1, 0, 0, 0, 0, 0])]))[0] == b"\0\0\x80?" + b"\0" * 20


def test_cannot_unpack_if_a_row_is_cut_off():
    with pytest.raises(DataError, match="25 bytes are not rows of 6 numbers"):
        unpack([b"\0" * 25])


def test_the_least_decided_answer_has_the_smallest_margin():
    sure, unsure = predicted([0, 0, 1, 1, 0.95, 0]), predicted([0, 0, 1, 1, 0.9, 0], [0, 0, 1, 1, 0.5, 0])
    found = margin(objects([sure, unsure, predicted(), predicted([0, 0, 1, 1, OPERATING, 0])]))
    np.testing.assert_allclose(found, [0.7, 0.25, np.inf, 0], atol=1e-6)
    assert found.argmin() == 3
