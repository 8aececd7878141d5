"""Leases: one holder at a time, and a dead one does not hold for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from openmlops.adapters.database import connect
from openmlops.adapters.leases import Leases
from openmlops.errors import LeaseLost, LeaseTaken

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


def test_while_a_block_holds_a_lease_it_is_renewed(tmp_path):
    leases = Leases(connect(f"sqlite:///{tmp_path / 'openmlops.db'}"))
    with leases.holding("retrain", "ada", timedelta(seconds=0.3)) as check:
        threading.Event().wait(0.7)
        check()
        with pytest.raises(LeaseTaken):
            leases.take("retrain", "bob", MINUTE)
    assert leases.take("retrain", "bob", MINUTE).holder == "bob"


def test_a_block_is_told_that_its_lease_was_lost(leases, clock):
    with leases.holding("retrain", "ada", timedelta(seconds=0.06)) as check:
        clock.now += MINUTE
        leases.take("retrain", "bob", 10 * MINUTE)
        threading.Event().wait(0.2)
        with pytest.raises(LeaseLost):
            check()
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
