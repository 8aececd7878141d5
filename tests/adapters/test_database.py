"""The database: one schema whoever comes first, waiting instead of failing, and errors that name the place."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from alembic import config, script
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, event, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from forks import FORKS, start
from openmlops.adapters import database, schema
from openmlops.adapters.database import connect, writing
from openmlops.adapters.inference_log import InferenceLog, Layout
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.errors import PredictionNotFound, ServiceUnavailable, SettingsError


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'state' / 'openmlops.db'}"


def test_the_schema_is_made_in_a_folder_that_did_not_exist(tmp_path):
    engine = connect(url(tmp_path))
    assert {"ledger", "ledger_head", schema.VERSION_TABLE} <= set(inspect(engine).get_table_names())


def test_head_names_the_newest_migration():
    settings = config.Config()
    settings.set_main_option("script_location", str(database.MIGRATIONS))
    assert script.ScriptDirectory.from_config(settings).get_heads() == [schema.HEAD]


def test_the_migrations_end_at_the_tables_as_declared(tmp_path):
    with connect(url(tmp_path)).connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, schema.METADATA) == []


def test_eight_processes_that_start_at_once_make_one_schema(tmp_path):
    logs = [tmp_path / f"{number}.log" for number in range(8)]
    together = FORKS.Barrier(8)
    started = [start(log, connect_together, together, url(tmp_path)) for log in logs]
    for process in started:
        process.join(300)
    assert [(log.read_text(), process.exitcode) for log, process in zip(logs, started, strict=True)] == [("", 0)] * 8


def connect_together(together, where):
    together.wait(240)
    connect(where)


def test_a_database_at_head_is_asked_and_not_changed(tmp_path):
    connect(url(tmp_path)).dispose()
    before = (tmp_path / "state" / "openmlops.db").read_bytes()
    code = f"""
import sys
from openmlops.adapters.database import connect
connect({url(tmp_path)!r})
assert "alembic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "state" / "openmlops.db").read_bytes() == before


def test_a_migration_that_dies_half_way_leaves_nothing(tmp_path, monkeypatch):
    engine_url = url(tmp_path)

    def die(connection, cursor, statement, *rest):
        if "CREATE TABLE ledger_head" in statement:
            raise KeyboardInterrupt

    original = database._sqlite
    monkeypatch.setattr(database, "_sqlite", lambda address: _listening(original(address), die))
    with pytest.raises(KeyboardInterrupt):
        connect(engine_url)
    monkeypatch.undo()
    assert "ledger_head" in inspect(connect(engine_url)).get_table_names()


def _listening(engine, function):
    event.listen(engine, "before_cursor_execute", function)
    return engine


def at_revision(monkeypatch, address: str, revision: str):
    """A database that code of then made."""
    with monkeypatch.context() as then:
        then.setattr(database, "HEAD", revision)
        return connect(address)


def test_answers_and_labels_of_before_detection_are_kept_by_the_migration(tmp_path, monkeypatch):
    """Schema 0003 held probabilities and class indexes; 0004 holds what the task packs, and JSON."""
    probabilities = np.array([0.25, 0.75], "<f4").tobytes()
    with writing(at_revision(monkeypatch, url(tmp_path), "0003")) as connection:
        layout = Layout(("x",), ("cat", "dog")).id
        names = {"columns": '["x"]', "classes": '["cat", "dog"]'}
        connection.execute(text("INSERT INTO inference_layout VALUES (:id, :columns, :classes)"), {"id": layout, **names})
        row = "INSERT INTO inference VALUES (:n, :id, '2026-01-01 00:00:00', 'pets', 1, 'sha', :layout, :x, :p, 1.5)"
        for number in (1, 2):
            given = {"n": number, "id": f"p{number}", "layout": layout, "x": b"1234", "p": probabilities}
            connection.execute(text(row), given)
        connection.execute(text("INSERT INTO label VALUES ('p2', 1, '2026-01-02 00:00:00')"))
        connection.execute(text("INSERT INTO label_use VALUES ('p2', 'data', '2026-01-03 00:00:00')"))
    log = InferenceLog(connect(url(tmp_path), migrate=True))
    window = log.window("pets", 1)
    assert (window.predictions, window.labels) == ((probabilities, probabilities), (None, "1"))
    assert log.label("p1", "cat", CLASSIFICATION.read_label, datetime(2026, 1, 4, tzinfo=UTC))
    assert not log.label("p2", 1, CLASSIFICATION.read_label, datetime(2026, 1, 4, tzinfo=UTC))
    with pytest.raises(PredictionNotFound):
        log.label("p3", 1, CLASSIFICATION.read_label, datetime(2026, 1, 4, tzinfo=UTC))
    with pytest.raises(IntegrityError), writing(connect(url(tmp_path))) as connection:
        connection.execute(insert(schema.LABEL), {"inference": "p3", "truth": "1", "at": datetime(2026, 1, 4, tzinfo=UTC)})


def test_a_newer_schema_than_the_code_is_refused_by_name(tmp_path):
    engine = connect(url(tmp_path))
    with writing(engine) as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ServiceUnavailable, match=r"is at schema 9999; .* supports up to .* Upgrade OpenMLOps"):
        connect(url(tmp_path))


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_server_that_does_not_answer_is_named_without_its_password(scheme):
    with pytest.raises(ServiceUnavailable) as caught:
        connect(f"{scheme}://user:s3cret@127.0.0.1:9/prod")
    assert "prod on 127.0.0.1:9" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "notes.db").write_text("these are my notes, not a database\n" * 100)
    with pytest.raises(ServiceUnavailable, match=r"SQLite file .*notes\.db cannot be used \(file is not a database\)"):
        connect(f"sqlite:///{tmp_path / 'notes.db'}")


def test_a_file_of_another_user_is_named_with_a_way_on(tmp_path, monkeypatch):
    connect(url(tmp_path)).dispose()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    engine = connect(f"sqlite:///file:{tmp_path}/state/openmlops.db?mode=ro&uri=true")
    said = r"readonly database\)\. Give yourself the permission to write it and its folder"
    with engine.connect() as connection, pytest.raises(ServiceUnavailable, match=said):
        connection.execute(text("CREATE TABLE more (id INTEGER)"))
    assert not list((tmp_path / "here").iterdir()), "the name of the file is a path"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceUnavailable, match=r"file/openmlops\.db"):
        connect(f"sqlite:///{tmp_path / 'file' / 'openmlops.db'}")


@pytest.mark.parametrize("wrong", ["", "no url", "oracle://host/database", "sqlite://", "postgresql://host"])
def test_a_url_that_names_no_database_of_ours_is_a_settings_error(wrong):
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        connect(wrong)


def test_a_database_that_breaks_while_in_use_is_unavailable(tmp_path):
    engine = connect(url(tmp_path))
    engine.dispose()
    (tmp_path / "state" / "openmlops.db").write_bytes(b"x" * 4096)
    with pytest.raises(ServiceUnavailable), engine.connect() as connection:
        connection.execute(select(schema.LEDGER))


def test_a_wrong_statement_is_not_blamed_on_the_database(tmp_path):
    engine = connect(url(tmp_path))
    row = {"model": "m", "sequence": 1, "hash": "a"}
    with writing(engine) as connection:
        connection.execute(insert(schema.LEDGER_HEAD).values(row))
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(schema.LEDGER_HEAD).values(row))


def test_writers_that_read_first_take_turns(tmp_path):
    """Twenty read-then-write transactions on four threads: with a deferred BEGIN some of them would fail as locked."""
    engine = connect(url(tmp_path))
    heads = schema.LEDGER_HEAD
    with writing(engine) as connection:
        connection.execute(insert(heads).values(model="m", sequence=0, hash=""))

    def add_five() -> None:
        for _ in range(5):
            with writing(engine) as connection:
                seen = connection.scalar(select(heads.c.sequence))
                connection.execute(update(heads).values(sequence=seen + 1))

    threads = [threading.Thread(target=add_five) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.scalar(select(heads.c.sequence)) == 20


def test_times_are_kept_to_the_microsecond_in_utc(tmp_path):
    engine = connect(url(tmp_path))
    table = Table("moments", MetaData(), Column("id", Integer, primary_key=True), Column("at", schema.UtcDateTime))
    given = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone(timedelta(hours=5)))
    with writing(engine) as connection:
        table.create(connection)
        connection.execute(insert(table).values(id=1, at=given))
        read = connection.scalar(select(table.c.at))
        assert (read, read.tzinfo) == (given, UTC)
        with pytest.raises(StatementError, match="no time zone"):
            connection.execute(insert(table).values(id=2, at=given.replace(tzinfo=None)))
