"""Every schema that ever landed opens with its data after an upgrade, also if the upgrade was killed at any step."""

from pathlib import Path

import pytest

from upgrades import ROWS, made, require_upgraded, revisions, tables_of, upgrade_with_kills


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'openmlops.db'}"


def test_there_is_a_row_for_every_table() -> None:
    from openmlops.adapters.schema import HEAD, METADATA

    assert set(ROWS) == set(METADATA.tables) == set(tables_of(HEAD))


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
