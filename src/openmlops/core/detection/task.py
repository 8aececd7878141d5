"""The detection task: a label is the true boxes of an image, float32 (m, 5): x1, y1, x2, y2 in pixels, class index; a
prediction the predicted boxes, float32 (k, 6): the same four, score, class index. Metrics are in `evaluation`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openmlops.core.detection import evaluation
from openmlops.core.images.boxes import objects
from openmlops.core.images.corruptions import all_moved
from openmlops.core.intervals import Strata
from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, ConfidenceTable, LabelledAccuracy
from openmlops.core.tasks import Task, class_index
from openmlops.errors import DataError, EvaluationError
from openmlops.names import position

SCORE = "mAP@50"
MOST_BOXES = 1000
"""most boxes in one image's label"""

_REMEDY = 'Send a list of boxes as {"class": "person", "box": [x1, y1, x2, y2]}, in pixels of the image; [] if there is none'


def confidence(predictions: np.ndarray, labels: np.ndarray) -> ConfidenceTable:
    """Always raises DataError: confidence does not show how many objects were missed, so no accuracy is estimated from it."""
    raise DataError("the accuracy of a detector cannot be estimated from its confidence", "Send labels to /feedback")


def labelled(
    predictions: np.ndarray,
    labels: np.ndarray,
    classes: int,
    estimate: AccuracyEstimate | None,
    strata: Strata | None = None,
) -> LabelledAccuracy | None:
    """mAP@50 on labelled predictions; None if the labels contain no boxes."""
    try:
        found = evaluation.map50(labels, predictions, classes, strata)
    except EvaluationError:
        return None
    return LabelledAccuracy(metric=SCORE, accuracy=found, n=len(labels), error=None, covered=None, sampled=strata is not None)


def columns(predictions: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Table column `boxes`: JSON, [[x1, y1, x2, y2, score, class index], ...]."""
    return {"boxes": [json.dumps(boxes.astype(np.float64).round(4).tolist()) for boxes in predictions]}


def from_columns(table: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """object (n,), float32 (k, 6) each"""
    return objects([np.array(json.loads(text), np.float32).reshape(-1, 6) for text in table["boxes"]])


def read_label(reported: Any, names: Sequence[str]) -> str:
    """A list of boxes, each an object with `class` (`class_index`) and `box` -> the label as JSON. Raises DataError."""
    if not isinstance(reported, list) or len(reported) > MOST_BOXES:
        raise DataError(f"The label {str(reported)[:80]!r} is not a list of at most {MOST_BOXES} boxes", _REMEDY)
    return json.dumps([_read_box(box, names) for box in reported])


def _read_box(reported: Any, names: Sequence[str]) -> list[float]:
    box = reported.get("box") if isinstance(reported, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise DataError(f"The box {str(reported)[:80]!r} does not have four numbers", _REMEDY)
    x1, y1, x2, y2 = (float(value) for value in box)
    if not (min(x1, y1) >= 0 and np.float32(x1) < np.float32(x2) and np.float32(y1) < np.float32(y2)):
        raise DataError(f"The box {str(box)[:80]} has no area inside the image", _REMEDY)
    return [x1, y1, x2, y2, class_index(reported.get("class"), names, _REMEDY)]


def _is_number(value: Any) -> bool:
    """Finite and plausible for an image: neither NaN nor an integer too large for a float."""
    return type(value) in (int, float) and abs(value) < 1e6


def labels_of(texts: Sequence[str]) -> np.ndarray:
    """object (n,), float32 (m, 5) each"""
    return objects([np.array(json.loads(text), np.float32).reshape(-1, 5) for text in texts])


def as_json(boxes: np.ndarray) -> str:
    """float32 (m, 5) -> the JSON that `read_label` returns for the same boxes."""
    rows = boxes.astype(np.float64).round(3).tolist()
    return json.dumps([[*corners, int(kind)] for *corners, kind in rows])


def as_feedback(boxes: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """float32 (m, 5) -> the list of boxes that `read_label` reads."""
    classes = [names[int(box[4])] if names else int(box[4]) for box in boxes]
    corners = boxes[:, :4].astype(np.float64).round(3).tolist()
    return [{"class": name, "box": box} for name, box in zip(classes, corners, strict=True)]


def within(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Boxes clipped to their image of `size` (height, width); None if less than a pixel of one is left: they were then reported
    in another scale."""
    height, width = size
    cut = boxes.copy()
    cut[:, :4] = np.clip(boxes[:, :4], 0, [width, height, width, height])
    return cut if (cut[:, 2:4] - cut[:, :2] >= 1).all() else None


def renamed(text: str, names: Sequence[str], others: Sequence[str]) -> str | None:
    """The same boxes with their classes as indices in `others`, as JSON; None if a class is not there."""
    boxes = json.loads(text)
    found = [position(names[int(box[4])], others) for box in boxes]
    return None if None in found else json.dumps([[*box[:4], number] for box, number in zip(boxes, found, strict=True)])


def in_classes(predictions: np.ndarray, names: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """The predicted boxes with their classes as indices in `others`, without those of a class that is not there."""
    where = np.array([-1 if (found := position(name, others)) is None else found for name in names], np.float32)
    mapped = [np.column_stack([boxes[:, :5], where[boxes[:, 5].astype(np.int64)]]) for boxes in predictions]
    return objects([boxes[boxes[:, 5] >= 0].astype(np.float32) for boxes in mapped])


def of_classes(labels: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """All rows, because an image without a box is judged too, and the true boxes of these classes."""
    return np.arange(len(labels)), objects([boxes[np.isin(boxes[:, 4], classes)] for boxes in labels])


DETECTION = Task(
    kind="detection",
    score="map50",
    score_name=SCORE,
    outputs=("boxes", "scores", "embedding"),
    compared=("boxes", "scores"),
    evaluate=evaluation.evaluate_detection,
    score_of=evaluation.map50,
    floor=evaluation.floor,
    floor_of="predicting one box as large as the image",
    compare=evaluation.compare_detections,
    confidence=confidence,
    labelled=labelled,
    margin=evaluation.margin,
    pack=evaluation.pack,
    unpack=lambda rows, classes: evaluation.unpack(rows),
    columns=columns,
    from_columns=from_columns,
    read_label=read_label,
    label_column=list,
    from_label_column=lambda found: labels_of(list(found)),
    labels=labels_of,
    as_json=as_json,
    as_feedback=as_feedback,
    within=within,
    moved=lambda labels, sizes, kind, severity, seed: all_moved(list(labels), sizes, kind, severity, seed),
    renamed=renamed,
    in_classes=in_classes,
    of_classes=of_classes,
)
