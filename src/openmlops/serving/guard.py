"""Admission control of requests before they are read: concurrency, access, origin and body size.

One ASGI middleware, so that a request is refused before any work is done for it.
"""

import asyncio
import time
from contextlib import suppress
from functools import cache
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmlops.serving.config import Limits
from openmlops.serving.metrics import Metrics
from openmlops.serving.problems import problem
from openmlops.web.access import CLOSE_CONNECTION, SAFE_METHODS, AccessPolicy, Refusal, is_page
from openmlops.web.headers import NOSNIFF
from openmlops.web.middleware import ErrorPage, refusal_response


class Guard:
    """Limits concurrency and body size; access is decided by `web.access`."""

    def __init__(self, app: ASGIApp, limits: Limits, access: AccessPolicy, metrics: Metrics, error_page: ErrorPage) -> None:
        self._app, self._access, self._error_page = app, access, error_page
        self._limits = limits
        self._metrics = metrics
        self._in_flight = 0
        self._answered = cache(metrics.requests.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send, is_reading = self._answering(scope, send), scope["method"] in SAFE_METHODS
        headers = Headers(scope=scope)
        if refusal := self._access.read_refusal(scope["path"], headers) if is_reading else self._refusal(scope, headers):
            await self._refuse(refusal, scope, receive, send)
        elif is_reading:
            await self._app(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._in_flight += 1
        self._metrics.in_flight.inc()
        started = time.perf_counter()
        try:
            with suppress(ClientDisconnect):  # there is nobody left to answer
                await self._app(scope, self._bounded(receive), send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()
            self._metrics.latency.observe(time.perf_counter() - started)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Why a request that predicts or changes something is refused; None if it is allowed."""
        if self._in_flight >= self._limits.in_flight:
            detail = f"{self._in_flight} requests are in progress, which is the limit; try again later"
            return HTTPStatus.SERVICE_UNAVAILABLE, detail, CLOSE_CONNECTION
        if found := self._access.write_refusal(scope["path"], headers):
            return found
        if int(headers.get("content-length", "0")) > self._limits.body_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, CLOSE_CONNECTION
        return None

    @property
    def _too_large(self) -> str:
        return f"The body is larger than {self._limits.body_bytes} bytes"

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` with limits: raises 413 beyond the body size and 408 beyond the body time."""
        ends, left = time.monotonic() + self._limits.body_seconds, self._limits.body_bytes
        more = True

        async def bounded() -> Message:
            nonlocal left, more
            if not more:
                return await receive()
            try:
                async with asyncio.timeout(ends - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(
                    HTTPStatus.REQUEST_TIMEOUT, "The body was not received in time", {"Connection": "close"}
                ) from None
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)
            if left < 0:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, {"Connection": "close"})
            return message

        return bounded

    def _answering(self, scope: Scope, send: Send) -> Send:
        """`send` that counts responses and adds the nosniff header."""

        async def translating_errors(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(scope["method"], message["status"]).inc()
                message["headers"] = [*message.get("headers", ()), NOSNIFF]
            await send(message)

        return translating_errors

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        """Send problem details to API clients, a page to browsers."""
        status, detail, headers = refusal
        path = scope["path"]
        page = refusal_response(refusal, scope, self._error_page) if is_page(path) else problem(status, detail, path, headers)
        await page(scope, receive, send)
