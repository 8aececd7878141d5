"""Access control as ASGI middleware; a refused request is redirected to the login page or gets the reason."""

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmlops.web.access import LOGIN, SAFE_METHODS, AccessPolicy, Refusal
from openmlops.web.headers import NOSNIFF, PAGE_HEADERS

ErrorPage = Callable[[int, str], str]
"""status, detail -> HTML"""
BODY_BYTES = 256 * 1024
"""largest request body, a form"""


class AccessMiddleware:
    """Rejects refused requests before they reach the application."""

    def __init__(self, app: ASGIApp, access: AccessPolicy, error_page: ErrorPage) -> None:
        self._app, self._access, self._error_page = app, access, error_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, path = Headers(scope=scope), scope["path"]
        if scope["method"] in SAFE_METHODS:
            refusal = self._access.read_refusal(path, headers)
        else:
            refusal = self._access.write_refusal(path, headers) or _too_large(headers)
        response = refusal_response(refusal, scope, self._error_page) if refusal else self._app
        with suppress(ClientDisconnect):  # there is nobody left to answer
            await response(scope, receive, _with_nosniff(send))
        return None


def refusal_response(refusal: Refusal, scope: Scope, error_page: ErrorPage) -> Response:
    """The response to a refused request: a redirect to the login page if only the login is missing."""
    status, detail, more = refusal
    headers = Headers(scope=scope)
    if status == HTTPStatus.UNAUTHORIZED and "authorization" not in headers:
        where = f"{LOGIN}?next={quote(scope['path'])}"
        if "hx-request" in headers:
            return Response(status_code=status, headers={**more, "HX-Redirect": where})
        if scope["method"] in SAFE_METHODS and "text/html" in headers.get("accept", ""):
            return RedirectResponse(where, HTTPStatus.SEE_OTHER)
    return HTMLResponse(error_page(status, detail), status, {**more, **PAGE_HEADERS})


def _with_nosniff(send: Send) -> Send:
    """`send` that adds the nosniff header."""

    async def with_nosniff(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), NOSNIFF]
        await send(message)

    return with_nosniff


def _too_large(headers: Headers) -> Refusal | None:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) <= BODY_BYTES:
        return None
    detail = f"The body must have a Content-Length of at most {BODY_BYTES} bytes"
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"}
