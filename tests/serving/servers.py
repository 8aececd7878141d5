"""A real server in a process of its own, on a free loopback port, and small images to send to it.

The process is forked from one that has imported the server already, which is 1.6 of the 2 cpu-seconds of a start.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from versions import MODEL, World

import forks
from openmlops.serving.config import ServingConfig
from openmlops.serving.run import serve
from ports import free_port

PATIENT = {"log_seconds": 60.0}
"""limits by which no request is refused because other processes have the cores"""


def launch(config: dict[str, Any]) -> None:
    """What the process of a server does."""
    serve(ServingConfig(**config))


class Server:
    """A started server: its process, its address, and a client of it."""

    def __init__(self, process: Any, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self.client = httpx.Client(base_url=url, timeout=120)

    def predict(self, content: bytes, **kwargs: Any) -> httpx.Response:
        """Send one image."""
        return self.client.post("/predict", content=content, **kwargs)

    def serving(self) -> int | None:
        """The version in service."""
        return self.client.get("/health/ready").json()["serving"]

    def wait_until(self, holds: Any, seconds: float = 240) -> None:
        """Until `holds()` is true."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, now."""
        self.process.kill()
        self.process.join()


@contextmanager
def running(world: World, **config: Any) -> Iterator[Server]:
    """A server over `world` until the block ends; SIGTERM then must end it."""
    server = start(world, **config)
    try:
        yield server
    finally:
        server.client.close()
        server.process.terminate()
        server.process.join(240)
        assert server.process.exitcode is not None


def start(world: World, **config: Any) -> Server:
    """Start a server and wait until it answers."""
    port = config.get("port") or free_port()
    log = world.home / f"server-{port}.log"
    process = forks.start(log, launch, {**given(world), "port": port, **config})
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        server.wait_until(lambda: answers(server))
    except BaseException:
        server.kill()
        raise
    return server


def given(world: World) -> dict[str, Any]:
    """What a server of `world` is told."""
    known = {"model": MODEL, "use_case": "cifar10", "home": str(world.home), "database_url": world.url, "poll_seconds": 0.05}
    return {**known, "tracking_uri": f"sqlite:///{world.home / 'mlflow.db'}"}


def answers(server: Server) -> bool:
    assert server.process.exitcode is None, server.log.read_text()[-2000:]
    try:
        return server.client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    return buffer.getvalue()
