"""Our own routes: predict, feedback, trigger, health, metrics."""

import asyncio
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from openmlops.adapters.decisions import requested
from openmlops.core.types import Value
from openmlops.errors import LabelConflict, PredictionNotFound
from openmlops.serving import schemas
from openmlops.serving.batching import Prediction
from openmlops.serving.deployment import State
from openmlops.serving.problems import unavailable
from openmlops.serving.reading import files, is_multipart
from openmlops.serving.services import services

router = APIRouter()

Told = TypeVar("Told", bound=Value)


@router.post(
    "/predict",
    response_model=schemas.PredictionAnswer | schemas.PredictionAnswers,
    openapi_extra=schemas.PREDICT_BODY,
    responses=schemas.refusals(400, 401, 408, 413, 422, 503),
)
async def predict(request: Request) -> Response:
    """Classify one image (the body is a PNG or JPEG) or several (multipart). Answered once it is in the log."""
    arrived, here = time.perf_counter(), services(request)
    several = is_multipart(request)
    contents = await files(request, here.config.limits.images) if several else [await request.body()]
    images = await here.reader.decode(contents)
    prediction = await here.batcher.predict(images, contents, arrived)
    answers = [_answer(prediction, row) for row in range(len(images))]
    return _json({"predictions": answers} if several else answers[0])


def _answer(prediction: Prediction, row: int) -> dict[str, Any]:
    served, probabilities = prediction.predictor, prediction.outputs.probabilities[row].tolist()
    label = max(range(len(probabilities)), key=probabilities.__getitem__)
    return {
        "prediction_id": prediction.ids[row],
        "model": {"name": served.name, "version": served.version},
        "label": label,
        "class_name": served.classes[label],
        "probability": probabilities[label],
        "probabilities": dict(zip(served.classes, probabilities, strict=True)),
    }


@router.post(
    "/feedback",
    response_model=schemas.FeedbackAnswer,
    openapi_extra=schemas.FEEDBACK_BODY,
    responses=schemas.refusals(401, 404, 408, 409, 413, 422, 503),
)
async def feedback(request: Request) -> Response:
    """Tell the true label of a prediction, once. Another label for the same prediction is a conflict."""
    here = services(request)
    told = _told(schemas.Feedback, await request.body())
    try:
        new = await asyncio.to_thread(here.log.label, told.prediction_id, told.label, datetime.now(UTC))
    except PredictionNotFound as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error
    except LabelConflict as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
    here.metrics.labels.inc(new)
    return _json({"prediction_id": told.prediction_id, "recorded": new})


@router.post(
    "/trigger",
    status_code=HTTPStatus.ACCEPTED,
    response_model=schemas.TriggerAnswer,
    openapi_extra=schemas.TRIGGER_BODY,
    responses=schemas.refusals(401, 408, 413, 422, 503),
)
async def trigger(request: Request) -> Response:
    """Ask the watchers (`openmlops watch`) for a turn of the loop: for webhooks of other systems. Kept among the decisions."""
    here = services(request)
    reason = _told(schemas.Trigger, await request.body()).reason
    served = here.deployment.current
    if served is None:
        raise unavailable("No version is in service, so there is nothing to watch")
    record = requested(served.name, served.version, reason, by="the HTTP interface", now=datetime.now(UTC))
    await asyncio.to_thread(here.decisions.append, record)
    return _json({"decision_id": record.id}, HTTPStatus.ACCEPTED)


def _told(schema: type[Told], body: bytes) -> Told:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}") from error


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/health/ready", response_model=State, responses={503: {"model": State}})
async def ready(request: Request) -> Response:
    """Whether predictions are answered: a version is in service and the database, where they are logged, answers."""
    state = services(request).deployment.state
    return _json(state.model_dump(), HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(services(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _json(content: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
