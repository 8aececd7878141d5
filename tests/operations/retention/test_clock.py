"""A clock that is wrong deletes nothing, says so, and is believed again."""

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from openmlops.adapters.input_store import InputStore
from openmlops.errors import ServiceUnavailable
from openmlops.operations.retention import clock
from openmlops.operations.retention.inputs import prune_unless_doubtful
from openmlops.serving import services
from openmlops.settings import Settings
from openmlops.web.conditions import Conditions

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MONTH, HOUR = timedelta(days=31), timedelta(hours=1)
SETTINGS = Settings(retention_inputs_days=30)


@pytest.fixture
def inputs(tmp_path: Path) -> InputStore:
    """Ten inputs of the last nine days, and one that is too old at noon."""
    store = InputStore(tmp_path / "inputs")
    for days in (*range(10), 31):
        put(store, days, NOON - timedelta(days=days))
    return store


def put(store: InputStore, number: int, at: datetime) -> None:
    name = f"{number:064x}"
    store.put(b"x", name)
    os.utime(store.path(name), (at.timestamp(), at.timestamp()))


def left(store: InputStore, now: datetime) -> int:
    return prune_unless_doubtful(store, SETTINGS, now)[0].files


def test_a_server_started_with_its_clock_a_month_ahead_deletes_nothing_and_says_why(inputs: InputStore) -> None:
    done, doubt = prune_unless_doubtful(inputs, SETTINGS, NOON + MONTH)
    assert (done.removed, done.files) == (0, 11)
    assert "the clock says 2026-07-02 12:00 UTC, and 2026-06-01 12:00 was the last time known here" in doubt


def test_what_the_wrong_clock_writes_is_no_evidence_for_it(inputs: InputStore) -> None:
    assert left(inputs, NOON) == 10
    for minute in range(3):
        now = NOON + MONTH + timedelta(minutes=minute)
        put(inputs, 100 + minute, now)
        assert left(inputs, now) == 11 + minute


def test_without_a_note_the_first_look_decides_before_anything_new_is_written(inputs: InputStore) -> None:
    assert left(inputs, NOON + MONTH) == 11
    put(inputs, 100, NOON + MONTH)
    assert left(inputs, NOON + MONTH + HOUR) == 12


def test_a_corrected_clock_prunes_at_once(inputs: InputStore) -> None:
    left(inputs, NOON + MONTH)
    assert left(inputs, NOON + HOUR) == 10


def test_a_clock_that_goes_on_for_a_day_is_believed(inputs: InputStore) -> None:
    """As after a long time without a server."""
    for hour in range(24):
        assert left(inputs, NOON + MONTH + hour * HOUR) == 11
    assert left(inputs, NOON + MONTH + 24 * HOUR) == 0


def test_a_second_jump_begins_the_doubt_anew(inputs: InputStore) -> None:
    left(inputs, NOON + MONTH)
    assert left(inputs, NOON + 2 * MONTH) == 11
    assert left(inputs, NOON + 2 * MONTH + 23 * HOUR) == 11
    assert left(inputs, NOON + 2 * MONTH + 24 * HOUR) == 0


@pytest.mark.parametrize("away", [timedelta(0), HOUR, timedelta(days=2)])
def test_a_clock_that_did_not_jump_is_believed(inputs: InputStore, away: timedelta) -> None:
    assert left(inputs, NOON + away) < 11


def test_a_clock_that_was_set_back_deletes_nothing_and_is_no_doubt_afterwards(inputs: InputStore) -> None:
    assert left(inputs, NOON - 2 * HOUR) == 10
    put(inputs, 100, NOON - MONTH)
    assert left(inputs, NOON - 2 * HOUR) == 10


def test_the_size_limit_holds_while_the_clock_is_doubted(inputs: InputStore) -> None:
    small = Settings(retention_inputs_days=30, retention_inputs_gib=5 / 1024**3)
    assert prune_unless_doubtful(inputs, small, NOON + MONTH)[0].files == 4


def test_a_damaged_note_counts_as_none(inputs: InputStore, tmp_path: Path) -> None:
    (inputs.folder / ".clock.json").write_text("{")
    assert left(inputs, NOON + MONTH) == 11


def test_without_rows_there_is_nothing_to_compare_the_clock_with(tmp_path: Path) -> None:
    assert clock.doubt(tmp_path / "note", NOON, lambda: None) == ""
    assert clock.doubt(tmp_path / "note", NOON + MONTH, lambda: None) != ""


def test_the_server_says_it_once(inputs: InputStore, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(services, "datetime", type("Ahead", (), {"now": staticmethod(lambda zone: NOON + MONTH)}))
    sizes: list[int] = []
    metrics, conditions = SimpleNamespace(inputs=SimpleNamespace(set=sizes.append)), Conditions()
    pruning = services.InputPruning(inputs, SETTINGS, frozenset)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            asyncio.run(services._prune(pruning, metrics, conditions))  # type: ignore[arg-type]
    assert sizes[-1] == 11
    assert "Nothing is pruned for its age" in (conditions.of(services.CLOCK) or "")
    assert sum("Nothing is pruned for its age" in record.message for record in caplog.records) == 1


def test_beside_a_database_that_is_away_the_server_keeps_what_it_said_last(inputs: InputStore) -> None:
    said: list[frozenset[str]] = []

    def needed() -> frozenset[str]:
        if not said:
            raise ServiceUnavailable("The database did not respond", "Start it")
        return said[-1]

    pruning = services.InputPruning(inputs, SETTINGS, needed)
    assert pruning(NOON) is None, "nobody knows yet what an open label request names"
    said.append(frozenset([f"{31:064x}"]))
    assert pruning(NOON)[0].files == 11  # type: ignore[index]
    said.clear()
    assert pruning(NOON + HOUR)[0].files == 11  # type: ignore[index]
    said.append(frozenset())
    assert pruning(NOON + HOUR)[0].files == 10  # type: ignore[index]
