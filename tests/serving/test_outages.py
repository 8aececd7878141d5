"""The server while its database, a real PostgreSQL, is away: it answers, and each answer is in the database once afterwards."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clients import Traffic, busy
from servers import Server, png, running, start
from test_exactly_once import busiest, workers
from versions import World, images

from openmlops.adapters.last_champion import LastChampion
from ports import free_port
from postgres import Postgres, postgres
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.servers

PNG = png(images(1)[0])
AWAY = {
    "refused": TcpProxy.refuse,
    "slow": lambda proxy: proxy.slow(30),
    "cut": TcpProxy.cut,
}


@dataclass(frozen=True)
class Away:
    """A world whose server reaches its database through a proxy; the test reaches it directly."""

    world: World
    proxy: TcpProxy
    through: str

    @property
    def given(self) -> dict:
        """What a server is told. It refuses a prediction whose entry takes half a minute: less than a slow answer takes, and
        more than turning to the spool, on a busy machine too."""
        return {"database_url": self.through, "limits": {"log_seconds": 30}}

    def lasts(self, server: Server, way: str, seconds: float) -> None:
        """The database is away in one way, then back; returns when everything has been moved there."""
        AWAY[way](self.proxy)
        server.wait_until(lambda: not health(server)["database"])
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            assert server.client.get("/health/ready").status_code == 200
            time.sleep(0.2)
        assert health(server)["spooled"] > 0 or way == "cut"  # of which some are moved between two cuts
        self.back(server)

    def back(self, server: Server) -> None:
        """The database is back; returns when all that waited is in it."""
        self.proxy.forward()
        server.wait_until(lambda: health(server)["database"] and health(server)["spooled"] == 0)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


@pytest.fixture
def away(database: Postgres, tmp_path: Path) -> Iterator[Away]:
    name = database.create()
    world = World(tmp_path, database.url(name))
    world.promote(1)
    with TcpProxy(database.port) as proxy:
        yield Away(world, proxy, database.url(name, proxy.port))


def health(server: Server) -> dict:
    return server.client.get("/health/ready").json()


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def some(server: Server, traffic: Traffic, requests: int = 200) -> None:
    """Until so many more requests were answered."""
    seen = traffic.requests
    server.wait_until(lambda: traffic.requests >= seen + requests)


@pytest.mark.parametrize("way", AWAY)
def test_the_database_may_be_away_and_every_answer_is_in_it_once_afterwards(away, way):
    with running(away.world, **away.given) as server:
        with busy(port_of(server)) as traffic:
            some(server, traffic)
            away.lasts(server, way, seconds=4)
            some(server, traffic)
        assert traffic.failed == []
        assert traffic.dropped == 0
    assert away.world.logged(1) == traffic.acknowledged


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_minute_of_each_kind_of_outage_with_a_kill_in_each_loses_and_doubles_nothing(away):
    outages_with_a_kill(away, tuple(AWAY), seconds=30)


@pytest.mark.parametrize("way", AWAY)
def test_a_server_that_is_killed_meanwhile_starts_without_the_database_and_what_it_left_is_moved(away, way):
    outages_with_a_kill(away, (way,), seconds=0)


def outages_with_a_kill(away: Away, ways: tuple[str, ...], seconds: float) -> None:
    """One outage after the other, a server being killed in the middle of each, under load."""
    port = free_port()
    given = {**away.given, "port": port}
    server = start(away.world, **given)
    with busy(port) as traffic:
        for way in ways:
            some(server, traffic)
            AWAY[way](away.proxy)
            some(server, traffic)
            time.sleep(seconds)
            server.kill()
            server = start(away.world, **given)
            some(server, traffic)
            time.sleep(seconds)
            away.back(server)
    server.process.terminate()
    server.process.join(60)
    assert traffic.failed == []
    assert traffic.acknowledged.keys() <= away.world.logged(1).keys()


def test_workers_share_the_spool_and_one_that_is_killed_is_replaced_without_the_database(away):
    with running(away.world, **away.given, workers=2) as server:
        with busy(port_of(server)) as traffic:
            some(server, traffic)
            away.proxy.refuse()
            some(server, traffic)
            busiest(server).kill()
            some(server, traffic)
            server.wait_until(lambda: len(workers(server)) == 2)
            text = server.client.get("/metrics").text
            away.back(server)
            some(server, traffic)
        assert gauge(text, "openmlops_log_diverted") == 1
        assert gauge(text, "openmlops_spooled_entries") > 0
        assert traffic.failed == []
        server.wait_until(lambda: health(server)["spooled"] == 0)
    assert traffic.acknowledged.keys() <= away.world.logged(1).keys()


def gauge(text: str, name: str) -> float:
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


@pytest.mark.parametrize("way", AWAY)
def test_sigterm_ends_the_server_while_the_database_is_away_and_the_next_start_moves_what_waits(away, way):
    server = start(away.world, **away.given)
    AWAY[way](away.proxy)
    answered = [server.predict(PNG).json()["prediction_id"] for _ in range(20)]
    server.process.terminate()
    server.process.join(50)
    assert server.process.exitcode is not None, "it waits for nothing that a slow database answers"
    away.proxy.forward()
    with running(away.world, **away.given) as server:
        away.back(server)
    assert sorted(away.world.logged(1)) == sorted(answered)  # in which order two processes move theirs is not promised


@pytest.mark.parametrize("way", ["refused", "slow"])
def test_labels_and_requests_for_a_turn_are_to_be_sent_again_and_answers_do_not_wait_for_them(away, way):
    with running(away.world, **away.given | {"limits": {"log_seconds": 2}}) as server:
        before = server.predict(PNG).json()["prediction_id"]
        AWAY[way](away.proxy)
        meanwhile = server.predict(PNG).json()["prediction_id"]
        refusals = [label(server, before), label(server, meanwhile), trigger(server)]
        assert [(refusal.status_code, refusal.headers["retry-after"]) for refusal in refusals] == 3 * [(503, "1")]
        assert "is still in the local spool" in refusals[1].json()["detail"]
        assert server.predict(PNG).status_code == 200
        away.back(server)
        assert [label(server, one).status_code for one in (before, meanwhile)] == [200, 200]
        assert trigger(server).status_code == 202


def label(server: Server, prediction: str):
    return server.client.post("/feedback", json={"prediction_id": prediction, "label": 3})


def trigger(server: Server):
    return server.client.post("/trigger", json={"reason": "new cameras"})


def test_a_promotion_is_followed_when_the_database_is_back(away):
    with running(away.world, **away.given) as server:
        away.proxy.refuse()
        away.world.promote(2)
        server.wait_until(lambda: not health(server)["database"])
        assert server.predict(PNG).json()["model"]["version"] == 1
        away.proxy.forward()
        server.wait_until(lambda: server.serving() == 2)
        server.wait_until(lambda: LastChampion(away.world.home / "spool", "pets").entry().version == 2)


def test_a_server_that_never_knew_a_champion_waits_for_the_database(away):
    away.proxy.refuse()
    with running(away.world, **away.given) as server:
        assert server.client.get("/health/ready").status_code == 503
        assert server.predict(PNG).status_code == 503
        away.proxy.forward()
        server.wait_until(lambda: server.serving() == 1)
        assert server.predict(PNG).status_code == 200
