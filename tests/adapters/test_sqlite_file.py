"""The database's file is taken away, replaced or moved while it is open: nothing is acknowledged that nobody can read."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, text
from test_leases import NOON

from openmlops.adapters.database import connect, writing
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.errors import ServiceUnavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "openmlops.db"


@pytest.fixture
def engine(file: Path) -> Engine:
    return connect(f"sqlite:///{file}")


def write(engine: Engine, *ids: str) -> None:
    entries = Entries(
        model="pets",
        version=1,
        layout=Layout(("a",), ("cat",)),
        ids=ids,
        at=[NOON] * len(ids),
        input_sha256=["0" * 64] * len(ids),
        features=np.zeros((len(ids), 1), np.float32),
        predictions=[b"\0\0\0\0"] * len(ids),
        latency_ms=[1.0] * len(ids),
    )
    InferenceLog(engine).write([entries])


def ids(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [name for (name,) in connection.execute("SELECT id FROM inference ORDER BY sequence")]


def copy(file: Path, to: Path) -> Path:
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(to)) as new:
        old.backup(new)
    return to


def test_a_deleted_file_is_not_written_to_and_not_made_again(file, engine):
    write(engine, "a")
    file.unlink()
    with pytest.raises(ServiceUnavailable, match="deleted, moved or replaced"):
        write(engine, "b")
    assert not file.exists()


def test_a_file_that_is_moved_away_is_used_again_when_it_is_back(file, engine):
    write(engine, "a")
    elsewhere = file.parent.rename(file.parent.with_name("elsewhere"))
    with pytest.raises(ServiceUnavailable, match="cannot be used"):
        write(engine, "b")
    assert not file.parent.exists()
    elsewhere.rename(file.parent)
    write(engine, "c")
    assert ids(file) == ["a", "c"]


def test_a_copy_in_its_place_is_used_without_the_old_journal(file, engine):
    write(engine, "a")
    yesterday = copy(file, file.with_name("yesterday.db"))
    write(engine, *(f"b{number}" for number in range(50)))
    os.replace(yesterday, file)
    write(engine, "c")
    assert ids(file) == ["a", "c"]
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
    assert file.with_name("openmlops.db.replaced-wal").exists()


def test_a_commit_to_a_file_that_is_replaced_meanwhile_is_not_acknowledged(file, engine):
    yesterday = copy(file, file.with_name("yesterday.db"))
    with pytest.raises(ServiceUnavailable, match="deleted, moved or replaced"), writing(engine) as connection:
        connection.execute(text("DELETE FROM lease"))
        os.replace(yesterday, file)
    write(engine, "a")
    assert ids(file) == ["a"]


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + bytes(200), b"no database" * 100])
def test_a_file_that_is_not_whole_is_waited_for(file, engine, monkeypatch, content):
    monkeypatch.setattr("openmlops.adapters.sqlite_file.RETRY_SECONDS", 0)
    write(engine, "a")
    yesterday = copy(file, file.with_name("yesterday.db"))
    half = file.with_name("half")
    half.write_bytes(content)
    os.replace(half, file)
    with pytest.raises(ServiceUnavailable, match="another file"):
        write(engine, "b")
    os.replace(yesterday, file)
    write(engine, "c")
    assert ids(file) == ["a", "c"]


def test_a_copy_with_a_journal_of_its_own_keeps_it(file, engine, tmp_path):
    write(engine, "a")
    other = connect(f"sqlite:///{tmp_path / 'other' / 'openmlops.db'}")
    write(other, "x", "y")
    for end in ("-wal", "-shm", ""):
        os.replace(tmp_path / "other" / f"openmlops.db{end}", f"{file}{end}")
    write(engine, "z")
    assert ids(file) == ["x", "y", "z"]


def test_another_engine_on_the_old_file_goes_on_with_the_new_one_too(file, engine):
    other = connect(f"sqlite:///{file}")
    write(engine, "a")
    write(other, "b")
    os.replace(copy(file, file.with_name("new.db")), file)
    write(engine, "c")
    write(other, "d")
    write(engine, "e")
    assert ids(file) == ["a", "b", "c", "d", "e"]


def test_a_copy_that_this_version_cannot_read_is_refused(file, engine, monkeypatch):
    monkeypatch.setattr("openmlops.adapters.sqlite_file.RETRY_SECONDS", 0)
    write(engine, "a")
    newer = copy(file, file.with_name("newer.db"))
    yesterday = copy(file, file.with_name("yesterday.db"))
    with closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("UPDATE openmlops_version SET version_num = '9999'")
    os.replace(newer, file)
    with pytest.raises(ServiceUnavailable, match="schema 9999"):
        write(engine, "b")
    os.replace(yesterday, file)
    write(engine, "c")
    assert ids(file) == ["a", "c"]
