"""Leases: one holder at a time, and a dead one does not hold for ever."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openmlops.adapters.database import connect, writing
from openmlops.adapters.fences import require
from openmlops.adapters.leases import Leases
from openmlops.adapters.processes import Process
from openmlops.errors import LeaseLost, LeaseTaken
from postgres import postgres

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(tmp_path, clock):
    return Leases(connect(f"sqlite:///{tmp_path / 'openmlops.db'}"), clock)


def test_a_held_lease_is_refused_by_name_and_time(leases):
    leases.take("retrain", "ada", MINUTE)
    with pytest.raises(LeaseTaken, match=r"ada holds the lease 'retrain' until 2026-01-01T12:01:00"):
        leases.take("retrain", "bob", MINUTE)


def test_leases_of_other_names_are_free(leases):
    leases.take("retrain/a", "ada", MINUTE)
    assert leases.take("retrain/b", "bob", MINUTE).holder == "bob"


def test_a_released_lease_can_be_taken_at_once(leases):
    leases.release(leases.take("retrain", "ada", MINUTE))
    assert leases.take("retrain", "bob", MINUTE).term == 2


def test_the_lease_of_a_dead_holder_expires(leases, clock):
    leases.take("retrain", "ada", MINUTE)
    clock.now += MINUTE - timedelta(microseconds=1)
    with pytest.raises(LeaseTaken):
        leases.take("retrain", "bob", MINUTE)
    clock.now += timedelta(microseconds=1)
    assert leases.take("retrain", "bob", MINUTE).holder == "bob"


def test_a_renewed_lease_lasts_from_then_on(leases, clock):
    lease = leases.take("retrain", "ada", MINUTE)
    clock.now += MINUTE / 2
    assert leases.renew(lease, MINUTE).expires == NOON + 1.5 * MINUTE
    clock.now = NOON + 1.4 * MINUTE
    with pytest.raises(LeaseTaken):
        leases.take("retrain", "bob", MINUTE)


def test_a_lease_that_was_taken_meanwhile_can_neither_be_renewed_nor_released(leases, clock):
    late = leases.take("retrain", "ada", MINUTE)
    clock.now += MINUTE
    leases.take("retrain", "bob", MINUTE)
    with pytest.raises(LeaseLost):
        leases.renew(late, MINUTE)
    leases.release(late)
    assert leases.look("retrain").holder == "bob"


def test_one_holder_who_died_does_not_lend_its_term_to_its_next_self(leases, clock):
    late = leases.take("retrain", "ada", MINUTE)
    clock.now += MINUTE
    leases.take("retrain", "ada", MINUTE)
    with pytest.raises(LeaseLost):
        leases.renew(late, MINUTE)


def wait_until(holds):
    """Until `holds()` is true."""
    for _ in range(12_000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("nothing came of it")


def is_believed(held):
    with suppress(LeaseLost):
        held.check()
        return True
    return False


def test_while_a_block_holds_a_lease_it_is_renewed(leases, clock):
    """By the clock that all share, which is moved here: as often as the holder has renewed it, however busy the machine is."""
    length = timedelta(seconds=0.06)
    with leases.holding("retrain", "ada", length) as held:
        for _ in range(4):
            clock.now += 0.8 * length
            wait_until(lambda: leases.look("retrain").expires == clock.now + length)
            with pytest.raises(LeaseTaken):
                leases.take("retrain", "bob", MINUTE)
        wait_until(lambda: is_believed(held))
    assert leases.take("retrain", "bob", MINUTE).holder == "bob"


def test_a_block_is_told_that_its_lease_was_lost(leases, clock):
    with leases.holding("retrain", "ada", timedelta(seconds=0.06)) as held:
        clock.now += MINUTE
        leases.take("retrain", "bob", 10 * MINUTE)
        assert held.lost.wait(60)
        with pytest.raises(LeaseLost):
            held.check()
    assert leases.look("retrain").holder == "bob"


def race(url, takers, rounds):
    """How many of `takers`, each with its own connections, took the lease in each round."""
    clock = Clock()
    own = [Leases(connect(url), clock) for _ in range(takers)]
    start = threading.Barrier(takers)

    def take(number):
        start.wait()
        try:
            own[number].take("retrain", f"watcher {number}", MINUTE)
        except LeaseTaken:
            return 0
        return 1

    won = []
    with ThreadPoolExecutor(takers) as pool:
        for _ in range(rounds):
            won.append(sum(pool.map(take, range(takers))))
            clock.now += MINUTE
    return won


def test_of_eight_takers_at_once_one_succeeds(tmp_path):
    assert race(f"sqlite:///{tmp_path / 'openmlops.db'}", 8, 100) == [1] * 100


# Holders who died, sleep, or whose clock is wrong


def dead_holder() -> str:
    """A process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return Process.this().model_copy(update={"pid": ended.pid, "started": 12}).model_dump_json()


def embedded(folder: Path, hours: float = 0) -> Leases:
    """Leases of a process whose clock is wrong by so many hours, on a database that has none of its own."""
    found = Leases(connect(f"sqlite:///{folder / 'openmlops.db'}"))
    found.now = lambda: datetime.now(UTC) + timedelta(hours=hours)  # type: ignore[method-assign]
    return found


def test_the_lease_of_a_dead_process_is_free_whatever_its_clock_said(tmp_path):
    embedded(tmp_path, hours=2).take("retrain", dead_holder(), MINUTE)
    assert embedded(tmp_path).take("retrain", Process.this().model_dump_json(), MINUTE).term == 2


def test_a_process_whose_clock_is_ahead_does_not_take_what_another_renews(tmp_path):
    with embedded(tmp_path).holding("retrain", Process.this().model_dump_json(), length := timedelta(seconds=4)) as held:
        with pytest.raises(LeaseTaken, match=r"process \d+ on .* holds the lease 'retrain'"):
            embedded(tmp_path, hours=1).take("retrain", "bob", length)
        wait_until(lambda: is_believed(held))


@pytest.mark.parametrize("hours", [1, -1])
def test_a_holder_who_is_silent_is_taken_from_whatever_the_clock_says(tmp_path, hours):
    embedded(tmp_path).take("retrain", Process.this().model_dump_json(), timedelta(seconds=0.2))
    assert embedded(tmp_path, hours).take("retrain", "bob", timedelta(seconds=0.2)).holder == "bob"


def test_what_a_term_protects_is_refused_to_whoever_held_it_before(leases, clock):
    late = leases.take("retrain", "ada", MINUTE)
    leases.require(late)
    leases.require(leases.renew(late, MINUTE))
    clock.now += 2 * MINUTE
    leases.require(late)  # nobody else has it
    leases.take("retrain", "ada", MINUTE)
    with pytest.raises(LeaseLost, match="'retrain' of ada expired and was taken by another process"):
        leases.require(late)


def test_a_lease_that_cannot_be_renewed_is_no_longer_believed(leases, monkeypatch):
    """Whatever ends a renewal: a pool's timeout is no error of the database."""

    def exhausted(*values: object) -> None:
        raise RuntimeError("QueuePool limit of size 5 overflow 10 reached")

    with leases.holding("retrain", "ada", timedelta(seconds=0.1)) as held:
        monkeypatch.setattr(leases, "renew", exhausted)
        wait_until(lambda: not is_believed(held))
        assert not held.lost.is_set(), "nobody has taken it"
        monkeypatch.undo()
        wait_until(lambda: is_believed(held))


def test_who_seizes_its_own_lease_keeps_its_term(leases):
    first = leases.seize("run/1", "ada", MINUTE)
    assert leases.seize("run/1", "ada", MINUTE).term == first.term
    assert leases.seize("run/1", "bob", MINUTE).term == first.term + 1


def test_a_kept_lease_whose_row_was_deleted_is_acquired_again(leases):
    lease = leases.seize("run/1", "ada", MINUTE)
    with leases.kept(lease, timedelta(seconds=0.06), regain=True) as held:
        leases.forget(leases.claim(lease))
        while leases.look("run/1").holder != "ada":
            threading.Event().wait(0.01)
        assert not held.lost.is_set()


@pytest.mark.servers
def test_a_server_s_clock_decides_for_processes_whose_clocks_differ():
    with postgres() as server:
        url = server.url(server.create())
        held, other = Leases(connect(url)), Leases(connect(url))
        lease = held.take("retrain", "ada", MINUTE)
        assert abs(lease.expires - datetime.now(UTC) - MINUTE) < MINUTE / 2
        with pytest.raises(LeaseTaken):
            other.take("retrain", "bob", MINUTE)
        held.seize("retrain", "ada", -MINUTE)
        assert other.take("retrain", "bob", MINUTE).term == lease.term + 1
        with pytest.raises(LeaseLost):
            held.require(lease)


@pytest.mark.servers
def test_nobody_takes_a_lease_within_a_transaction_that_it_protects():
    with postgres() as server:
        engine = connect(server.url(server.create()))
        leases = Leases(engine)
        lease, taken = leases.take("retrain", "ada", MINUTE), threading.Event()
        with writing(engine) as connection:
            require(connection, lease)
            other = threading.Thread(target=lambda: (leases.seize("retrain", "bob", MINUTE), taken.set()))
            other.start()
            assert not taken.wait(0.3)
        other.join()
        assert leases.look("retrain").holder == "bob"
