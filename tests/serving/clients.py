"""Clients that keep a server busy from another thread, and remember every answer that they got."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from servers import png
from versions import images


@dataclass
class Traffic:
    """What the clients saw. `acknowledged` maps a prediction's id to the version that its answer named."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    dropped: int = 0
    """connections that ended without an answer"""
    pause: float = 0.0
    """seconds that each client waits after an answer"""

    def note(self, status: int, body: bytes) -> None:
        """Take one answer down."""
        self.requests += 1
        if status != 200:
            self.failed.append(f"{status} {body[:200]!r}")
            return
        answer = json.loads(body)
        assert answer["prediction_id"] not in self.acknowledged
        self.acknowledged[answer["prediction_id"]] = answer["model"]["version"]


@contextmanager
def busy(port: int, clients: int = 16, pause: float = 0.0) -> Iterator[Traffic]:
    """`clients` connections send images one after the other until the block ends, each `pause` seconds after an answer; a
    dropped one is opened again."""
    traffic, stop = Traffic(pause=pause), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_send_all(port, clients, traffic, stop)))
    thread.start()
    try:
        yield traffic
    finally:
        stop.set()
        thread.join()


async def _send_all(port: int, clients: int, traffic: Traffic, stop: threading.Event) -> None:
    bodies = [png(image) for image in images(64)]
    await asyncio.gather(*(_send(port, bodies[client::clients], traffic, stop) for client in range(clients)))


async def _send(port: int, bodies: list[bytes], traffic: Traffic, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            await _converse(port, bodies, traffic, stop)
        except (ConnectionError, asyncio.IncompleteReadError):
            traffic.dropped += 1
            await asyncio.sleep(0.02)


async def _converse(port: int, bodies: list[bytes], traffic: Traffic, stop: threading.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not stop.is_set():
            body = bodies[traffic.requests % len(bodies)]
            writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            traffic.note(int(head.split()[1]), answer)
            await asyncio.sleep(traffic.pause)
    finally:
        writer.close()
