"""The routes of the Open Inference Protocol v2. One model with one version at a time, its champion."""

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from openmlops.errors import DataError
from openmlops.serving import protocol, schemas
from openmlops.serving.batching import Prediction
from openmlops.serving.predictor import Predictor
from openmlops.serving.problems import unavailable
from openmlops.serving.reading import SMALL_BYTES
from openmlops.serving.responses import RESPONSE_FORMATS
from openmlops.serving.services import Services, services
from openmlops.usecases.base import ModelInput

router = APIRouter(prefix="/v2", responses=schemas.refusals(400, 404))


@router.get("/", include_in_schema=False)
@router.get("")
async def server() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "openmlops", "version": installed_version("openmlops"), "extensions": list(protocol.EXTENSIONS)}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Liveness: the process is running."""
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Readiness; the protocol requires a 4xx status if not ready."""
    if not (await asyncio.to_thread(services(request).deployment.state)).ready:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The server is not ready; see /health/ready for the reason")
    return {"ready": True}


@router.get("/models/{name}")
@router.get("/models/{name}/versions/{version}")
async def metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """The model's inputs and outputs."""
    return protocol.metadata(_served(services(request), name, version))


@router.get("/models/{name}/ready")
@router.get("/models/{name}/versions/{version}/ready")
async def model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Readiness of this model or version."""
    served = _served(services(request), name, version)
    return {"name": served.name, "ready": True}


@router.post("/models/{name}/infer", openapi_extra=schemas.INFER_BODY, responses=schemas.refusals(401, 408, 413, 503))
@router.post(
    "/models/{name}/versions/{version}/infer", openapi_extra=schemas.INFER_BODY, responses=schemas.refusals(401, 408, 413, 503)
)
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Predict a batch of images, as JSON or as binary data after the JSON: pixels, UINT8 (n, height, width, 3), or files of the
    formats that /predict takes, BYTES (n) (base64 in JSON)."""
    arrived, here = time.perf_counter(), services(request)
    served = _served(here, name, version)
    inference_request = await _read(request, served, here.config.limits.images)
    model_input = await _model_input(here, served, inference_request.images)
    prediction = await here.batcher.predict(model_input, inference_request.images, arrived, request.is_disconnected)
    if version is not None:
        _require_version(prediction.predictor, version)
    body, headers = protocol.write(prediction.predictor, inference_request, _tensors(prediction))
    return Response(body, headers=headers)


async def _model_input(here: Services, served: Predictor, images: Sequence[np.ndarray] | Sequence[bytes]) -> ModelInput:
    """Raises HTTPException for a file that cannot be decoded."""
    files = [image for image in images if isinstance(image, bytes)]
    if not files:
        return served.to_model_input([image for image in images if not isinstance(image, bytes)])
    try:
        return await here.reader.read(files, served)
    except DataError as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error


async def _read(request: Request, served: Predictor, most: int) -> protocol.InferRequest:
    if encoding := request.headers.get("content-encoding"):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body has the content encoding {encoding}; send it unencoded"
        )
    length = request.headers.get(protocol.LENGTH_HEADER)
    try:
        body, names = await request.body(), tuple(protocol.output_shapes(served))
        arguments = (body, length, served.image_shape, most, names)
        if len(body) <= SMALL_BYTES:
            return protocol.read(*arguments)
        return await asyncio.to_thread(protocol.read, *arguments)  # JSON and base64 of megabytes would hold up all requests
    except protocol.ProtocolError as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error


def _tensors(prediction: Prediction) -> dict[str, np.ndarray]:
    tensors = RESPONSE_FORMATS[prediction.predictor.task.kind].tensors(prediction.outputs)
    return {"prediction_id": np.array(prediction.ids), **tensors}


def _served(here: Services, name: str, version: str | None) -> Predictor:
    """The serving predictor. Raises HTTPException if the request names another model or version."""
    served = here.deployment.current
    if name != here.config.model:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"Unknown model '{name}'; this server serves '{here.config.model}'")
    if served is None:
        raise unavailable(f"No version of {name} is in service yet")
    if version is not None:
        _require_version(served, version)
    return served


def _require_version(served: Predictor, version: str) -> None:
    if version != str(served.version):
        raise HTTPException(HTTPStatus.NOT_FOUND, f"Version {version} is not in service; {served.version} is")
