"""An image that makes the decoder abort, raise or sleep hurts its own client."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import poison
import psutil
import pytest
from servers import PATIENT, Server, given, png
from versions import World, images

import forks
from openmlops.serving.config import ServingConfig
from openmlops.serving.run import serve_supervised
from ports import free_port

PNG = png(images(1)[0])
LARGE = png(np.zeros((400, 400, 3), np.uint8))


def launch(config: dict[str, Any]) -> None:
    """What `openmlops serve` does."""
    serve_supervised(ServingConfig(**config))


@pytest.fixture
def server(world: World):
    world.promote(1)
    port, log = free_port(), world.home / "server.log"
    process = forks.start(log, launch, {**given(world), "use_case": "poison:USE_CASE", "port": port, "limits": PATIENT})
    found = Server(process, f"http://127.0.0.1:{port}", log)
    found.wait_until(lambda: listens(found))
    yield found
    found.client.close()
    process.terminate()
    process.join(240)
    assert process.exitcode is not None


def listens(server: Server) -> bool:
    assert server.process.exitcode is None, server.log.read_text()[-2000:]
    try:
        return server.serving() == 1
    except httpx.TransportError:
        return False


def child(server: Server) -> int:
    """The process that serves."""
    (found,) = psutil.Process(server.process.pid).children()
    return int(found.pid)


def test_an_image_that_aborts_the_process_costs_others_nothing_but_a_moment(server: Server, world: World) -> None:
    """Connections that come in meanwhile wait for the next process: none is refused."""
    kept = [server.predict(PNG).json()["prediction_id"] for _ in range(3)]
    for turn in range(2):
        before = child(server)
        with httpx.Client(base_url=server.url, timeout=120) as victim, pytest.raises(httpx.TransportError):
            victim.post("/predict", content=PNG + poison.ABORT)
        with httpx.Client(base_url=server.url, timeout=120) as other:
            answer = other.post("/predict", content=PNG)
        assert answer.status_code in (200, 503), answer.text
        server.wait_until(lambda: listens(server))
        kept.append(server.predict(PNG).json()["prediction_id"])
        assert child(server) != before, turn
    assert set(kept) <= set(world.logged(1))
    assert server.log.read_text().count("the server process died of SIGABRT; it is replaced") == 2


def sleep(server: Server, until: Path) -> None:
    httpx.post(f"{server.url}/predict", content=LARGE + poison.sleeping(until), timeout=2 * poison.MOST_SECONDS)


def test_an_image_that_makes_the_decoder_raise_or_sleep_leaves_the_others_alone(server: Server, tmp_path: Path) -> None:
    awake = tmp_path / "awake"
    before, slow = child(server), threading.Thread(target=sleep, args=(server, awake))
    slow.start()
    try:
        assert httpx.post(f"{server.url}/predict", content=PNG + poison.RAISE, timeout=120).status_code == 500
        for content in (PNG, LARGE) * 3:
            assert httpx.post(f"{server.url}/predict", content=content, timeout=120).status_code == 200
    finally:
        awake.touch()
    slow.join()
    assert child(server) == before


def test_the_server_ends_with_0_when_it_is_told_to(server: Server) -> None:
    served = child(server)
    server.process.terminate()
    server.process.join(240)
    assert server.process.exitcode == 0
    assert not psutil.pid_exists(served)


def test_no_server_outlives_its_parent(server: Server) -> None:
    served = child(server)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.join(240)
    server.wait_until(lambda: not psutil.pid_exists(served) or psutil.Process(served).status() == psutil.STATUS_ZOMBIE)


def test_a_server_that_cannot_start_is_not_started_again(world: World, tmp_path: Path) -> None:
    wrong = given(world) | {"database_url": f"sqlite:///{tmp_path}", "port": free_port()}
    process = forks.start(log := tmp_path / "server.log", launch, wrong)
    process.join(240)
    assert process.exitcode == 1
    assert "replaced" not in log.read_text()
