"""Admission control of requests before they are read: concurrency, access, origin and body size.

One ASGI middleware, so that a request is refused before any work is done for it.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openmlops.serving.config import Limits
from openmlops.serving.metrics import Metrics
from openmlops.serving.problems import problem
from openmlops.web.access import CLOSE_CONNECTION, SAFE_METHODS, AccessPolicy, Refusal, is_page
from openmlops.web.headers import NOSNIFF
from openmlops.web.middleware import ErrorPage, refusal_response

SKIPPED_BYTES = 64 * 1024
"""a body that is received even if there is no place: a connection that is kept costs less than another one"""


class Guard:
    """Limits concurrency and body size; access is decided by `web.access`."""

    def __init__(self, app: ASGIApp, limits: Limits, access: AccessPolicy, metrics: Metrics, error_page: ErrorPage) -> None:
        self._app, self._access, self._error_page = app, access, error_page
        self._limits = limits
        self._metrics = metrics
        self._places: Counter[str] = Counter()
        """requests in progress by address"""
        self._bytes: Counter[str] = Counter()
        """bytes of their bodies, and of those that are being received"""
        self._answered = cache(metrics.requests.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send, is_reading = self._answering(scope, send), scope["method"] in SAFE_METHODS
        if scope["method"] == "HEAD":  # answered as GET, and uvicorn sends the header only
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        if refusal := self._access.read_refusal(scope["path"], headers) if is_reading else self._refusal(scope, headers):
            await self._refuse(refusal, scope, receive, send)
        elif is_reading:
            await self._app(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body, then take a place: a client that sends slowly takes nobody's."""
        address, body = str((scope.get("client") or ("",))[0]), _Body()
        try:
            with suppress(ClientDisconnect):  # there is nobody left to answer
                if (refusal := await self._receive(body, address, receive)) or (refusal := self._busy(address)):
                    await self._refuse(refusal, scope, receive, send)
                else:
                    await self._placed(scope, address, body.then(receive), send)
        finally:
            _give_back(self._bytes, address, body.size)

    async def _placed(self, scope: Scope, address: str, receive: Receive, send: Send) -> None:
        self._places[address] += 1
        self._metrics.in_flight.inc()
        started = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            _give_back(self._places, address, 1)
            self._metrics.in_flight.dec()
            self._metrics.latency.observe(time.perf_counter() - started)

    def _busy(self, address: str) -> Refusal | None:
        """Why there is no place for a request, of all or of its address."""
        taken, most = self._places.total(), self._limits.in_flight
        if taken >= most:
            return _unavailable(f"{taken} requests are in progress, which is the limit", {})
        if self._places[address] >= max(1, most * self._limits.address_share):
            return _unavailable(f"{self._places[address]} requests of {address} are in progress, which is its share", {})
        return None

    async def _receive(self, body: "_Body", address: str, receive: Receive) -> Refusal | None:
        """Receive the whole body; the reason if it is too large, too slow, or too much with all others."""
        most, closing = self._limits.bodies_bytes, CLOSE_CONNECTION
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while body.more:
                    size = body.add(await receive())
                    self._bytes[address] += size
                    if body.size > self._limits.body_bytes:
                        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, closing
                    if size and self._bytes.total() > most:
                        return _unavailable(f"The bodies of all requests are larger than {most} bytes")
                    if size and self._bytes[address] > most * self._limits.address_share:
                        return _unavailable(
                            f"The bodies of the requests of {address} are larger than its share of {most} bytes"
                        )
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT, "The body was not received in time", closing
        return None

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Why a request that predicts or changes something is refused; None if it is allowed."""
        if found := self._access.write_refusal(scope["path"], headers):
            return found
        length = int(headers.get("content-length", "0"))
        if length > self._limits.body_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, CLOSE_CONNECTION
        if self._places.total() >= self._limits.in_flight and (length > SKIPPED_BYTES or "content-length" not in headers):
            return _unavailable("All places are taken, and this body is large")
        return None

    @property
    def _too_large(self) -> str:
        return f"The body is larger than {self._limits.body_bytes} bytes"

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


class _Body:
    """A body that is received before the application begins."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size, self.more = 0, True

    def add(self, message: Message) -> int:
        """Take one message; the number of bytes. Raises ClientDisconnect."""
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        self._parts.append(part)
        self.size += len(part)
        self.more = message.get("more_body", False)
        return len(part)

    def then(self, receive: Receive) -> Receive:
        """`receive` that gives the body first."""
        waiting = [b"".join(self._parts)]
        self._parts.clear()

        async def replayed() -> Message:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(), "more_body": False}
            return await receive()

        return replayed


def _give_back(taken: Counter[str], address: str, amount: int) -> None:
    taken[address] -= amount
    if taken[address] <= 0:
        del taken[address]


def _unavailable(detail: str, headers: dict[str, str] = CLOSE_CONNECTION) -> Refusal:
    return HTTPStatus.SERVICE_UNAVAILABLE, f"{detail}; try again later", headers
