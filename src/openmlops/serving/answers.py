"""What answers look like to clients: as JSON of /predict, and as tensors of the Open Inference Protocol, one class a task."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmlops.core.detection.evaluation import OPERATING
from openmlops.usecases.base import Outputs

Shapes = dict[str, tuple[str, tuple[int, ...]]]
"""name -> (datatype, shape of one row; -1 where rows differ)"""


class Answers(ABC):
    """How the answers of one kind of model are told."""

    @abstractmethod
    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """One image's answer."""

    @abstractmethod
    def shapes(self, classes: int, embedding: int) -> Shapes:
        """The tensors that can be asked for, `prediction_id` apart."""

    @abstractmethod
    def tensors(self, outputs: Outputs) -> dict[str, np.ndarray]:
        """Those tensors, n rows each."""


class Classes(Answers):
    """Of a classifier."""

    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """The most probable class, and the probabilities of all."""
        probabilities = outputs.answers[row].tolist()
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
        probabilities = outputs.answers
        return {
            "label": probabilities.argmax(axis=1),
            "probabilities": probabilities,
            "logits": outputs.tensors["logits"],
            "embedding": outputs.embedding,
        }


class Boxes(Answers):
    """Of a detector: boxes in pixels of the image, the surest first."""

    def as_json(self, outputs: Outputs, row: int, classes: Sequence[str]) -> dict[str, Any]:
        """The boxes of at least OPERATING, as lists of one length."""
        found = shown_boxes(outputs, row)
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
        found = [shown_boxes(outputs, row) for row in range(len(outputs.answers))]
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


def shown_boxes(outputs: Outputs, row: int) -> np.ndarray:
    """float32 (k, 6): the boxes of one image that count as an answer."""
    boxes: np.ndarray = outputs.answers[row]
    return boxes[boxes[:, 4] >= OPERATING]


ANSWERS: dict[str, Answers] = {"classification": Classes(), "detection": Boxes()}
"""by the kind of task"""
