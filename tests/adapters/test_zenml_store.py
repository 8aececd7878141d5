"""ZenML's embedded store is looked at without ZenML: what others did to it is told in one line."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from openmlops.adapters.zenml_store import STACK_GONE, what_is_gone
from openmlops.errors import ServiceRefused

OURS, DEFAULT = (str(UUID(int=number)) for number in (1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The database of a store with two stacks, as ZenML writes them, the first of them active."""
    database = tmp_path / "local stores" / "zenml.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE stack (id CHAR(32), name VARCHAR)")
        connection.executemany("INSERT INTO stack VALUES (?, ?)", [(UUID(OURS).hex, "ours"), (UUID(DEFAULT).hex, "default")])
    config = {"active_stack_id": OURS, "store": {"type": "sql", "database": str(database)}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return database


def test_a_deleted_stack_is_told(store: Path, tmp_path: Path) -> None:
    assert what_is_gone(tmp_path) == ""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM stack WHERE name = 'ours'")
    assert what_is_gone(tmp_path) == STACK_GONE


def test_a_store_that_is_gone_is_made_again_by_zenml(store: Path, tmp_path: Path) -> None:
    store.write_bytes(b"")
    assert what_is_gone(tmp_path) == ""
    store.unlink()
    assert what_is_gone(tmp_path) == ""
    (tmp_path / "config.yaml").write_text("store: {type: rest, url: http://127.0.0.1:9}\nactive_stack_id: x\n")
    assert what_is_gone(tmp_path) == ""
    (tmp_path / "config.yaml").unlink()
    assert what_is_gone(tmp_path) == what_is_gone(tmp_path / "nowhere") == what_is_gone(None) == ""


@pytest.mark.parametrize("name", ["zenml.db", "config.yaml"])
def test_a_store_that_cannot_be_read_is_named_with_a_way_on(name: str, store: Path, tmp_path: Path) -> None:
    file = store if name == "zenml.db" else tmp_path / name
    file.write_text("{ not what it was")
    with pytest.raises(ServiceRefused, match=f"{file} cannot be read .*Restore it, or move {name} away: the next pipeline"):
        what_is_gone(tmp_path)


def test_a_store_of_another_user_is_named_with_a_way_on(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(ServiceRefused, match=r"config\.yaml cannot be read .*Permission denied.*Give yourself the permission"):
        what_is_gone(tmp_path)
