"""What every request passes before anything reads it: how many at once, who may, from where, and how large a body.

One ASGI middleware, because each refusal must come before the work that it saves.
"""

import asyncio
import hmac
import time
from functools import cache
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmlops.serving.config import ServingConfig, is_loopback
from openmlops.serving.metrics import Metrics
from openmlops.serving.problems import problem

SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Reading is free for all; whatever predicts or changes something is not."""

    def __init__(self, app: ASGIApp, config: ServingConfig, metrics: Metrics) -> None:
        self._app = app
        self._limits = config.limits
        self._token = config.api_token.get_secret_value().encode()
        self._metrics = metrics
        self._in_flight = 0
        self._answered = cache(metrics.requests.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] in SAFE:
            await self._app(scope, receive, self._counting(scope, send))
        else:
            await self._guarded(scope, receive, self._counting(scope, send))

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._refusal(Headers(scope=scope)):
            status, detail, headers = refusal
            await problem(status, detail, scope["path"], headers)(scope, receive, send)
            return
        self._in_flight += 1
        self._metrics.in_flight.inc()
        started = time.perf_counter()
        try:
            await self._app(scope, self._bounded(receive), send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()
            self._metrics.latency.observe(time.perf_counter() - started)

    def _refusal(self, headers: Headers) -> tuple[HTTPStatus, str, dict[str, str]] | None:
        closing = {"Connection": "close"}
        if self._in_flight >= self._limits.in_flight:
            detail = f"{self._in_flight} requests are being answered, which is the most at once; try again"
            return HTTPStatus.SERVICE_UNAVAILABLE, detail, closing
        if self._token and not hmac.compare_digest(_bearer(headers), self._token):
            detail = "This needs the header 'Authorization: Bearer TOKEN' with the server's API_TOKEN"
            return HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer", **closing}
        if not self._token and not _is_from_here(headers.get("origin", "")):
            detail = f"A page of {headers['origin']} may not use this server; it has no token that would tell who asks"
            return HTTPStatus.FORBIDDEN, detail, closing
        if int(headers.get("content-length", "0")) > self._limits.body_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, closing
        return None

    @property
    def _too_large(self) -> str:
        return f"The body is larger than {self._limits.body_bytes} bytes"

    def _bounded(self, receive: Receive) -> Receive:
        """`receive`, ended with 413 beyond the bytes and with 408 beyond the time that a body may take."""
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
                    HTTPStatus.REQUEST_TIMEOUT, "The body did not come in time", {"Connection": "close"}
                ) from None
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)
            if left < 0:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, {"Connection": "close"})
            return message

        return bounded

    def _counting(self, scope: Scope, send: Send) -> Send:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(scope["method"], message["status"]).inc()
            await send(message)

        return counting


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""


def _is_from_here(origin: str) -> bool:
    """No browser, or a page from this machine: another site must not reach a server that trusts its own machine."""
    host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
    return not origin or is_loopback(host)
