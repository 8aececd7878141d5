"""What a task is: what labels, predictions and scores are, for all use cases of one kind.

The two tasks are in `classification.task` and `detection.task`. A task is a set of functions of arrays. Labels and predictions
are arrays of n images: dense, or object arrays where the images' rows differ in length, so that both are indexed alike.
What is not here: images and models (a use case), and predictions as HTTP responses (`serving.responses`).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from openmlops.core.intervals import Strata
from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, ConfidenceTable, LabelledAccuracy
from openmlops.core.quality import Evaluation
from openmlops.core.types import Comparison, Interval
from openmlops.errors import DataError
from openmlops.names import position

MOST_LISTED = 100
"""class names that an error lists"""

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)

Labels = np.ndarray
Predictions = np.ndarray


@dataclass(frozen=True)
class Task:
    """One kind of prediction, classification or detection, as functions of labels and predictions."""

    kind: Literal["classification", "detection"]
    score: str
    """name of the primary metric; in MLflow it is `test_<score>`"""
    score_name: str
    """its display name"""
    outputs: tuple[str, ...]
    """names of an exported model's outputs, in order"""
    compared: tuple[str, ...]
    """the outputs in which an exported model must agree with the trained one"""

    evaluate: Callable[[Labels, Predictions, tuple[str, ...], str, str], Evaluation]
    """labels, predictions, class names, split name, split fingerprint -> evaluation. Raises EvaluationError"""
    score_of: Callable[[Labels, Predictions, int], Interval]
    """labels, predictions, number of classes -> the primary metric with its 95 % interval"""
    floor: Callable[[np.ndarray, Labels, int], float]
    """sizes of the images (n, 2: height, width), labels, number of classes -> the score of a constant baseline"""
    floor_of: str
    """that baseline in words"""
    compare: Callable[..., Comparison]
    """(name, labels, challenger's predictions, opponent's predictions, opponent's version, holdout) -> paired comparison"""
    confidence: Callable[[Predictions, Labels], ConfidenceTable]
    """validation predictions, labels -> accuracy by confidence. Raises DataError for a task without such a relation"""
    labelled: Callable[[Predictions, Labels, int, AccuracyEstimate | None, Strata | None], LabelledAccuracy | None]
    """predictions, their reported labels, number of classes, the estimate, the strata that they are a sample of, or None -> the
    measured score; None if it is undefined"""
    margin: Callable[[Predictions], np.ndarray]
    """predictions -> float (n,), the confidence margin of each; the smallest are worth labelling"""

    pack: Callable[[Predictions], list[bytes]]
    """predictions -> bytes of each, for the inference log"""
    unpack: Callable[[Sequence[bytes], int], Predictions]
    """bytes of each, number of classes -> predictions"""
    columns: Callable[[Predictions, Sequence[str]], dict[str, Any]]
    """predictions, class names -> columns of a readable table, which `from_columns` reads back"""
    from_columns: Callable[[Mapping[str, Any], Sequence[str]], Predictions]
    """columns of such a table, class names -> predictions"""

    read_label: Callable[[Any, Sequence[str]], str]
    """a label as a client reports it, class names -> the label as JSON. Raises DataError"""
    label_column: Callable[[Sequence[str | None]], list[Any]]
    """labels as JSON, None where missing -> a column of a table"""
    from_label_column: Callable[[Any], Labels]
    """the values of such a column, none missing -> labels"""
    labels: Callable[[Sequence[str]], Labels]
    """labels as JSON -> labels"""
    as_json: Callable[[Any], str]
    """one label -> JSON"""
    as_feedback: Callable[[Any, Sequence[str]], Any]
    """one label, class names -> what a client sends, which `read_label` reads; by index if there are no names"""
    within: Callable[[Any, tuple[int, int]], Any]
    """one reported label, its image's height and width -> the label clipped to the image; None if it does not fit the image"""
    moved: Callable[[Labels, np.ndarray, str, int, int], Labels]
    """labels, sizes of the images (n, 2), corruption, severity, seed -> the labels that fit `corrupt(images, ...)`"""
    renamed: Callable[[str, Sequence[str], Sequence[str]], str | None]
    """a label as JSON, its class names, other class names -> the label in terms of those; None if a class is not among them"""
    in_classes: Callable[[Predictions, Sequence[str], Sequence[str]], Predictions]
    """predictions, their class names, other class names -> the predictions in terms of those. What names a class that is not
    among them is right for no label"""
    of_classes: Callable[[Labels, Sequence[int]], tuple[np.ndarray, Labels]]
    """labels, class indices -> the rows (int64) that can be judged for these classes only, and the labels of those rows"""


def class_index(reported: Any, names: Sequence[str], how: str = "") -> int:
    """The index of a class that somebody reported by its name, by its index, or by the number that it is called.

    Raises DataError if it is no class, and if a number can mean two: the index of one class, and the name of another. `how` is
    a sentence about the format, for the error.
    """
    if isinstance(reported, str) and (found := position(reported, names)) is not None:
        return found
    if type(reported) is int:
        by_index = [reported] if 0 <= reported < len(names) else []
        called = [index for index, name in enumerate(names) if number_of(name) == reported]
        if len(meant := sorted({*by_index, *called})) == 1:
            return meant[0]
        if by_index and called:
            as_name = " or ".join(json.dumps(names[index], ensure_ascii=False) for index in called)
            problem = f"The class {reported} can be the class called {as_name}, or the one with the index {reported}"
            raise DataError(f"{problem}, which is called '{names[reported]}'", f"Send the name as text: {as_name}, in quotes")
    listed = ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")
    remedy = f"Use one of the names {listed}, or an index from 0 to {len(names) - 1}{f'. {how}' if how else ''}"
    raise DataError(f"The class {str(reported)[:80]!r} is not a class of the model", remedy)


def number_of(name: str) -> float | None:
    """The number that a class is called, such as 7 for `007`; None for any other name."""
    return float(name) if _NUMBER.fullmatch(name) else None


def by_number(name: str) -> tuple[bool, float, str]:
    """Sort key of class names: numbers first, as numbers, then texts."""
    number = number_of(name)
    return number is None, number or 0.0, name
