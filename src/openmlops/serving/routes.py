"""The native routes: predict, feedback, trigger, health, metrics."""

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from openmlops.adapters.decisions import requested
from openmlops.core.images.decoding import png
from openmlops.core.images.drawing import with_boxes
from openmlops.core.types import Value
from openmlops.errors import LabelConflict, PredictionNotFound
from openmlops.serving import schemas
from openmlops.serving.batching import Prediction
from openmlops.serving.deployment import State
from openmlops.serving.predictor import Predictor
from openmlops.serving.problems import unavailable
from openmlops.serving.reading import files, is_multipart
from openmlops.serving.responses import RESPONSE_FORMATS, reported_boxes
from openmlops.serving.services import Services, services

BODY_BYTES = 2**20
"""largest JSON body: a thousand boxes need a fifth of it, and validating 16 MB of invalid JSON would need gigabytes"""

router = APIRouter()

Schema = TypeVar("Schema", bound=Value)


@router.post(
    "/predict",
    response_model=schemas.PredictionAnswer | schemas.DetectionAnswer | schemas.PredictionAnswers,
    openapi_extra={**schemas.PREDICT_BODY, **schemas.PREDICT_PARAMETERS},
    responses={200: schemas.PICTURE, **schemas.refusals(400, 401, 408, 413, 422, 503)},
)
async def predict(request: Request) -> Response:
    """Predict one image (the body is a file: JPEG, PNG, WebP, BMP, TIFF or GIF; of several frames the first) or several
    (multipart): a class, or boxes in image pixels. Returned once it is logged. With `?draw=1` a detector returns one image as
    PNG with its boxes drawn."""
    arrived, here = time.perf_counter(), services(request)
    several, drawn = is_multipart(request), _wants_picture(request)
    served = _served(here, drawn, several)
    contents = await files(request, here.config.limits.images) if several else [await request.body()]
    model_input = await here.reader.read(contents, served)
    prediction = await here.batcher.predict(model_input, contents, arrived, request.is_disconnected)
    if drawn:
        return await _picture(here, prediction, contents[0])
    predictions = [_answer(prediction, row) for row in range(len(model_input))]
    return _json({"predictions": predictions} if several else predictions[0])


def _wants_picture(request: Request) -> bool:
    draw = request.query_params.get("draw", "0")
    if draw not in ("0", "1", ""):
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"draw is {draw[:80]!r}; it must be 0 or 1")
    return draw == "1"


def _served(here: Services, drawn: bool, several: bool) -> Predictor:
    """The serving predictor. Raises HTTPException if there is none, or if it does not support the request."""
    served = here.deployment.current
    if served is None:
        raise unavailable(here.deployment.problem or "No version is in service yet")
    if drawn and (several or served.task.kind != "detection"):
        why = "only one image can be drawn at once" if several else f"{served.name} predicts classes, not boxes"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"Nothing to draw: {why}; remove ?draw")
    return served


def _answer(prediction: Prediction, row: int) -> dict[str, Any]:
    served = prediction.predictor
    return {
        "prediction_id": prediction.ids[row],
        "model": {"name": served.name, "version": served.version},
        **RESPONSE_FORMATS[served.task.kind].as_json(prediction.outputs, row, served.classes),
    }


async def _picture(here: Services, prediction: Prediction, content: bytes) -> Response:
    """A PNG of the image with the reported boxes; prediction id and model version are in the headers."""
    served, boxes = prediction.predictor, reported_boxes(prediction.outputs, 0)
    drawn = await here.reader.decode(content, lambda image: png(np.asarray(with_boxes(image, boxes, served.classes))))
    headers = {"X-Prediction-Id": prediction.ids[0], "X-Model-Version": str(served.version)}
    return Response(drawn, media_type="image/png", headers=headers)


@router.post(
    "/feedback",
    response_model=schemas.FeedbackAnswer,
    openapi_extra=schemas.FEEDBACK_BODY,
    responses=schemas.refusals(401, 404, 408, 409, 413, 422, 503),
)
async def feedback(request: Request) -> Response:
    """Report the true label of a prediction, once: a class, or all true boxes. A different label later is a conflict."""
    here = services(request)
    feedback_ = _parsed(schemas.Feedback, await request.body())
    label, read, prediction = feedback_.plain_label(), here.use_case.task.read_label, feedback_.prediction_id.lower()
    try:
        new = await here.calls.run(here.log.label, prediction, label, read, datetime.now(UTC))
    except PredictionNotFound as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error
    except LabelConflict as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
    here.metrics.labels.inc(new)
    return _json({"prediction_id": prediction, "recorded": new})


@router.post(
    "/trigger",
    status_code=HTTPStatus.ACCEPTED,
    response_model=schemas.TriggerAnswer,
    openapi_extra=schemas.TRIGGER_BODY,
    responses=schemas.refusals(401, 408, 413, 422, 503),
)
async def trigger(request: Request) -> Response:
    """Request a cycle from the watchers (`openmlops watch`), for webhooks of other systems, such as Alertmanager's. Recorded
    among the decisions, once for equal values of the header `Idempotency-Key`."""
    here, key = services(request), request.headers.get("idempotency-key", "")
    reason = _parsed(schemas.Trigger, await request.body()).told()
    served = here.deployment.current
    if served is None:
        raise unavailable("No version is in service, so there is nothing to monitor")
    record = requested(served.name, served.version, reason, by="the HTTP API", now=datetime.now(UTC))
    if key:  # a record with an id that is there already is not appended
        named = hashlib.sha256(f"{served.name}\n{key}".encode()).hexdigest()[: len(record.id)]
        record = record.model_copy(update={"id": named})
    await here.calls.run(here.decisions.append, record)
    return _json({"decision_id": record.id}, HTTPStatus.ACCEPTED)


def _parsed(schema: type[Schema], body: bytes) -> Schema:
    """Parse a JSON body. Raises HTTPException if it does not match the schema; of a union, the error of the closest variant."""
    if len(body) > BODY_BYTES:
        problem = f"The body has {len(body)} bytes, more than {BODY_BYTES}"
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        inmost = max(errors, key=lambda found: (len(found["loc"]), not found["type"].endswith("_type")))
        where = ".".join(map(str, inmost["loc"])) or "the body"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {inmost['msg']}") from error


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Liveness: the process is running."""
    return {"status": "live"}


@router.get("/health/ready", response_model=State, responses={503: {"model": State}})
async def ready(request: Request) -> Response:
    """Readiness: a version is in service, and the database or the local spool accepts log entries."""
    state = await asyncio.to_thread(services(request).deployment.state)
    return _json(state.model_dump(), HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus text format."""
    here = services(request)
    spooled = (await asyncio.to_thread(here.deployment.state)).spooled
    here.metrics.spooled.set(spooled or 0)
    return Response(here.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _json(content: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
