"""The ledger: one winner a round, no gap, and no change that goes unnoticed."""

import itertools
import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Integer, delete, select, text, update

from forks import FORKS, start
from openmlops.adapters.database import connect, writing
from openmlops.adapters.ledger import GENESIS, Ledger
from openmlops.adapters.schema import LEDGER, LEDGER_HEAD
from openmlops.core.types import Comparison, Verdict
from openmlops.errors import LedgerConflict, LedgerCorrupt, ServiceUnavailable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MODEL = "cifar10_cnn"


@pytest.fixture
def engine(tmp_path):
    return connect(f"sqlite:///{tmp_path / 'openmlops.db'}")


@pytest.fixture
def ledger(engine):
    return Ledger(engine)


def verdict(version, outcome="promote"):
    compared = Comparison(
        name="holdout", opponent=1, holdout=True, n=100, challenger_score=0.9, opponent_score=0.8, difference=0.1,
        low=0.02, high=0.18, p_better=0.01,
    )  # fmt: skip
    return Verdict(outcome=outcome, reasons=("better",), challenger=version, champion=1, comparisons=(compared,))


def append(ledger, kind="promote", version=1, model=MODEL, at=None):
    head = ledger.head(model)
    sequence = head.sequence if head else 0
    return ledger.append(
        model, sequence, kind, version, "ada", ("10 % better",), "d" * 64, "a" * 64,
        verdict(version), at or NOON + timedelta(hours=sequence),
    )  # fmt: skip


def test_a_model_without_rows_has_no_champion(ledger):
    assert (ledger.head(MODEL), ledger.champion(MODEL), ledger.history(MODEL)) == (None, None, ())
    ledger.history(MODEL)


def test_what_was_appended_is_read_back_whole(ledger):
    written = append(ledger)
    assert ledger.head(MODEL) == written
    assert (written.sequence, written.previous, written.at, written.reasons) == (1, GENESIS, NOON, ("10 % better",))
    assert written.verdict == verdict(1)


def test_only_a_promotion_or_a_rollback_changes_the_champion(ledger):
    kinds = [("promote", 1), ("reject", 2), ("promote", 3), ("inconclusive", 4), ("rollback", 1)]
    assert [append(ledger, *each).champion for each in kinds] == [1, 1, 3, 3, 1]
    assert ledger.champions(MODEL) == (1, 3)


def test_a_rejected_first_version_leaves_no_champion(ledger):
    assert append(ledger, "reject").champion is None


def test_each_row_holds_the_hash_of_the_one_before(ledger):
    rows = [append(ledger, version=version) for version in (1, 2, 3)]
    assert [row.previous for row in rows] == [GENESIS, rows[0].hash, rows[1].hash]
    assert [row.sequence for row in rows] == [1, 2, 3]


def test_who_was_champion_at_an_instant_is_answered_from_then_on(ledger):
    for version in (1, 2):
        append(ledger, version=version, at=NOON + timedelta(hours=version))
    response = [NOON, NOON + timedelta(hours=1), NOON + timedelta(minutes=119), NOON + timedelta(hours=9)]
    assert [ledger.champion_at(MODEL, instant) for instant in response] == [None, 1, 1, 2]


def test_models_do_not_see_each_other(ledger):
    append(ledger, version=7)
    append(ledger, version=8, model="Cifar10_CNN")
    assert (ledger.champion(MODEL), ledger.champion("Cifar10_CNN")) == (7, 8)
    assert ledger.models() == ("Cifar10_CNN", MODEL)


def test_a_decision_on_an_old_head_is_a_conflict_and_writes_nothing(ledger):
    append(ledger)
    append(ledger, version=2)
    for stale in (0, 1, 3):
        with pytest.raises(LedgerConflict, match=f"advanced past sequence {stale}"):
            ledger.append(MODEL, stale, "promote", 9, "bob", (), "d", "a", None, NOON)
    assert [entry.version for entry in ledger.history(MODEL)] == [1, 2]


def racer(url: str, me: int, rounds: int, together, told: Path) -> None:
    """Try to append every round's row, all at once with the others; the rounds that were won go to `told`."""
    ledger, won = Ledger(connect(url)), []
    together.wait(240)
    for round in range(rounds):
        while (head := ledger.head("m")) is not None and head.sequence < round:
            time.sleep(0.002)
        with suppress(LedgerConflict):
            ledger.append("m", round, "promote", me + 1, f"racer {me}", (), "d", "a", None, datetime.now(UTC))
            won.append(round + 1)
    told.write_text(json.dumps(won))


def race(folder: Path, url: str, rounds: int) -> list[list[int]]:
    """Eight processes try to append every round's row; the sequence numbers that each won."""
    together, places = FORKS.Barrier(8), [folder / f"{me}.json" for me in range(8)]
    racers = [start(place.with_suffix(".log"), racer, url, me, rounds, together, place) for me, place in enumerate(places)]
    for process, place in zip(racers, places, strict=True):
        process.join(600)
        assert process.exitcode == 0, place.with_suffix(".log").read_text()
    return [json.loads(place.read_text()) for place in places]


def test_eight_processes_promote_at_once_and_one_wins_each_round(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'openmlops.db'}"
    won = race(tmp_path, url, rounds := 50)
    ledger = Ledger(connect(url))
    ledger.history("m")
    assert sorted(itertools.chain(*won)) == list(range(1, rounds + 1))
    assert {(e.sequence, e.actor) for e in ledger.history("m")} == {(n, f"racer {i}") for i, ns in enumerate(won) for n in ns}


@pytest.fixture
def chain(ledger):
    for version in (1, 2, 3):
        append(ledger, version=version)
    ledger.history(MODEL)
    return ledger


def change(engine, sequence, values):
    with writing(engine) as connection:
        connection.execute(update(LEDGER).where(LEDGER.c.sequence == sequence).values(values))


@pytest.mark.parametrize("sequence", [1, 2, 3])
@pytest.mark.parametrize("name", [c.name for c in LEDGER.columns if c.name not in ("model", "sequence")])
def test_a_flipped_byte_in_any_column_of_any_row_is_noticed(engine, chain, name, sequence):
    with engine.connect() as connection:
        before = connection.scalar(select(LEDGER.c[name]).where(LEDGER.c.sequence == sequence))
    numeric = isinstance(LEDGER.c[name].type, Integer)
    for after in [before ^ 1] if numeric else [_flipped(before, 0), _flipped(before, len(before) - 1), before + " "]:
        change(engine, sequence, {name: after})
        with pytest.raises(LedgerCorrupt, match=f"row {sequence} "):
            chain.history(MODEL)
    change(engine, sequence, {name: before})
    chain.history(MODEL)


def _flipped(text, at):
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]


@pytest.mark.parametrize("stored", ["CAST(x'ff616461' AS TEXT)", "x'616461'", "CAST(x'61646100' AS TEXT)", "2.5"])
def test_bytes_that_are_no_text_are_noticed_too(engine, chain, stored):
    with writing(engine) as connection:
        connection.execute(text(f"UPDATE ledger SET actor = {stored}, version = {stored} WHERE sequence = 2"))
    with pytest.raises(LedgerCorrupt, match="row 2 "):
        chain.history(MODEL)


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_deleted_row_is_noticed_and_named(engine, chain, sequence):
    with writing(engine) as connection:
        connection.execute(delete(LEDGER).where(LEDGER.c.sequence == sequence))
    with pytest.raises(LedgerCorrupt, match=f"row {sequence} is missing"):
        chain.history(MODEL)


def test_a_row_moved_to_another_place_is_noticed(engine, chain):
    for old, new in ((1, 99), (2, 1), (99, 2)):
        change(engine, old, {"sequence": new})
    with pytest.raises(LedgerCorrupt, match="row 1 "):
        chain.history(MODEL)


def test_a_row_renumbered_or_given_to_another_model_is_noticed(engine, chain):
    for values in ({"sequence": 4}, {"model": "other"}):
        change(engine, 3, values)
        with pytest.raises(LedgerCorrupt, match="row 3 is missing"):
            chain.history(MODEL)
        change(engine, values.get("sequence", 3), {"sequence": 3, "model": MODEL})
    chain.history(MODEL)


@pytest.mark.parametrize("values", [{"sequence": 2}, {"sequence": 4}, {"hash": "f" * 64}, {"model": "other"}])
def test_a_changed_head_is_noticed(engine, chain, values):
    with writing(engine) as connection:
        connection.execute(update(LEDGER_HEAD).values(values))
    with pytest.raises(LedgerCorrupt):
        chain.history(MODEL)


def test_a_broken_head_answers_nothing_and_takes_nothing(engine, chain):
    change(engine, 3, {"champion": 1})
    with pytest.raises(LedgerCorrupt, match="row 3"):
        chain.champion(MODEL)
    with pytest.raises(LedgerCorrupt, match="row 3"):
        chain.append(MODEL, 3, "promote", 4, "eve", (), "d", "a", None, NOON)


def test_a_deleted_tail_answers_nothing(engine, chain):
    with writing(engine) as connection:
        connection.execute(delete(LEDGER).where(LEDGER.c.sequence == 3))
    with pytest.raises(LedgerCorrupt, match="row 3 is missing"):
        chain.champion(MODEL)


def test_a_byte_flipped_anywhere_in_the_file_is_noticed_or_changes_nothing(engine, chain, tmp_path):
    """150 places in the SQLite file, drawn from those that are not empty; unused ones may be harmless, none may be believed."""
    truth, file, noticed = chain.history(MODEL), tmp_path / "openmlops.db", 0
    engine.dispose()
    content = file.read_bytes()
    for place in np.random.default_rng(0).choice(np.flatnonzero(np.frombuffer(content, np.uint8)), 150, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 0x81
        file.write_bytes(flipped)
        try:
            damaged = Ledger(connect(f"sqlite:///{file}"))
            damaged.history(MODEL)
            assert damaged.history(MODEL) == truth, f"byte {place}"
        except (LedgerCorrupt, ServiceUnavailable):
            noticed += 1
    assert noticed > 50
