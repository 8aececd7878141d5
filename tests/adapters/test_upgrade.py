"""Every schema that ever landed opens with its data after an upgrade, also if the upgrade was killed at any step."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from openmlops.adapters import schema
from openmlops.adapters.database import connect, connect_without_migrating, describe
from openmlops.adapters.schema import HEAD
from openmlops.adapters.schema_upgrade import expands, migrations_after, upgrade, users_of
from openmlops.errors import ServiceRefused
from upgrades import ROWS, made, require_old_writers_go_on, require_upgraded, revisions, tables_of, upgrade_with_kills


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'openmlops.db'}"


def database_at(address: str) -> str | None:
    """The revision of its schema."""
    return describe(address).revision


def test_there_is_a_row_for_every_table() -> None:
    assert set(ROWS) == set(schema.METADATA.tables) == set(tables_of(HEAD))


@pytest.mark.parametrize("revision", revisions())
def test_a_database_of_each_schema_is_upgraded_with_its_data(tmp_path: Path, revision: str) -> None:
    made(url(tmp_path), revision)
    require_upgraded(url(tmp_path), revision)


@pytest.mark.parametrize("revision", [None, "0003"])
def test_an_upgrade_that_is_killed_at_any_step_can_be_given_again(tmp_path: Path, revision: str | None) -> None:
    if revision:
        made(url(tmp_path), revision)
    changes = 0
    while not upgrade_with_kills(url(tmp_path), changes):
        changes += 1
    assert changes > 5
    require_upgraded(url(tmp_path), revision or "0000")


@pytest.mark.parametrize(
    "revision", [each for each in revisions() if each != HEAD and all(map(expands, migrations_after(each)))]
)
def test_servers_of_before_go_on_after_steps_that_expand(tmp_path: Path, revision: str) -> None:
    require_old_writers_go_on(url(tmp_path), revision)


def test_a_step_that_renames_a_column_does_not_expand() -> None:
    assert not expands("m0004_boxes")


def test_a_database_of_an_older_schema_is_refused_and_left_as_it_is_until_it_is_upgraded(tmp_path: Path) -> None:
    made(address := url(tmp_path), "0006")
    with pytest.raises(ServiceRefused, match=rf"is at schema 0006; .* needs {HEAD}. Run: openmlops upgrade"):
        connect(address)
    assert database_at(address) == "0006"
    done = upgrade(address, only_alone=True)
    assert (done.before, done.after, done.users) == ("0006", HEAD, ())
    assert database_at(address) == HEAD
    assert done.copy_of_before is not None
    assert done.copy_of_before.stat().st_mode & 0o077 == 0
    assert database_at(f"sqlite:///{done.copy_of_before}") == "0006"
    assert upgrade(address).before == HEAD


HOLD = """
import sys
from openmlops.adapters.database import connect_without_migrating
connection = connect_without_migrating(sys.argv[1]).connect()
connection.exec_driver_sql("SELECT count(*) FROM ledger").fetchall()
connection.rollback()
print("open", flush=True)
sys.stdin.readline()
"""


def test_who_has_the_file_open_is_named_and_not_cut_off_by_a_step_that_does_more_than_expand(tmp_path: Path) -> None:
    made(old := url(tmp_path), "0003")
    (tmp_path / "new").mkdir()
    made(new := url(tmp_path / "new"), "0006")
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD, each], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for each in (old, new)
    ]
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
        by = rf"in use by '.*' \(process {holders[0].pid}\). Stop these, then run: openmlops upgrade"
        with pytest.raises(ServiceRefused, match=by):
            upgrade(old)
        with pytest.raises(ServiceRefused, match=f"process {holders[1].pid}"):
            upgrade(new, only_alone=True)
        assert database_at(new) == "0006"
        done = upgrade(new)
        assert done.after == HEAD
        assert f"process {holders[1].pid}" in done.users[0]
    finally:
        for holder in holders:
            holder.communicate("")
    engine = connect_without_migrating(old)
    assert users_of(engine) == ()
    assert upgrade(old).users == ()
    engine = connect(old)
    with engine.connect() as connection:
        assert connection.scalar(select(schema.INFERENCE.c.answer)) == ROWS["inference"]["answer"]
