"""What was refused is not in the log, and a server that refuses everything says so, within a second and once."""

import asyncio
import io
import os
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import numpy as np
import pytest
from PIL import Image
from servers import given, png
from starlette.requests import ClientDisconnect
from versions import MODEL, World, images

from openmlops.adapters.database import connect, writing
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_store import InputStore
from openmlops.errors import ServiceUnavailable
from openmlops.serving import services as server_services
from openmlops.serving.app import create_app
from openmlops.serving.config import Limits, ServingConfig
from openmlops.web.conditions import Conditions, repeat, thread

SMALL = png(images(1)[0])
LIMIT = 600_000


def large(seed: int = 0) -> bytes:
    """An image whose file is larger than LIMIT."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (512, 512, 3), np.uint8)).save(buffer, "BMP")
    return buffer.getvalue()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Client:
    """Requests to an application in this process."""

    def __init__(self, app) -> None:
        self.app = app
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://127.0.0.1"
        )

    async def predict(self, content: bytes) -> httpx.Response:
        return await self._client.post("/predict", content=content)

    async def ready(self) -> tuple[int, dict]:
        found = await self._client.get("/health/ready")
        return found.status_code, found.json()

    async def text(self, path: str) -> str:
        return (await self._client.get(path)).text

    async def until(self, holds) -> None:
        for _ in range(12_000):
            if await holds():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(await self.ready())

    async def until_ready(self, status: int) -> dict:
        async def holds() -> bool:
            return (await self.ready())[0] == status

        await self.until(holds)
        return (await self.ready())[1]


def served(world: World, asked, **limits: float) -> None:
    """Ask a server in this process."""

    async def run() -> None:
        app = create_app(ServingConfig(**given(world), limits=Limits(**limits)))
        async with app.router.lifespan_context(app):
            client = Client(app)
            await client.until_ready(200)
            await asked(client)

    asyncio.run(run())


@pytest.fixture
def promoted(world: World) -> World:
    world.promote(1)
    return world


def told(caplog, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_prediction_whose_input_cannot_be_stored_is_not_logged_and_the_server_says_so_once(promoted, caplog):
    caplog.set_level("INFO")

    async def asked(client: Client) -> None:
        accepted = (await client.predict(SMALL)).json()["prediction_id"]
        with files_up_to(LIMIT):
            for seed in range(3):
                assert (await client.predict(large(seed))).status_code == 503
            status, state = await client.ready()
            assert (status, state["stores"]) == (503, False)
            assert "inputs: The input" in state["problem"]
            assert 'openmlops_problem{part="inputs"} 1.0' in await client.text("/metrics")
            assert "inputs: " in await client.text(f"/console/models/{MODEL}/parts/alarm")
            await asyncio.sleep(1)  # two of the server's own attempts, which fail as well
            assert (await client.ready())[0] == 503
        assert (await client.until_ready(200))["problem"] is None
        assert 'openmlops_problem{part="inputs"} 0.0' in await client.text("/metrics")
        last = (await client.predict(large())).json()["prediction_id"]
        assert set(promoted.logged(1)) == {accepted, last}

    served(promoted, asked)
    assert (told(caplog, "inputs: The input"), told(caplog, "inputs: works again")) == (1, 1)


def test_a_database_that_is_full_is_said_once_and_when_it_is_over(promoted, caplog):
    caplog.set_level("INFO")

    async def asked(client: Client) -> None:
        accepted = (await client.predict(SMALL)).json()["prediction_id"]
        wal = os.stat(promoted.home / "openmlops.db-wal").st_size
        with files_up_to(wal + 5000):
            answers = [await client.predict(png(image)) for image in images(20)]
            assert {answer.status_code for answer in answers} >= {503}
            status, state = await client.ready()
            assert (status, state["stores"]) == (503, False)
            assert "inference log: The SQLite file" in state["problem"]
        await client.until_ready(200)
        known = [accepted, *(a.json()["prediction_id"] for a in answers if a.status_code == 200)]
        assert sorted(promoted.logged(1)) == sorted(known)

    served(promoted, asked)
    assert (told(caplog, "inference log: The SQLite"), told(caplog, "inference log: works again")) == (1, 1)


def test_an_idle_server_finds_out_by_itself_that_inputs_cannot_be_stored(promoted):
    async def asked(client: Client) -> None:
        (promoted.home / "inputs").rename(promoted.home / "elsewhere")
        (promoted.home / "inputs").touch()
        assert "inputs: Inputs cannot be stored" in (await client.until_ready(503))["problem"]
        (promoted.home / "inputs").unlink()
        await client.until_ready(200)

    served(promoted, asked)


def test_an_idle_server_finds_out_by_itself_that_the_disk_of_its_database_is_full(promoted, monkeypatch):
    """Within a second, not at the first prediction that it refuses."""

    async def asked(client: Client) -> None:
        with monkeypatch.context() as full:
            full.setattr("openmlops.adapters.database.disk.free_bytes", lambda path: 1000)
            problem = (await client.until_ready(503))["problem"]
            assert re.search(r"inference log: The SQLite file .* cannot be written: 1,000 bytes are free on its disk", problem)
        await client.until_ready(200)

    served(promoted, asked)


@pytest.mark.parametrize("taken", ["database", "home"])
def test_a_server_whose_database_is_taken_away_says_so_and_goes_on_when_it_is_back(promoted, taken, caplog):
    home = promoted.home
    place = home if taken == "home" else home / "openmlops.db"
    elsewhere = place.with_name("elsewhere")

    async def asked(client: Client) -> None:
        accepted = (await client.predict(SMALL)).json()["prediction_id"]
        place.rename(elsewhere)
        assert (await client.predict(SMALL)).status_code == 503
        assert f"{home}" in (await client.until_ready(503))["problem"]
        await asyncio.sleep(1.2)
        assert not place.exists()
        elsewhere.rename(place)
        assert (await client.until_ready(200))["problem"] is None
        again = (await client.predict(SMALL)).json()["prediction_id"]
        assert set(promoted.logged(1)) == {accepted, again}

    served(promoted, asked)


@contextmanager
def locked(world: World) -> Iterator[None]:
    with writing(connect(world.url)):
        yield


def test_a_prediction_that_was_given_up_while_it_was_being_committed_is_withdrawn(promoted):
    async def asked(client: Client) -> None:
        with locked(promoted):
            asking = [asyncio.create_task(client.predict(png(image))) for image in images(6)]
            assert [(await each).status_code for each in asking] == [503] * 6

            async def says_so() -> bool:
                return (await client.predict(SMALL)).status_code == 503 == (await client.ready())[0]

            await client.until(says_so)
        await client.until_ready(200)
        while (answer := await client.predict(SMALL)).status_code != 200:  # a busy machine may need longer than 0.3 s
            pass

        async def only_the_answered() -> bool:
            return set(promoted.logged(1)) == {answer.json()["prediction_id"]}

        await client.until(only_the_answered)

    served(promoted, asked, log_seconds=0.3)


async def disconnected(app, content: bytes) -> list:
    """A request whose client is gone when it has sent it; what the server still sends."""
    sent, received = [], [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> dict:
        return received.pop() if received else {"type": "http.disconnect"}

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"", "headers": []}
    with suppress(ClientDisconnect):
        await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 1)}, receive, send)
    return sent


def test_a_prediction_whose_client_is_gone_is_withdrawn(promoted):
    async def asked(client: Client) -> None:
        assert await disconnected(client.app, SMALL) == []

        async def nothing() -> bool:
            return promoted.logged(1) == {}

        await client.until(nothing)
        assert await client.predict(SMALL)
        assert len(promoted.logged(1)) == 1

    served(promoted, asked)


def test_what_one_batch_does_wrong_fails_that_one_only(promoted, monkeypatch):
    write = InferenceLog.write

    def picky(self, groups):
        if any(b"poison" in group.predictions[0] for group in groups):
            raise ValueError("poison")
        write(self, groups)

    monkeypatch.setattr(InferenceLog, "write", picky)

    async def asked(client: Client) -> None:
        batcher = client.app.state.services.batcher
        predict = batcher._predict

        def poisoned(predictor, jobs, model_input):
            batch = predict(predictor, jobs, model_input)
            if jobs[0].inputs[0] == SMALL:
                batch.predictions.packed[:] = [b"poison"]
            return batch

        batcher._predict = poisoned
        with locked(promoted):  # so that all are in one group
            asking = [asyncio.create_task(client.predict(content)) for content in (SMALL, png(images(2)[1]))]
            await asyncio.sleep(0.3)
        assert [(await each).status_code for each in asking] == [500, 200]
        assert (await client.ready())[0] == 200

    served(promoted, asked, batch=1, wait_seconds=0)


def test_an_image_that_the_model_fails_at_fails_its_own_request_only(promoted):
    async def asked(client: Client) -> None:
        batcher = client.app.state.services.batcher
        predict, begun, together = batcher._predict, threading.Event(), threading.Event()

        def picky(predictor, jobs, model_input):
            begun.set()
            together.wait(120)
            if any(job.inputs[0] == SMALL for job in jobs):
                raise RuntimeError("poison")
            return predict(predictor, jobs, model_input)

        batcher._predict = picky
        first = asyncio.create_task(client.predict(png(images(9)[8])))
        await asyncio.to_thread(begun.wait, 120)
        asking = [asyncio.create_task(client.predict(png(image))) for image in images(4)]
        await asyncio.sleep(0.3)
        together.set()
        assert [(await each).status_code for each in (first, *asking)] == [200, 500, 200, 200, 200]

    served(promoted, asked)


def test_pruning_that_fails_is_told_and_repeated_and_stops_nothing(promoted, monkeypatch, caplog):
    fails = threading.Event()
    fails.set()
    turns = []

    def prune(*given):
        turns.append(1)
        if fails.is_set():
            raise OSError(5, "Input/output error")
        return prune_unless_doubtful(*given)

    prune_unless_doubtful = server_services.prune_unless_doubtful
    monkeypatch.setattr(server_services, "prune_unless_doubtful", prune)

    async def asked(client: Client) -> None:
        async def problem() -> bool:
            return "pruning of inputs: [Errno 5]" in str((await client.ready())[1]["problem"])

        await client.until(problem)
        assert (await client.predict(SMALL)).status_code == 200
        fails.clear()

        async def over() -> bool:
            return (await client.ready())[1]["problem"] is None

        await client.until(over)

    served(promoted, asked)
    assert len(turns) >= 2
    assert told(caplog, "pruning of inputs: [Errno 5]") == 1


def test_a_probe_is_as_large_as_what_was_refused(tmp_path):
    store = InputStore(tmp_path)
    with files_up_to(LIMIT):
        with pytest.raises(ServiceUnavailable):
            store.put(bytes(LIMIT + 1), "ab" * 32)
        with pytest.raises(ServiceUnavailable):
            store.probe()
    store.probe()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_task_that_fails_goes_on(monkeypatch):
    monkeypatch.setattr("openmlops.web.conditions.FIRST_RETRY_SECONDS", 0.0)
    conditions, turns = Conditions(), []

    async def turn() -> None:
        turns.append(conditions.all())
        if len(turns) < 3:
            raise RuntimeError("no")

    async def run() -> None:
        task = asyncio.create_task(repeat("task", turn, 0, conditions))
        while len(turns) < 4:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert turns[:4] == [(), ("task: RuntimeError: no",), ("task: RuntimeError: no",), ()]


def test_a_thread_that_fails_goes_on(monkeypatch):
    monkeypatch.setattr("openmlops.web.conditions.FIRST_RETRY_SECONDS", 0.0)
    conditions, turns = Conditions(), []

    def turn() -> bool:
        turns.append(conditions.all())
        if len(turns) == 1:
            raise RuntimeError("no")
        return len(turns) < 3

    (found := thread("thread", turn, conditions)).start()
    found.join(120)
    assert turns == [(), ("thread: RuntimeError: no",), ()]
