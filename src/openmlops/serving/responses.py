"""Response formats of predictions: JSON of /predict, and tensors of the Open Inference Protocol; one class per task."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmlops.core.detection.evaluation import OPERATING
from openmlops.usecases.base import Outputs

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""name -> (datatype, shape of one row; -1 where rows differ)"""


class ResponseFormat(ABC):
    """Response format of one task."""

    @abstractmethod
    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """The prediction for image `row` as a JSON object."""

    @abstractmethod
    def shapes(self, classes: int, embedding: int) -> Shapes:
        """Name -> (datatype, row shape) of the available tensors, except `prediction_id`."""

    @abstractmethod
    def tensors(self, outputs: Outputs) -> dict[str, np.ndarray]:
        """The available tensors by name, n rows each."""


class ClassificationResponse(ResponseFormat):
    """Responses of a classifier."""

    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """The most probable class, and the probabilities of all."""
        probabilities = outputs.predictions[row].tolist()
        label = max(range(len(probabilities)), key=probabilities.__getitem__)
        return {
            "label": label,
            "class_name": classes[label],
            "probability": probabilities[label],
            "probabilities": dict(zip(classes, probabilities, strict=True)),
        }

    def shapes(self, classes: int, embedding: int) -> Shapes:
        """Label, probabilities, logits, embedding."""
        return {
            "label": ("INT64", ()),
            "probabilities": ("FP32", (classes,)),
            "logits": ("FP32", (classes,)),
            "embedding": ("FP32", (embedding,)),
        }

    def tensors(self, outputs: Outputs) -> dict[str, np.ndarray]:
        """Label, probabilities, logits, embedding."""
        probabilities = outputs.predictions
        return {
            "label": probabilities.argmax(axis=1),
            "probabilities": probabilities,
            "logits": outputs.tensors["logits"],
            "embedding": outputs.embedding,
        }


class DetectionResponse(ResponseFormat):
    """Responses of a detector: boxes in pixels of the image, in descending order of score."""

    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """The boxes of score >= OPERATING, as lists of equal length."""
        found = reported_boxes(outputs, row)
        labels = found[:, 5].astype(int).tolist()
        return {
            "boxes": found[:, :4].astype(np.float64).round(2).tolist(),
            "scores": found[:, 4].astype(np.float64).round(6).tolist(),
            "labels": labels,
            "classes": [classes[label] for label in labels],
        }

    def shapes(self, classes: int, embedding: int) -> Shapes:
        """Count, boxes, scores, labels, embedding."""
        return {
            "count": ("INT64", ()),
            "boxes": ("FP32", (-1, 4)),
            "scores": ("FP32", (-1,)),
            "labels": ("INT64", (-1,)),
            "embedding": ("FP32", (embedding,)),
        }

    def tensors(self, outputs: Outputs) -> dict[str, np.ndarray]:
        """The boxes of score >= OPERATING, padded to the largest number of boxes per image; `count` of them are valid."""
        found = [reported_boxes(outputs, row) for row in range(len(outputs.predictions))]
        padded = np.zeros((len(found), max(map(len, found)), 6), np.float32)
        padded[:, :, 5] = -1
        for row, boxes in enumerate(found):
            padded[row, : len(boxes)] = boxes
        return {
            "count": np.array([len(boxes) for boxes in found], np.int64),
            "boxes": padded[:, :, :4],
            "scores": padded[:, :, 4],
            "labels": padded[:, :, 5].astype(np.int64),
            "embedding": outputs.embedding,
        }


def reported_boxes(outputs: Outputs, row: int) -> np.ndarray:
    """float32 (k, 6): the boxes of one image with score >= OPERATING, as x1, y1, x2, y2, score, class."""
    boxes: np.ndarray = outputs.predictions[row]
    return boxes[boxes[:, 4] >= OPERATING]


RESPONSE_FORMATS: dict[str, ResponseFormat] = {"classification": ClassificationResponse(), "detection": DetectionResponse()}
"""by task kind"""
