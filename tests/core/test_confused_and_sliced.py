"""What explains an evaluation: computed from labels and predictions, on toys that a person can check."""

import numpy as np

from openmlops.core.classification.metrics import evaluate_classification
from openmlops.core.explanations import FEWEST, MOST_PAIRS, confused_pairs, sources, thirds, worst_errors


def test_the_most_frequent_confusions_come_first_with_the_number_of_their_class() -> None:
    labels = np.array([0] * 5 + [1] * 4 + [2] * 3)
    predicted = np.array([0, 0, 1, 1, 1, 1, 1, 2, 1, 2, 2, 2])
    found = confused_pairs(evaluate_classification(labels, np.eye(3)[predicted], ("a", "b", "c"), "test", "f"))
    assert [(pair.true, pair.predicted, pair.count, pair.n) for pair in found] == [("a", "b", 3, 5), ("b", "c", 1, 4)]


def test_no_more_pairs_are_listed_than_a_person_reads() -> None:
    labels = np.arange(30)
    evaluation = evaluate_classification(labels, np.eye(30)[(labels + 1) % 30], tuple(map(str, labels)), "test", "f")
    assert len(confused_pairs(evaluation)) == MOST_PAIRS


def test_the_worst_error_is_the_one_that_was_most_certain() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.45, 0.55]], np.float32)
    assert worst_errors(np.array([0, 0, 0, 0]), probabilities, 5).tolist() == [2, 1, 3]
    assert worst_errors(np.array([0, 0, 0, 0]), probabilities, 1).tolist() == [2]


def test_thirds_are_named_by_their_bounds_and_left_out_where_nothing_differs() -> None:
    found = thirds(np.arange(90.0), ("low", "mid", "high"))
    assert [name.split()[0] for name, _ in found] == ["low", "mid", "high"]
    assert [len(rows) for _, rows in found] == [30, 30, 30]
    assert found[0][1].max() < found[1][1].min()
    assert thirds(np.full(90, 32.0), ("low", "mid", "high")) == []
    assert thirds(np.arange(3.0 * FEWEST - 3), ("low", "mid", "high")) == []


def test_sources_are_files_that_differ_in_their_number_only() -> None:
    names = [f"test/ant/{camera}_{number:04d}.jpg" for camera in ("cam1", "cam2") for number in range(FEWEST)]
    assert [(name, len(rows)) for name, rows in sources(names)] == [("cam1_*", FEWEST), ("cam2_*", FEWEST)]
    assert sources(names[:FEWEST]) == [], "one source"
    assert sources([f"{letter}{number}" for letter in "abcdefghijk" for number in range(FEWEST)]) == [], "names of objects"
