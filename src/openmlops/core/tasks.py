"""What a task is: what a label, an answer and a score are, for every use case of a kind.

The two are in `classification_task` and `detection_task`. A task is functions of arrays; labels and answers are arrays of n
images, dense or, where images differ in length, object arrays, so that both are indexed alike.
What is not here: images and models (a use case), and how answers are shown over HTTP (`serving.responses`).
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
    """One kind of question that models answer about an image."""

    kind: Literal["classification", "detection"]
    score: str
    """name of the score that models are judged by: MLflow shows it as `test_<score>`"""
    score_name: str
    """the same for people"""
    outputs: tuple[str, ...]
    """names of an exported model's outputs, in their order"""
    compared: tuple[str, ...]
    """those in which an exported model must answer as the trained one does"""

    evaluate: Callable[[Labels, Predictions, tuple[str, ...], str, str], Evaluation]
    """labels, answers, class names, split name, split fingerprint -> evaluation. Raises EvaluationError"""
    score_of: Callable[[Labels, Predictions, int], Interval]
    """labels, answers, number of classes -> the score, with its interval at 95 %"""
    floor: Callable[[np.ndarray, Labels, int], float]
    """images, labels, number of classes -> the score of the best answer that looks at no image"""
    floor_of: str
    """what that answer is, in words"""
    compare: Callable[..., Comparison]
    """(name, labels, challenger's answers, opponent's answers, opponent's version, holdout) -> comparison on the same images"""
    confidence: Callable[[Predictions, Labels], ConfidenceTable]
    """validation answers, labels -> how often answers of each confidence are right. Raises DataError where none can be said"""
    labelled: Callable[[Predictions, Labels, int, AccuracyEstimate | None], LabelledAccuracy | None]
    """answers, the labels that came for them, number of classes, the estimate -> the real score; None where they do not say"""
    margin: Callable[[Predictions], np.ndarray]
    """answers -> float (n,), how decided each is; the smallest are worth labelling"""

    pack: Callable[[Predictions], list[bytes]]
    """answers -> one row of bytes each, for the log"""
    unpack: Callable[[Sequence[bytes], int], Predictions]
    """rows of bytes, number of classes -> answers"""
    columns: Callable[[Predictions, Sequence[str]], dict[str, Any]]
    """answers, class names -> columns of a table, for people and for `from_columns`"""
    from_columns: Callable[[Mapping[str, Any], Sequence[str]], Predictions]
    """columns of a table, class names -> answers"""

    read_label: Callable[[Any, Sequence[str]], str]
    """what a client tells of an image's truth, class names -> the label as JSON. Raises DataError"""
    label_column: Callable[[Sequence[str | None]], list[Any]]
    """labels as JSON, None where there is none -> a column of a table"""
    from_label_column: Callable[[Any], Labels]
    """values of such a column, none missing -> labels"""
    labels: Callable[[Sequence[str]], Labels]
    """labels as JSON -> labels"""
    as_json: Callable[[Any], str]
    """one label -> JSON"""
    as_feedback: Callable[[Any], Any]
    """one label -> what a client sends for it, and `read_label` reads"""
    within: Callable[[Any, np.ndarray], Any]
    """one label as somebody told it, its image -> the label cut to it; None if it speaks of what lies outside"""
    moved: Callable[[Labels, np.ndarray, str, int, int], Labels]
    """labels, images, corruption, severity, seed -> the labels of `corrupt(images, ...)`"""
    renamed: Callable[[str, Sequence[str], Sequence[str]], str | None]
    """a label as JSON, its class names, others -> the label among those; None if a class is not one of them"""
