"""The labelling pages: one image at a time, each labelled once.

The URL contains the displayed and the previous image, so that a page can be reloaded and no session state is needed. Not here:
which images to label, and storing a label (`operations.labelling`).
"""

import random
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from openmlops.console.images import Box, boxes_of, is_detector, label_text, model_with_predictions, prediction_text
from openmlops.console.rendering import page
from openmlops.console.services import console
from openmlops.core.types import Value
from openmlops.errors import DataError, LabelConflict, OpenMLOpsError, PredictionNotFound
from openmlops.operations.labelling import queue
from openmlops.operations.labelling.queue import LabelRequest, PredictionRecord, RequestedImage
from openmlops.operations.workspace import Workspace

KEYS = "1234567890abcdefhijklnopqrtuvwxyz"
"""keyboard shortcuts of the classes, in order; G, M and S have other functions"""
BY = "the console"


class DrawnBox(Value):
    """A box that a person drew: x1, y1, x2, y2 in pixels of the image."""

    kind: int = Field(alias="class")
    box: tuple[float, float, float, float]


class LabellingItem(NamedTuple):
    """The image to label."""

    wanted: RequestedImage
    classes: tuple[str, ...]
    keys: str
    predicted: str
    boxes: list[Box]
    height: int
    width: int
    next: str


class PreviousImage(NamedTuple):
    """The previous image: its label (empty if skipped) and the model's prediction."""

    prediction: str
    label: str
    predicted: str


def show(request: Request) -> Response:
    """The page for the image in the URL, or any open one."""
    return _panel(request, request.query_params.get("image", ""), request.query_params.get("last", ""))


def ask(request: Request) -> Response:
    """Request labels, unless an open request has open images."""
    workspace, model = console(request).workspace, model_with_predictions(request)
    found = queue.current_request(workspace, model)
    try:
        if found is None or not found.open:
            queue.request_labels(workspace, model, BY, datetime.now(UTC))
    except DataError as error:
        return _panel(request, "", "", HTTPStatus.CONFLICT, str(error))
    return RedirectResponse(_address(model), HTTPStatus.SEE_OTHER)


async def save(request: Request) -> Response:
    """Store a label, once, and continue with the next image."""
    return await run_in_threadpool(_save, request, await request.form())


def _save(request: Request, form: FormData) -> Response:
    workspace, model = console(request).workspace, model_with_predictions(request)
    prediction, following = str(form.get("prediction", "")), str(form.get("next", ""))
    try:
        found = queue.prediction_record(workspace, model, prediction)
        new = queue.submit_label(workspace, model, prediction, _label_of(workspace, found, form), datetime.now(UTC))
    except LabelConflict as error:  # somebody else labels the same images: continue elsewhere
        return _panel(request, "", prediction, HTTPStatus.CONFLICT, str(error))
    except DataError as error:
        return _panel(request, prediction, "", HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    except PredictionNotFound as error:
        return _panel(request, following, "", HTTPStatus.NOT_FOUND, str(error))
    if _is_htmx(request):
        note = "" if new else "It already had this label"
        return _panel(request, following, prediction, note=note)
    return RedirectResponse(_address(model, image=following, last=prediction), HTTPStatus.SEE_OTHER)


def _label_of(workspace: Workspace, found: PredictionRecord, form: FormData) -> Any:
    """The label of the form, in the format that the task parses. Raises DataError."""
    try:
        if not is_detector(workspace.use_case.task):
            return _class_name(found, int(str(form.get("label", ""))))
        drawn = [DrawnBox.model_validate_json(str(text)) for text in form.getlist("drawn")]
        accepted = [int(str(row)) for row in form.getlist("box")]
    except ValueError as error:
        kind = "has no class" if not isinstance(error, ValidationError) else "has a box without four numbers and a class"
        raise DataError(f"The label {kind}", "Reload the page") from error
    boxes = [{"class": _class_name(found, box.kind), "box": list(box.box)} for box in drawn]
    return queue.label_from_boxes(found, accepted, boxes)


def _class_name(found: PredictionRecord, index: int) -> str:
    """The form sends an index, which is no name. Raises DataError."""
    if not 0 <= index < len(found.classes):
        raise DataError(f"The model has no class with the index {index}", "Reload the page")
    return found.classes[index]


def _panel(request: Request, image: str, last: str, status: int = HTTPStatus.OK, refused: str = "", note: str = "") -> Response:
    """The page, or for htmx requests its changing part, with the URL to return to it."""
    workspace, model = console(request).workspace, model_with_predictions(request)
    todo = queue.current_request(workspace, model)
    item = _item(workspace, model, todo, image)
    response = page(
        request,
        "labelling_panel.html" if _is_htmx(request) else "labelling.html",
        status,
        model=model,
        kind=workspace.use_case.task.kind,
        todo=todo,
        item=item,
        last=_last(workspace, model, last),
        refused=refused,
        note=note,
        window=queue.WINDOW,
    )
    response.headers["HX-Replace-Url"] = _address(model, image=item.wanted.prediction if item else "", last=last)
    response.headers["Vary"] = "HX-Request"
    return response


def _item(workspace: Workspace, model: str, todo: LabelRequest | None, image: str) -> LabellingItem | None:
    """The open image with this id, or a random readable one, so that two people rarely label the same image."""
    open_ = list(todo.open) if todo else []
    random.shuffle(open_)
    for wanted in sorted(open_, key=lambda each: each.prediction != image):
        with suppress(DataError):  # damaged or just removed: cannot be displayed
            assert todo is not None
            return _item_of(workspace, model, wanted, todo.after(wanted.prediction))
    return None


def _item_of(workspace: Workspace, model: str, wanted: RequestedImage, following: RequestedImage | None) -> LabellingItem:
    found, task = queue.prediction_record(workspace, model, wanted.prediction), workspace.use_case.task
    height, width = queue.size_of(workspace, found)
    return LabellingItem(
        wanted=wanted,
        classes=found.classes,
        keys=KEYS,
        predicted=prediction_text(task, found.predicted, found.classes),
        boxes=boxes_of(task, found.predicted, found.classes),
        height=height,
        width=width,
        next=following.prediction if following else "",
    )


def _last(workspace: Workspace, model: str, prediction: str) -> PreviousImage | None:
    """The previous image with its label, read from the log."""
    try:
        found = queue.prediction_record(workspace, model, prediction) if prediction else None
    except OpenMLOpsError:
        return None
    if found is None:
        return None
    task = workspace.use_case.task
    label = label_text(task, found.label, found.classes) if found.label else ""
    return PreviousImage(prediction, label, prediction_text(task, found.predicted, found.classes))


def _address(model: str, **query: str) -> str:
    given = urlencode({name: value for name, value in query.items() if value})
    return f"/console/models/{model}/labelling" + (f"?{given}" if given else "")


def _is_htmx(request: Request) -> bool:
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


ROUTES = [
    Route("/console/models/{model}/labelling", show),
    Route("/console/models/{model}/labelling", ask, methods=["POST"]),
    Route("/console/models/{model}/labels", save, methods=["POST"]),
]
