"""The door in front of the console's own server, and how a person is turned away: to the login, or with the reason."""

from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmlops.console.door import LOGIN, READING, Door, Refusal
from openmlops.console.rendering import SECURITY, refused_page

BODY_BYTES = 256 * 1024
"""largest body of a change: a form"""
NOSNIFF = (b"x-content-type-options", b"nosniff")


class Doorway:
    """One ASGI middleware: who is refused reaches nothing behind it."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, path = Headers(scope=scope), scope["path"]
        if scope["method"] in READING:
            refusal = self._door.unread(path, headers)
        else:
            refusal = self._door.unchanged(path, headers) or _too_large(headers)
        answer = turned_away(refusal, scope) if refusal else self._app
        return await answer(scope, receive, _marked(send))


def turned_away(refusal: Refusal, scope: Scope) -> Response:
    """The answer to a refused request: whoever only lacks a login is led there."""
    status, detail, more = refusal
    headers = Headers(scope=scope)
    if status == HTTPStatus.UNAUTHORIZED and "authorization" not in headers:
        where = f"{LOGIN}?next={quote(scope['path'])}"
        if "hx-request" in headers:
            return Response(status_code=status, headers={**more, "HX-Redirect": where})
        if scope["method"] in READING and "text/html" in headers.get("accept", ""):
            return RedirectResponse(where, HTTPStatus.SEE_OTHER)
    return HTMLResponse(refused_page(status, detail), status, {**more, **SECURITY})


def _marked(send: Send) -> Send:
    """`send`, each answer marked as nothing but what it says it is."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), NOSNIFF]
        await send(message)

    return marked


def _too_large(headers: Headers) -> Refusal | None:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) <= BODY_BYTES:
        return None
    detail = f"The body must say its length, and be at most {BODY_BYTES} bytes"
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"}
