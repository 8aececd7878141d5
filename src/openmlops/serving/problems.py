"""Errors as RFC 9457 problem details: one format for all error responses.

Under /v2 the text is also in `error`, as clients of the Open Inference Protocol expect.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from openmlops.errors import DataError, OpenMLOpsError, ServiceUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1

log = logging.getLogger(__name__)


def problem(status: int, detail: str, path: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem-details response."""
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": path}
    if path.startswith("/v2"):
        content["error"] = detail
    extra = {"Retry-After": str(RETRY_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(orjson.dumps(content), status, {**extra, **(headers or {})}, MEDIA_TYPE)


def unavailable(detail: str) -> HTTPException:
    """An HTTPException 503; the handler adds Retry-After."""
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail)


def install(app: FastAPI) -> None:
    """Install handlers that convert every error of `app` into problem details."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(OpenMLOpsError, _ours)
    app.add_exception_handler(Exception, _defect)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), request.url.path, error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {first['msg']}", request.url.path)


async def _ours(request: Request, error: Exception) -> Response:
    statuses = {DataError: HTTPStatus.UNPROCESSABLE_ENTITY, ServiceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE}
    found = next((status for kind, status in statuses.items() if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    return problem(found, str(error), request.url.path)


async def _defect(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; see the server's log", request.url.path)
