"""A ledger that was lost, or is an old one, is noticed before anything is promoted by it, and gets its rows back."""

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from typer.testing import CliRunner

import toy_promotion as toy
from openmlops.adapters.database import connect, writing
from openmlops.adapters.last_champion import FOLDER, LastChampion
from openmlops.adapters.ledger import Ledger, _hash
from openmlops.adapters.object_store import FolderStore
from openmlops.adapters.registry import DATASET_TAG
from openmlops.adapters.schema import LEDGER, LEDGER_HEAD
from openmlops.cli import app
from openmlops.errors import LedgerBehind, LedgerCorrupt, ServiceUnavailable
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.projects import doctor
from openmlops.operations.release import listing, promotion, witnesses
from openmlops.operations.release.ledger_restore import restore
from openmlops.operations.workspace import Workspace

FIRST, SECOND, WORSE, LATER = 1, 2, 3, 4
ANSWERS = {FIRST: 1, SECOND: 5, WORSE: 4, LATER: 3}
"""version -> what its model answers (`toy_promotion`)"""
ROWS = 3
"""of the ledger: two promotions and a rejection"""
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three rows in its ledger; beside it the database as it was after the first."""
    found = toy.workspace(tmp_path_factory.mktemp("home"))
    for version, answers in ANSWERS.items():
        folder = found.home / "exports" / str(version)
        folder.mkdir(parents=True)
        toy.write_model(folder / "model.onnx", answers)
        Manifest.of(folder).write(folder / MANIFEST)
        run_id = found.tracking.start("toy", {}, {})
        found.tracking.log_metrics(run_id, {"test_accuracy": 0.5}, NOW)
        found.registry.register(toy.NAME, run_id, folder, {DATASET_TAG: "d" * 64})
        if version < LATER:
            decide(found, version)
        if version == FIRST:
            copy_database(found.home / "openmlops.db", found.home / "old.db")
    LastChampion(found.home / FOLDER, toy.NAME).keep(found.ledger.history(toy.NAME)[1])
    return found.home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    """A copy of it. MLflow's files stay where they are."""
    home = tmp_path / "home"
    shutil.copytree(original, home, ignore=shutil.ignore_patterns("*.lock", "mlflow-artifacts", "exports", "answers"))
    return home


def decide(found: Workspace, version: int):
    return promotion.decide(found, found.registry.version(toy.NAME, version), toy.splits(found))


def copy_database(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)


# What happens to a database


def empty(home: Path) -> None:
    for path in home.glob("openmlops.db*"):
        path.unlink()


def yesterdays(home: Path) -> None:
    empty(home)
    copy_database(home / "old.db", home / "openmlops.db")


def cut_off(home: Path) -> None:
    """By somebody who knows of the head's table."""
    with writing(connect(f"sqlite:///{home / 'openmlops.db'}")) as connection:
        connection.execute(delete(LEDGER).where(LEDGER.c.sequence == ROWS))
        last = connection.execute(LEDGER.select().where(LEDGER.c.sequence == ROWS - 1)).mappings().one()
        connection.execute(update(LEDGER_HEAD).values(sequence=ROWS - 1, hash=last["hash"]))


def rewritten(home: Path) -> None:
    """The last row, with its hash and the head."""
    with writing(connect(f"sqlite:///{home / 'openmlops.db'}")) as connection:
        row = dict(connection.execute(LEDGER.select().where(LEDGER.c.sequence == ROWS)).mappings().one())
        row |= {"kind": "promote", "champion": WORSE}
        row["hash"] = _hash(row)
        connection.execute(update(LEDGER).where(LEDGER.c.sequence == ROWS).values(row))
        connection.execute(update(LEDGER_HEAD).values(hash=row["hash"]))


LOSSES = (empty, yesterdays, cut_off, rewritten)
ACTS: dict[str, Callable[[Workspace], object]] = {
    "train": lambda found: decide(found, LATER),
    "promote": lambda found: promotion.promote(found, f"{toy.NAME}/{LATER}", "why", toy.splits(found), force=True),
    "rollback": lambda found: promotion.rollback(found, toy.NAME),
}


@pytest.mark.parametrize("lose", LOSSES)
def test_nothing_is_promoted_by_a_ledger_that_lacks_rows(home: Path, lose: Callable[[Path], None]) -> None:
    lose(home)
    found = toy.workspace(home)
    before = found.ledger.rows(toy.NAME)
    for act in ACTS.values():
        with pytest.raises(LedgerBehind, match=r"MLflow's tag knows row 3 .*ledger restore toy"):
            act(found)
    assert found.ledger.rows(toy.NAME) == before
    listing.overview(found)
    assert found.registry.alias(toy.NAME, "champion") == SECOND, "the alias is a witness: a command that reads leaves it"


@pytest.mark.parametrize("lose", LOSSES)
def test_lost_rows_come_back_and_promotion_goes_on(
    home: Path, lose: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy.workspace(home).ledger.rows(toy.NAME)
    lose(home)
    found = toy.workspace(home)
    monkeypatch.setattr(Workspace, "open", lambda use_case=None: found)
    refused = CliRunner().invoke(app, ["ledger", "check"])
    assert isinstance(refused.exception, LedgerBehind)
    assert all(place in refused.stdout for place in ("the database", "MLflow's tag", "the object store"))
    done = CliRunner().invoke(app, ["ledger", "restore", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert found.ledger.rows(toy.NAME)[:ROWS] == whole
    assert found.ledger.champion(toy.NAME) == SECOND
    assert CliRunner().invoke(app, ["ledger", "check"], catch_exceptions=False).exit_code == 0
    assert decide(found, LATER).kind == "reject"


def test_rows_that_were_written_without_the_lost_ones_are_merged_as_records(home: Path) -> None:
    """Of the releases before this check: the poor champion of yesterday was replaced by one that is worse than the lost one."""
    yesterdays(home)
    found = toy.workspace(home)
    model = found.registry.version(toy.NAME, LATER)
    found.ledger.append(
        toy.NAME, 1, "promote", LATER, "ada", ("better than version 1",), model.dataset, model.sha256, None, NOW
    )
    done = restore(found, toy.NAME, NOW)
    assert (done.rows, done.restored, done.merged, done.champion) == (ROWS + 1, 2, 1, SECOND)
    merged = found.ledger.history(toy.NAME)[-1]
    assert (merged.kind, merged.version, merged.champion) == ("inconclusive", LATER, SECOND)
    assert "it was row 2, a promote of version 4" in merged.reasons[0]
    assert Path(done.kept).read_text().count("\n") == 2
    assert found.registry.alias(toy.NAME, "champion") == SECOND
    assert not witnesses.testimony(found, toy.NAME).against


def remove_tag(found: Workspace) -> None:
    found.registry.set_tag(toy.NAME, witnesses.TAG, "")


def remove_copy(found: Workspace) -> None:
    shutil.rmtree(found.home / "object-store" / "ledger")


def remove_memory(found: Workspace) -> None:
    LastChampion(found.home / FOLDER, toy.NAME).forget()


def remove_all(found: Workspace) -> None:
    """As of a project of an earlier release, whose alias is all that is known."""
    for remove in (remove_tag, remove_copy, remove_memory):
        remove(found)


@pytest.mark.parametrize(
    ("removed", "left"),
    [
        ((remove_copy, remove_memory), "MLflow's tag knows row 3"),
        ((remove_tag, remove_memory), "the object store knows row 3"),
        ((remove_tag, remove_copy), "the server of this home knows row 2"),
        ((remove_all,), "MLflow's alias champion knows row 1 .champion: version 2"),
    ],
    ids=["tag", "copy", "server", "alias"],
)
def test_one_witness_is_enough(home: Path, removed: tuple[Callable[[Workspace], None], ...], left: str) -> None:
    empty(home)
    found = toy.workspace(home)
    for remove in removed:
        remove(found)
    with pytest.raises(LedgerBehind, match=f"is empty, but {left}"):
        decide(found, LATER)
    way = "`openmlops ledger restore toy` gets them back" if "object" in left else "Restore the database from a backup"
    with pytest.raises(LedgerBehind, match=way):
        decide(found, LATER)


def test_an_object_store_that_is_away_is_not_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: FolderStore) -> bool:
        raise ServiceUnavailable("The object store did not respond")

    monkeypatch.setattr(FolderStore, "is_made", refuse)
    found = toy.workspace(home)
    assert {witness.place for witness in witnesses.testimony(found, toy.NAME).witnesses} == {witnesses.MLFLOW, witnesses.SERVER}
    assert decide(found, LATER).kind == "reject"


def test_a_row_whose_writer_was_killed_is_told_to_the_witnesses_later(home: Path) -> None:
    found = toy.workspace(home)
    model = found.registry.version(toy.NAME, LATER)
    found.ledger.append(toy.NAME, ROWS, "reject", LATER, "ada", ("worse",), model.dataset, model.sha256, None, NOW)
    witnesses.require_whole(found, toy.NAME)
    told = {witness.place: witness.row for witness in witnesses.testimony(found, toy.NAME).witnesses}
    assert told == {witnesses.MLFLOW: ROWS + 1, witnesses.OBJECTS: ROWS + 1, witnesses.SERVER: 2}


def test_a_ledger_can_start_anew_on_purpose(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty(home)
    found = toy.workspace(home)
    monkeypatch.setattr(Workspace, "open", lambda use_case=None: found)
    without = CliRunner().invoke(app, ["ledger", "restore", "--anew"])
    assert "Pass --anew with --reason WHY" in str(without.exception)
    anew = ["ledger", "restore", "--anew", "--reason", "the old data was wrong"]
    done = CliRunner().invoke(app, anew, catch_exceptions=False)
    assert done.exit_code == 0
    assert decide(found, LATER).champion == LATER
    assert not witnesses.testimony(found, toy.NAME).against
    (kept,) = (home / "object-store" / "ledger").glob("toy.before-*.jsonl")
    assert kept.read_text().count("\n") == ROWS
    (note,) = (home / "replaced").glob("ledger-toy-*.json")
    assert "the old data was wrong" in note.read_text()


def test_rows_come_back_from_a_database_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `openmlops restore` keeps it."""
    copy_database(home / "openmlops.db", home / "kept.db")
    yesterdays(home)
    found = toy.workspace(home)
    remove_copy(found)
    monkeypatch.setattr(Workspace, "open", lambda use_case=None: found)
    nothing = CliRunner().invoke(app, ["ledger", "restore"])
    assert "The object store has no rows of the ledger of toy" in str(nothing.exception)
    for wrong, says in ((home / "nowhere.db", "There is no file"), (home / "model.db", "is not a database of OpenMLOps")):
        if wrong.name == "model.db":
            wrong.write_text("no database")
        refused = CliRunner().invoke(app, ["ledger", "restore", "--from", str(wrong)])
        assert says in str(refused.exception)
    done = CliRunner().invoke(app, ["ledger", "restore", "--from", str(home / "kept.db")], catch_exceptions=False)
    assert done.exit_code == 0
    assert [entry.sequence for entry in found.ledger.history(toy.NAME)] == [1, 2, 3]


def test_a_broken_copy_restores_nothing(home: Path) -> None:
    yesterdays(home)
    found = toy.workspace(home)
    copy = home / "object-store" / "ledger" / "toy.jsonl"
    copy.write_text(copy.read_text().replace('"worse', '"wor5e').replace("promote", "promo7e", 1))
    with pytest.raises(LedgerCorrupt):
        restore(found, toy.NAME, NOW)
    assert len(found.ledger.rows(toy.NAME)) == 1


def test_doctor_tells_it(home: Path) -> None:
    yesterdays(home)
    told = {finding.service: finding for finding in doctor.examine(toy.workspace(home), "http://127.0.0.1:9")}
    assert told["ledger"].status == "failed"
    assert "ends with row 1 (champion: version 1), but MLflow's tag knows row 3" in told["ledger"].says
    assert "openmlops ledger restore toy" in told["ledger"].remedy


def test_a_restored_ledger_is_read_by_another_process(home: Path) -> None:
    empty(home)
    restore(toy.workspace(home), toy.NAME, NOW)
    assert len(Ledger(connect(f"sqlite:///{home / 'openmlops.db'}")).history(toy.NAME)) == ROWS
