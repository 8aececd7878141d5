"""Every answered prediction is in the log exactly once: under load, when workers are killed, when the database is away."""

import re
import signal
import sqlite3
from contextlib import closing

import psutil
import pytest
from clients import Traffic, busy
from servers import PATIENT, png, running, start
from versions import World, images

PNG = png(images(1)[0])


def assert_nothing_lost(world: World, traffic: Traffic) -> None:
    entries = world.logged(1)
    assert traffic.acknowledged.keys() <= entries.keys()


def test_under_load_the_log_is_what_was_answered(world):
    world.promote(1)
    with running(world, limits=PATIENT) as server:
        with busy(int(server.url.rpartition(":")[2])) as traffic:
            server.wait_until(lambda: traffic.requests >= 500)
        assert traffic.failed == []
        assert "openmlops_batch_images_bucket" in server.client.get("/metrics").text
    assert world.logged(1) == traffic.acknowledged


def kill_under_load(world: World, kills: int) -> None:
    world.promote(1)
    for _ in range(kills):
        server = start(world, limits=PATIENT)
        with busy(int(server.url.rpartition(":")[2])) as traffic:
            server.wait_until(lambda seen=traffic: seen.requests >= 100)
            server.kill()
        server.client.close()
        assert traffic.failed == []
        assert_nothing_lost(world, traffic)


def test_kill_9_loses_no_acknowledged_prediction(world):
    kill_under_load(world, kills=3)


@pytest.mark.slow
def test_fifty_times_kill_9_lose_no_acknowledged_prediction(world):
    kill_under_load(world, kills=50)


def test_workers_share_the_database_and_a_killed_one_is_replaced(world):
    world.promote(1)
    with running(world, workers=2, limits=PATIENT) as server:
        port = int(server.url.rpartition(":")[2])
        with busy(port, pause=0.05) as traffic:  # a worker that starts needs the processor too
            server.wait_until(lambda: traffic.requests >= 200)
            busiest(server).kill()
            server.wait_until(lambda: traffic.dropped > 0)
            seen = traffic.requests
            server.wait_until(lambda: len(workers(server)) == 2 and traffic.requests >= seen + 200)
        counted = re.search(r'predictions_total{version="1"} (\S+)', server.client.get("/metrics").text)
    assert len(traffic.acknowledged) <= float(counted[1]) <= len(world.logged(1))
    assert traffic.failed == []
    assert_nothing_lost(world, traffic)


def busiest(server) -> psutil.Process:
    """The worker with most connections: which one accepts is the kernel's choice."""
    return max(workers(server), key=lambda worker: len(worker.net_connections()))


def workers(server) -> list[psutil.Process]:
    return [child for child in psutil.Process(server.process.pid).children() if serves(child)]


def serves(child: psutil.Process) -> bool:
    """Whether it is a worker that lives; one that was killed may be reaped between two looks."""
    try:
        return child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:
        return False


def test_what_cannot_be_logged_is_not_answered(world):
    world.promote(1)
    with running(world, limits={"log_seconds": 0.3}) as server:
        server.wait_until(lambda: server.predict(PNG).status_code == 200)
        blocking = sqlite3.connect(world.home / "openmlops.db", isolation_level=None)
        blocking.execute("BEGIN IMMEDIATE")
        response = server.predict(PNG)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "logged within" in response.json()["detail"]
        blocking.execute("COMMIT")
        server.wait_until(lambda: server.predict(PNG).status_code == 200)


def test_a_database_that_does_not_answer_makes_the_server_unready_and_it_recovers(world):
    world.promote(1)
    with running(world) as server:
        assert server.predict(PNG).status_code == 200
        rename_tables(world, "inference", "ledger", to="{}_aside")
        server.wait_until(lambda: server.client.get("/health/ready").status_code == 503)
        assert server.client.get("/health/ready").json()["database"] is False
        response = server.predict(PNG)
        assert response.status_code == 503
        assert "DATABASE_URL" in response.json()["detail"]
        rename_tables(world, "inference_aside", "ledger_aside", to="{}")
        server.wait_until(lambda: server.client.get("/health/ready").status_code == 200)
        assert server.predict(PNG).status_code == 200


def rename_tables(world: World, *tables: str, to: str) -> None:
    with closing(sqlite3.connect(world.home / "openmlops.db", timeout=30)) as database:
        for table in tables:
            database.execute(f"ALTER TABLE {table} RENAME TO {to.format(table.removesuffix('_aside'))}")


def test_sigterm_answers_what_was_asked_before_it_ends(world):
    world.promote(1)
    server = start(world, limits=PATIENT)
    with busy(int(server.url.rpartition(":")[2])) as traffic:
        server.wait_until(lambda: traffic.requests >= 100)
        server.process.terminate()
        server.process.join(240)
        assert server.process.exitcode in (0, -signal.SIGTERM)
    server.client.close()
    assert traffic.failed == []
    assert world.logged(1) == traffic.acknowledged
