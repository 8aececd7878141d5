"""The classification task: a label is a class index (int64), a prediction the probabilities of all classes (float32)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openmlops.core.classification.metrics import evaluate_classification
from openmlops.core.gate import rules
from openmlops.core.intervals import Strata, wilson
from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, LabelledAccuracy, check_against_labels, fit_confidence
from openmlops.core.tasks import Task, class_index
from openmlops.core.types import Comparison, Interval
from openmlops.names import position

STORED = np.dtype("<f4")


def accuracy(labels: np.ndarray, probabilities: np.ndarray, classes: int) -> Interval:
    """Accuracy with its 95 % Wilson interval. Raises EvaluationError if there are no images."""
    return wilson(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))


def majority_class_accuracy(sizes: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """The accuracy of always predicting the most common class: the baseline that a first champion must beat."""
    return float(np.bincount(labels).max() / len(labels))


def compare(
    name: str, labels: np.ndarray, challenger: np.ndarray, opponent: np.ndarray, opponent_version: int, holdout: bool
) -> Comparison:
    """Compare the accuracy of two models on the same images (`gate.rules.compare`)."""
    ours, theirs = (probabilities.argmax(axis=1) == labels for probabilities in (challenger, opponent))
    return rules.compare(name, ours, theirs, opponent_version, holdout)


def labelled(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: int,
    estimate: AccuracyEstimate | None,
    strata: Strata | None = None,
) -> LabelledAccuracy:
    """The accuracy on labelled predictions, next to the estimate made without labels."""
    return check_against_labels(probabilities.argmax(axis=1), labels, estimate, strata)


def margin(probabilities: np.ndarray) -> np.ndarray:
    """float (n,), 0..1: the top probability minus the second."""
    top = np.sort(probabilities, axis=1)[:, ::-1]
    return top[:, 0] - top[:, 1]


def pack(probabilities: np.ndarray) -> list[bytes]:
    """Each row as bytes: one little-endian float32 per class."""
    return [row.tobytes() for row in probabilities.astype(STORED)]


def unpack(rows: Sequence[bytes], classes: int) -> np.ndarray:
    """float32 (n, classes)"""
    return np.frombuffer(b"".join(rows), STORED).reshape(len(rows), classes).astype(np.float32)


def columns(probabilities: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Table columns `probability_<class>` and `prediction`, the index of the most probable class."""
    named = {f"probability_{name}": probabilities[:, index] for index, name in enumerate(names)}
    return {**named, "prediction": probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, np.int64)}


def from_columns(table: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """float32 (n, classes)"""
    return np.stack([np.asarray(table[f"probability_{name}"], np.float32) for name in names], axis=1)


def read_label(reported: Any, names: Sequence[str]) -> str:
    """A class as a client reports it (`class_index`) -> its index as JSON. Raises DataError."""
    return json.dumps(class_index(reported, names))


def labels_of(texts: Sequence[str]) -> np.ndarray:
    """int64 (n,)"""
    return np.array([json.loads(text) for text in texts], np.int64)


def renamed(text: str, names: Sequence[str], others: Sequence[str]) -> str | None:
    """The same class by its index in `others`, as JSON; None if it is not there."""
    found = position(names[json.loads(text)], others)
    return None if found is None else json.dumps(found)


def in_classes(probabilities: np.ndarray, names: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """float32 (n, others), by name: 0 for a class that the model does not know.

    If the model knows classes that are not in `others`, a last column has the greatest of their probabilities, so that an
    image that it took for one of them is taken for none of `others`.
    """
    where = [position(name, others) for name in names]
    known = [column for column, found in enumerate(where) if found is not None]
    found = np.zeros((len(probabilities), len(others) + (len(known) < len(names))), np.float32)
    found[:, [row for row in where if row is not None]] = probabilities[:, known]
    if len(known) < len(names):
        found[:, -1] = np.delete(probabilities, known, axis=1).max(axis=1)
    return found


def of_classes(labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images of these classes, and their labels."""
    rows = np.flatnonzero(np.isin(labels, classes))
    return rows, labels[rows]


CLASSIFICATION = Task(
    kind="classification",
    score="accuracy",
    score_name="accuracy",
    outputs=("logits", "probabilities", "embedding"),
    compared=("probabilities",),
    evaluate=evaluate_classification,
    score_of=accuracy,
    floor=majority_class_accuracy,
    floor_of="always predicting the most frequent class",
    compare=compare,
    confidence=fit_confidence,
    labelled=labelled,
    margin=margin,
    pack=pack,
    unpack=unpack,
    columns=columns,
    from_columns=from_columns,
    read_label=read_label,
    label_column=lambda texts: [None if text is None else json.loads(text) for text in texts],
    from_label_column=lambda found: np.asarray(found, np.int64),
    labels=labels_of,
    as_json=lambda label: json.dumps(int(label)),
    as_feedback=lambda label, names: names[int(label)] if names else int(label),
    within=lambda label, size: label,
    moved=lambda labels, sizes, kind, severity, seed: labels,
    renamed=renamed,
    in_classes=in_classes,
    of_classes=of_classes,
)
