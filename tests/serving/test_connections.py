"""No client takes the places of others: not by waiting, not by sending slowly, not by asking for too much at once."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from servers import given, png
from test_refused import locked
from versions import World, images

from openmlops.serving.app import create_app
from openmlops.serving.config import Limits, ServingConfig
from openmlops.serving.guard import Guard
from openmlops.serving.run import Workers
from openmlops.web.connections import LimitedProtocol, connections_within
from openmlops.web.sockets import bind

PNG = png(images(1)[0])
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


@dataclass
class Address:
    """A server in this process; a client of it may come from any address of this machine."""

    port: int
    app: FastAPI

    async def opened(self, sent: bytes = b"", of: str = "127.0.0.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(of, 0))
        writer.write(sent)
        await writer.drain()
        return reader, writer

    async def ask(self, sent: bytes, of: str = "127.0.0.1") -> int:
        reader, writer = await self.opened(sent, of)
        try:
            return int((await asyncio.wait_for(reader.readuntil(b"\r\n"), 120)).split()[1])
        finally:
            writer.close()

    async def predict(self, of: str = "127.0.0.1", content: bytes = PNG) -> int:
        return await self.ask(HEAD % len(content) + content, of)

    async def get(self, path: str) -> int:
        return await self.ask(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())

    async def is_up(self) -> bool:
        try:
            return await self.get("/health/ready") == 200
        except (OSError, EOFError):
            return False

    async def until_in_progress(self, requests: int) -> None:
        """Until so many have a place."""
        while self._guard()._places.total() != requests:
            await asyncio.sleep(0.01)

    async def until_received(self, size: int) -> None:
        """Until so many bytes of bodies have come, of all requests together."""
        while self._guard()._bytes.total() != size:
            await asyncio.sleep(0.01)

    def _guard(self) -> Guard:
        found: Any = self.app.middleware_stack
        while not isinstance(found, Guard):
            found = found.app
        return found


@asynccontextmanager
async def serving(world: World, most: int = 1000, **limits: float) -> AsyncIterator[Address]:
    app = create_app(ServingConfig(**given(world), limits=Limits(**limits)))
    listening = bind("127.0.0.1", 0)
    settings = uvicorn.Config(app, log_config=None, http=LimitedProtocol, limit_concurrency=most, timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    task = asyncio.create_task(server._serve([listening]))
    address = Address(listening.getsockname()[1], app)
    try:
        while not server.started or not await address.is_up():
            await asyncio.sleep(0.02)
        yield address
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def promoted(world: World) -> World:
    world.promote(1)
    return world


@pytest.mark.parametrize("sent", [b"", b"GET /", HEAD % 100 + b"half"], ids=["nothing", "half a header", "half a body"])
def test_connections_that_wait_take_no_place(promoted, sent):
    async def run() -> None:
        async with serving(promoted, most=30, in_flight=4) as server:
            waiting = [await server.opened(sent) for _ in range(100)]
            assert await server.get("/health/live") == 200
            assert await server.get("/health/ready") == 200
            assert await server.predict() == 200
            for _, writer in waiting:
                writer.close()

    asyncio.run(run())


def test_the_connections_of_the_address_that_has_most_are_closed_first(promoted):
    async def run() -> None:
        async with serving(promoted, most=30) as server:
            reader, writer = await server.opened(b"GET /health/live HTTP/1.1\r\n", of="127.0.0.2")
            flood = [await server.opened() for _ in range(60)]
            writer.write(b"Host: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).split()[1] == b"200"
            for _, each in [*flood, (reader, writer)]:
                each.close()

    asyncio.run(run())


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"], ids=["nothing", "half a header"])
def test_a_header_that_does_not_come_is_not_waited_for(promoted, monkeypatch, sent):
    monkeypatch.setattr(LimitedProtocol, "header_seconds", 0.2)

    async def run() -> None:
        async with serving(promoted) as server:
            reader, writer = await server.opened(sent)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), 120)
            writer.close()

    asyncio.run(run())


def test_a_second_header_that_does_not_come_is_not_waited_for_and_a_slow_answer_is(promoted, monkeypatch):
    monkeypatch.setattr(LimitedProtocol, "header_seconds", 0.2)

    async def run() -> None:
        async with serving(promoted) as server:
            reader, writer = await server.opened()
            with locked(promoted):
                writer.write(HEAD % len(PNG) + PNG)
                await server.until_in_progress(1)
                await asyncio.sleep(0.5)  # longer than a header may take
            assert (await reader.readuntil(b"\r\n")).split()[1] == b"200"
            writer.write(b"GET /")
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                while True:
                    await asyncio.wait_for(reader.readexactly(1), 120)
            writer.close()

    asyncio.run(run())


def test_beyond_the_limit_requests_are_refused_at_once_and_an_address_has_a_share(promoted):
    async def run() -> None:
        async with serving(promoted, in_flight=4, address_share=0.5, log_seconds=120) as server:
            with locked(promoted):
                one = [asyncio.create_task(server.predict()) for _ in range(2)]
                await server.until_in_progress(2)
                assert await server.predict() == 503
                other = [asyncio.create_task(server.predict("127.0.0.2")) for _ in range(2)]
                await server.until_in_progress(4)
                assert await server.predict("127.0.0.3") == 503
                assert await server.get("/health/ready") == 200
            assert [await each for each in (*one, *other)] == [200] * 4
            assert await server.predict() == 200

    asyncio.run(run())


def test_bodies_of_all_requests_together_are_bounded(promoted):
    async def run() -> None:
        async with serving(promoted, bodies_bytes=100_000, address_share=0.5) as server:
            half = HEAD % 60_000 + bytes(45_000)
            _, one = await server.opened(half)
            await server.until_received(45_000)
            assert await server.ask(half) == 503
            _, two = await server.opened(half, of="127.0.0.2")
            await server.until_received(90_000)
            assert await server.ask(half, of="127.0.0.3") == 503
            for each in (one, two):
                each.close()
            await server.until_received(0)
            assert await server.predict() == 200

    asyncio.run(run())


@pytest.mark.parametrize(("limits", "found"), [((64, 64), 8), ((1024, 1024), 500), ((64, 100_000), 500)])
def test_connections_leave_room_for_files(monkeypatch, caplog, limits, found):
    given_ = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, value: given_.append(value))
    monkeypatch.setattr(os, "listdir", lambda folder: ["0"] * 40)  # what other tests left open is not of interest here
    assert connections_within(500) == found
    assert given_ == ([(65_536, 100_000)] if limits[0] < limits[1] else [])
    assert ("at most 8 connections" in caplog.text) == (found < 500)


class Child:
    """A process as its supervisor sees it: it answers once it has started."""

    def __init__(self, pid: int, is_alive: bool = True) -> None:
        self.pid, self.process, self._is_alive = pid, self, is_alive
        self.parent_conn, self.child_conn = Pipe()
        self.exitcode, self.was_killed = None, False

    def is_alive(self, timeout: float = 0) -> bool:
        return self._is_alive and not timeout

    def kill(self) -> None:
        self.was_killed = True

    def join(self) -> None:
        pass

    def start(self) -> None:
        pass


def test_a_worker_that_starts_slowly_is_waited_for_and_one_that_hangs_or_died_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.Process", lambda config, sockets: Child(9))
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.signal.signal", lambda *given: None)
    workers = Workers(uvicorn.Config("none"), [], tmp_path)
    slow, hung, dead = Child(1), Child(2), Child(3, is_alive=False)
    workers.processes = [slow, hung, dead]
    hung.child_conn.send(True)
    forgotten: list[int] = []
    monkeypatch.setattr("openmlops.serving.run.forget_worker", lambda pid, folder: forgotten.append(pid))
    workers.keep_subprocess_alive()
    workers.keep_subprocess_alive()
    assert sorted(forgotten) == [2, 3]
    assert (slow.was_killed, hung.was_killed, dead.was_killed) == (False, True, True)
    assert workers.processes[0] is slow
    assert [each.pid for each in workers.processes[1:]] == [9, 9]
    monkeypatch.setattr("openmlops.serving.run.START_SECONDS", 0.0)
    workers.keep_subprocess_alive()
    assert slow.was_killed
