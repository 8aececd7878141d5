"""Example images for a model's page: some of its last evaluated window beside some validation images.

Not here: the selection (`operations.labelling.examples`). The part is loaded separately, because reading the version's files
takes longer than the rest of the page.
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from openmlops.console import images
from openmlops.console.images import Box, boxes_of, label_text, model_with_predictions, png, prediction_text
from openmlops.console.rendering import page
from openmlops.console.services import console
from openmlops.core.tasks import Task
from openmlops.errors import ModelNotFound, OpenMLOpsError
from openmlops.operations.labelling import examples as chosen
from openmlops.operations.labelling import queue
from openmlops.operations.labelling.queue import PredictionRecord
from openmlops.operations.workspace import Workspace

SIDE = images.SIDES["small"]


class Picture(NamedTuple):
    """One example: image URL, size in pixels that its boxes refer to, prediction and label as text, and boxes."""

    source: str
    width: int
    height: int
    predicted: str
    label: str
    boxes: list[Box]


def show(request: Request) -> Response:
    """The part of the page. Errors are displayed in it, so that the rest of the page is unaffected."""
    try:
        return page(request, "examples.html", **_found(request))
    except OpenMLOpsError as error:
        return page(request, "examples.html", problem=str(error))


def _found(request: Request) -> dict[str, Any]:
    workspace, model = console(request).workspace, model_with_predictions(request)
    version = workspace.ledger.champion(model)
    if version is None:
        raise ModelNotFound(f"The model '{model}' has no champion yet, so there are no predictions")
    found, task = chosen.examples(workspace, model, version), workspace.use_case.task
    return {
        "problem": "",
        "found": found,
        "drawn": [_logged(workspace, model, each) for each in found.drawn],
        "farthest": [_logged(workspace, model, each) for each in found.farthest],
        "reference": [_reference(task, each.image, each.predicted, found.classes) for each in found.reference],
    }


def _logged(workspace: Workspace, model: str, found: PredictionRecord) -> Picture:
    task = workspace.use_case.task
    height, width = queue.size_of(workspace, found)
    return Picture(
        source=f"/console/models/{model}/images/{found.prediction}?size=small",
        width=width,
        height=height,
        predicted=prediction_text(task, found.predicted, found.classes),
        label=label_text(task, found.label, found.classes) if found.label else "",
        boxes=boxes_of(task, found.predicted, found.classes),
    )


def _reference(task: Task, pixels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Picture:
    """A validation image as a data URL: it belongs to a version, not to a prediction."""
    content = base64.b64encode(png(pixels, SIDE)).decode()
    return Picture(
        source=f"data:image/png;base64,{content}",
        width=pixels.shape[1],
        height=pixels.shape[0],
        predicted=prediction_text(task, predicted, classes),
        label="",
        boxes=boxes_of(task, predicted, classes),
    )


ROUTES = [*images.ROUTES, Route("/console/models/{model}/examples", show)]
