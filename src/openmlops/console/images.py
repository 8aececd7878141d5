"""Logged images as re-encoded PNGs, and their predictions and labels as text and boxes.

Received bytes are never sent out: images are decoded, downscaled if large, and encoded again.
"""

import io
import json
from collections.abc import Sequence
from threading import Semaphore
from typing import NamedTuple

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from openmlops.console.pages import requested_model
from openmlops.console.services import console
from openmlops.core.tasks import Task
from openmlops.errors import DataError, ModelNotFound, PredictionNotFound
from openmlops.operations.labelling import queue

SIDES = {"": 1280, "small": 192}
"""longest side in pixels, by the query `size`"""
DECODERS = Semaphore(2)
"""each decoded image may hold 60 MB"""
HEADERS = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Box(NamedTuple):
    """One box in pixels of its image; `row` is its row in the prediction or label."""

    row: int
    x: float
    y: float
    width: float
    height: float
    name: str
    score: float

    @property
    def area(self) -> float:
        """In square pixels: smaller boxes are drawn on top."""
        return self.width * self.height


def model_with_predictions(request: Request) -> str:
    """The model in the URL, if this console can read its images and predictions. Raises ModelNotFound."""
    model, workspace = requested_model(request), console(request).workspace
    if model != workspace.model_name:
        problem = f"This console shows images and predictions of the use case {workspace.use_case.name}, not of {model}"
        raise ModelNotFound(problem, "Start one with the USE_CASE and MODEL_NAME of that model")
    return model


def image(request: Request) -> Response:
    """The image of one prediction."""
    size = request.query_params.get("size", "")
    try:
        workspace, model = console(request).workspace, model_with_predictions(request)
        found = queue.prediction_record(workspace, model, request.path_params["prediction"])
        with DECODERS:
            content = png(queue.image_of(workspace, found), SIDES.get(size, SIDES[""]))
    except (ModelNotFound, PredictionNotFound, DataError) as error:
        return PlainTextResponse(str(error), 404)
    return Response(content, media_type="image/png", headers=HEADERS)


def png(pixels: np.ndarray, side: int) -> bytes:
    """uint8 (h, w, 3) -> a PNG, its longest side at most `side` pixels."""
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    picture.thumbnail((side, side))
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def prediction_text(task: Task, predicted: np.ndarray, classes: Sequence[str]) -> str:
    """A prediction as text: the class with its probability, or the number of boxes with the highest score."""
    if task.kind == "classification":
        return f"{classes[int(predicted.argmax())]}, {100 * float(predicted.max()):.0f} %"
    boxes = queue.predicted_boxes(predicted)
    return f"{count(len(boxes))}, highest confidence {100 * float(boxes[0, 4]):.0f} %" if len(boxes) else count(0)


def label_text(task: Task, label: str, classes: Sequence[str]) -> str:
    """A label as JSON -> `cat`, or `2 boxes`"""
    value = json.loads(label)
    return classes[value] if task.kind == "classification" else count(len(value))


def count(boxes: int) -> str:
    """`no box`, `1 box`, `2 boxes`"""
    return {0: "no boxes", 1: "1 box"}.get(boxes, f"{boxes} boxes")


def boxes_of(task: Task, predicted: np.ndarray, classes: Sequence[str]) -> list[Box]:
    """The reported boxes of a detector, in descending order of score; empty for a classifier."""
    return [_box(row, box, classes) for row, box in enumerate(queue.predicted_boxes(predicted))] if is_detector(task) else []


def is_detector(task: Task) -> bool:
    """Whether predictions are boxes."""
    return task.kind == "detection"


def _box(row: int, box: np.ndarray, classes: Sequence[str]) -> Box:
    x1, y1, x2, y2, score, kind = (float(value) for value in box)
    return Box(row, round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2), classes[int(kind)], score)


ROUTES = [Route("/console/models/{model}/images/{prediction}", image)]
