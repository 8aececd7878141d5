"""The demo's server: `openmlops serve` in a subprocess on a free port."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from openmlops.errors import ServiceUnavailable

START_SECONDS = 60


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """Yield the URL of a ready server, whose output goes to `log`; it is terminated on exit."""
    port = _free_port()
    command = [sys.executable, "-m", "openmlops", "serve", "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            _wait(server, url := f"http://127.0.0.1:{port}", log)
            yield url
        finally:
            server.terminate()


def served_version(url: str) -> int | None:
    """The version that the server reports as serving; None if there is none."""
    return requests.get(f"{url}/health/ready", timeout=10).json()["serving"]


def _wait(server: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(f"{url}/health/ready", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass  # not listening yet
        time.sleep(0.1)
    raise ServiceUnavailable("The demo's server did not become ready", f"See {log}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
