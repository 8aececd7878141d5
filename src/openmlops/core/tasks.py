"""What a task is: what labels, predictions and scores are, for all use cases of one kind.

The two tasks are in `classification.task` and `detection.task`. A task is a set of functions of arrays. Labels and predictions
are arrays of n images: dense, or object arrays where the images' rows differ in length, so that both are indexed alike.
What is not here: images and models (a use case), and predictions as HTTP responses (`serving.responses`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, ConfidenceTable, LabelledAccuracy
from openmlops.core.quality import Evaluation
from openmlops.core.types import Comparison, Interval

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
    """images, labels, number of classes -> the score of a constant baseline, which does not look at the images"""
    floor_of: str
    """that baseline in words"""
    compare: Callable[..., Comparison]
    """(name, labels, challenger's predictions, opponent's predictions, opponent's version, holdout) -> paired comparison"""
    confidence: Callable[[Predictions, Labels], ConfidenceTable]
    """validation predictions, labels -> accuracy by confidence. Raises DataError for a task without such a relation"""
    labelled: Callable[[Predictions, Labels, int, AccuracyEstimate | None], LabelledAccuracy | None]
    """predictions, their reported labels, number of classes, the estimate -> the measured score; None if it is undefined"""
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
    as_feedback: Callable[[Any], Any]
    """one label -> what a client sends to report it, which `read_label` reads"""
    within: Callable[[Any, np.ndarray], Any]
    """one reported label, its image -> the label clipped to the image; None if it does not fit the image"""
    moved: Callable[[Labels, np.ndarray, str, int, int], Labels]
    """labels, images, corruption, severity, seed -> the labels that fit `corrupt(images, ...)`"""
    renamed: Callable[[str, Sequence[str], Sequence[str]], str | None]
    """a label as JSON, its class names, other class names -> the label in terms of those; None if a class is not among them"""
