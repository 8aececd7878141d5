"""Databases of every schema that ever landed, with a row in every table, and what must be left of it after an upgrade."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest import mock

from alembic import config, script
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, Table, event, insert, inspect, select

from openmlops.adapters import database, schema
from openmlops.adapters.database import connect, connect_without_migrating, writing

AT = datetime(2026, 1, 1, 12, 30, 15, 250000)
ROWS: dict[str, dict[str, Any]] = {
    "ledger": {
        "model": "pets", "sequence": 1, "kind": "promote", "version": 3, "champion": 3, "at": AT.isoformat(), "actor": "ada",
        "reasons": '["Zürich"]', "dataset": "d" * 64, "model_sha256": "a" * 64, "verdict": None, "previous": "0" * 64,
        "hash": "b" * 64,
    },
    "ledger_head": {"model": "pets", "sequence": 1, "hash": "b" * 64},
    "inference_layout": {"id": "l" * 64, "columns": '["x"]', "classes": '["cat", "dog"]'},
    "inference": {
        "sequence": 7, "id": "p1", "at": AT, "model": "pets", "version": 3, "input_sha256": "c" * 64, "layout": "l" * 64,
        "features": b"\x00\x01\xff", "probabilities": b"\x02\xfe", "answer": b"\x02\xfe", "latency_ms": 1.5,
    },
    "label": {"inference": "p1", "label": 1, "truth": "1", "at": AT},
    "label_use": {"inference": "p1", "dataset": "d" * 64, "at": AT},
    "label_draw": {"inference": "p1", "decision": "d1", "stratum": "rest", "at_random": True, "probability": 0.25},
    "outbox": {
        "sequence": 1, "identity": "d1.retrain", "model": "pets", "at": AT, "content": '{"é": 1}', "due": AT, "attempts": 2,
        "problem": "500",
    },
    "decision": {
        "sequence": 5, "id": "d1", "model": "pets", "version": 3, "at": AT, "action": "nothing", "record": '{"é": 1}',
        "outcome": None, "basis": None,
    },
    "lease": {"name": "cycle/pets", "holder": "somebody", "term": 2, "expires": AT},
    "inference_hour": {
        "model": "pets", "version": 3, "hour": AT.replace(minute=0, second=0, microsecond=0), "n": 4, "labelled": 1,
        "latency": "{}",
    },
    "input_place": {"sha256": "e" * 64, "pack": "20260101T000000-0", "start": 512, "size": 1024},
    "progress": {"name": "cycle/pets", "position": 9},
}  # fmt: skip
"""table -> a row with values for all columns that it ever had; parents before children"""


def revisions() -> list[str]:
    """Of all migrations, the oldest first."""
    settings = config.Config()
    settings.set_main_option("script_location", str(database.MIGRATIONS))
    found = script.ScriptDirectory.from_config(settings).walk_revisions()
    return sorted(revision.revision for revision in found)


def made(url: str, revision: str) -> None:
    """Make the database as code of then made it, with its rows."""
    with mock.patch.object(database, "HEAD", revision):
        engine = connect(url)
    present = set(inspect(engine).get_table_names())
    with writing(engine) as connection:
        for name, row in ROWS.items():
            if name in present:
                table = Table(name, MetaData(), autoload_with=connection)
                connection.execute(insert(table), {column: row[column] for column in row if column in table.columns})
    engine.dispose()


def require_upgraded(url: str, revision: str) -> None:
    """Upgrade it, and compare tables with what the code declares and rows with what was there."""
    before = tables_of(revision)
    engine = connect(url, migrate=True)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, schema.METADATA) == []
        for name in before:
            table = Table(name, MetaData(), autoload_with=connection)
            (found,) = connection.execute(select(table)).mappings().all()
            expected = {column: value for column, value in ROWS[name].items() if column in found}
            assert {column: found[column] for column in expected} == expected, name
    engine.dispose()


def tables_of(revision: str) -> list[str]:
    """The tables with rows that a database of a revision has."""
    first = {"inference": "0002", "label_use": "0003", "decision": "0003", "lease": "0003", "inference_hour": "0005"}
    first |= {"inference_layout": "0002", "label": "0002", "progress": "0006", "input_place": "0007", "label_draw": "0008"}
    first |= {"outbox": "0009"}
    return [name for name in ROWS if first.get(name, "0001") <= revision]


def require_old_writers_go_on(url: str, revision: str) -> None:
    """What code of a revision inserts, with the columns that it knows, is accepted after one upgrade by one step."""
    made(url, revision)
    old = connect_without_migrating(url)
    with old.connect() as connection:
        tables = {name: Table(name, MetaData(), autoload_with=connection) for name in tables_of(revision) if name in ROWS}
    connect(url, migrate=True).dispose()
    with writing(old) as connection:
        for name in reversed(tables):
            connection.execute(tables[name].delete())
        for name, table in tables.items():
            row = {column: value for column, value in ROWS[name].items() if column in table.columns}
            connection.execute(insert(table), row)
    old.dispose()


class Killed(BaseException):
    """Instead of a statement, as if the process had died before it."""


@contextmanager
def killed_after(changes: int) -> Iterator[None]:
    """Let a migration die before the statement after so many that change something."""
    done = 0

    def count(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        nonlocal done
        if statement.lstrip().split()[0].upper() in ("CREATE", "ALTER", "UPDATE", "INSERT", "DROP", "DELETE"):
            done += 1
            if done > changes:
                raise Killed

    original = database._engine

    def listening(url: str) -> Engine:
        engine = original(url)
        event.listen(engine, "before_cursor_execute", count)
        return engine

    with mock.patch.object(database, "_engine", listening):
        yield


def upgrade_with_kills(url: str, changes: int) -> bool:
    """Begin an upgrade that dies after so many changes; whether it came to its end."""
    try:
        with killed_after(changes):
            connect(url, migrate=True).dispose()
    except Killed:
        return False
    return True
