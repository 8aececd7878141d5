"""Predictions as clients get them: JSON of /predict, and tensors of the Open Inference Protocol; one class a task."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmlops.core.detection.evaluation import OPERATING
from openmlops.usecases.base import Outputs

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""name -> (datatype, shape of one row; -1 where rows differ)"""


class ResponseFormat(ABC):
    """How the predictions of one kind of model are sent."""

    @abstractmethod
    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """One image's prediction."""

    @abstractmethod
    def shapes(self, classes: int, embedding: int) -> Shapes:
        """The tensors that can be requested, `prediction_id` apart."""

    @abstractmethod
    def tensors(self, outputs: Outputs) -> dict[str, np.ndarray]:
        """Those tensors, n rows each."""


class ClassificationResponse(ResponseFormat):
    """Of a classifier."""

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
    """Of a detector: boxes in pixels of the image, the surest first."""

    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """The boxes of at least OPERATING, as lists of one length."""
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
        """The boxes of at least OPERATING, as many rows for each image as the one with most needs: `count` of them are real."""
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
    """float32 (k, 6): the boxes of one image that are reported."""
    boxes: np.ndarray = outputs.predictions[row]
    return boxes[boxes[:, 4] >= OPERATING]


RESPONSE_FORMATS: dict[str, ResponseFormat] = {"classification": ClassificationResponse(), "detection": DetectionResponse()}
"""by the kind of task"""
