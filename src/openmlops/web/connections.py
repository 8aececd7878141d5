"""Connections of an HTTP server: none may wait for its client for ever, nor take the place of one that asks for something.

What is here: time limits for headers, and room for new connections, made by closing those that wait for their client longest,
of the address that has most of them. What is not: requests, whose number, size and time `serving.guard` limits, and the
seconds between two requests, which are uvicorn's.
"""

import logging
import os
import re
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 10.0
"""how long a client may take to send the header of a request, from its connection or the first byte"""
CLOSED_AT_ONCE = 16
"""how many connections make room at once: the search costs as much as for one"""
WANTED_FILES = 65_536
RESERVED_FILES = 64
"""file descriptors for files, databases and models, which connections may not take"""
FEWEST_CONNECTIONS = 8
MOST_HELD = 64 * 1024
"""bytes of a header that are held back; a longer one is passed on as it is"""
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
_MAY_BECOME_UPGRADE = re.compile(rb"\r\n?u?p?g?r?a?d?e?$", re.IGNORECASE)
"""a header that is cut within the name"""

log = logging.getLogger(__name__)


class LimitedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, with the limits of this module. uvicorn's `limit_concurrency` is the number of connections; beyond it
    uvicorn itself would refuse probes too."""

    most: int | None
    header_seconds: float = HEADER_SECONDS
    _since: float = 0.0
    """when the connection, or the header that is being received, began; 0 while a request is in progress or none has begun"""
    _oldest: float = 0.0
    _held: bytes = b""
    """the beginning of a header with `Upgrade`, until the rest of it is here"""

    def connection_made(self, transport: Any) -> None:
        """Also makes room, and sets the time limit of the first header."""
        super().connection_made(transport)
        self.most = self.config.limit_concurrency
        self.limit_concurrency: int | None = None
        self._since = self._oldest = self.loop.time()
        if self.most is not None and len(self.connections) > self.most:
            self._make_room(len(self.connections) - self.most)
        self.loop.call_later(self.header_seconds, self._end_if_late, self._since)

    def data_received(self, data: bytes) -> None:
        """Also sets the time limit of the next header, and ends that of a header that is complete."""
        begins = self._awaits_header() and not self._since
        if self._awaits_header():
            data = self._without_upgrade(data)
            if not data:
                return
        super().data_received(data)
        if not self._awaits_header():
            self._since = 0.0
        elif begins:
            self._since = self.loop.time()
            self.loop.call_later(self.header_seconds, self._end_if_late, self._since)

    def _without_upgrade(self, data: bytes) -> bytes:
        """The header without an offer to change the protocol, such as `Upgrade: h2c`, which Java's client makes: nothing else
        is spoken here, and uvicorn's parser drops the body behind one. A header that may have one is held back until it is
        whole."""
        data, self._held = self._held + data, b""
        header, end, body = data.partition(b"\r\n\r\n")
        if b"upgrade" not in header.lower() and (end or not _MAY_BECOME_UPGRADE.search(header)):
            return data
        if not end and len(data) < MOST_HELD:
            self._held = data
            self._start_header()
            return b""
        return _UPGRADE.sub(b"\r\nx-ignored-upgrade:", header) + end + body

    def _start_header(self) -> None:
        if not self._since:
            self._since = self.loop.time()
            self.loop.call_later(self.header_seconds, self._end_if_late, self._since)

    def _awaits_header(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _awaits_client(self) -> bool:
        """Whether a header or body is not complete: nothing is lost for a client that has not asked for anything."""
        return self._awaits_header() or self.cycle.more_body

    def _end_if_late(self, since: float) -> None:
        if self._since == since and self._awaits_header() and not self.transport.is_closing():
            self.transport.abort()

    def _make_room(self, surplus: int) -> None:
        waiting = [each for each in self.connections if each is not self and each._awaits_client()]
        counts = Counter(_address(each) for each in waiting)
        waiting.sort(key=lambda each: (-counts[_address(each)], each._oldest))
        for each in waiting[: max(CLOSED_AT_ONCE, surplus)]:
            each.transport.abort()


def _address(connection: Any) -> str:
    return str(connection.client[0]) if connection.client else ""


def connections_within(most: int) -> int:
    """How many connections, at most `most`, the limit on open files leaves room for. The limit is raised if that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return most
    room = max(FEWEST_CONNECTIONS, soft - RESERVED_FILES - len(os.listdir("/proc/self/fd")) if _has_proc() else soft // 2)
    if room < most:
        log.warning("the limit on open files is %d: at most %d connections at once; raise it (ulimit -n)", soft, room)
    return min(most, room)


def _has_proc() -> bool:
    return os.path.isdir("/proc/self/fd")
