"""The prediction server's role, on PostgreSQL and MariaDB: it does its work, and cannot change what was decided or labelled."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from openmlops.adapters.database import connect, writing
from openmlops.adapters.decisions import DecisionRecord, Decisions
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.server_role import grant
from openmlops.cli import app
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.errors import LedgerConflict, ServiceRefused, SettingsError
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from postgres import postgres
from real_servers import make_database, mariadb

MODEL, ROLE, NOW = "pets", "openmlops_serve", datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def urls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The owner's, on MariaDB an administrator's, and the server's, of one database with a row in the ledger."""
    if request.param == "postgresql":
        with postgres() as server:
            yield prepared(make_database(server, "owned"), f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'")
    else:
        with mariadb(tmp_path_factory.mktemp("mariadb") / "log", ("owned",)) as found:
            yield prepared(f"mysql://root@127.0.0.1:{found.port}/owned", f"CREATE USER '{ROLE}'@'%%' IDENTIFIED BY 'secret'")


def prepared(owner: str, role: str) -> tuple[str, str]:
    engine = connect(owner)
    append(Ledger(engine), 0)
    with engine.begin() as connection:
        connection.exec_driver_sql(role)
    grant(engine, ROLE)
    engine.dispose()
    return owner, make_url(owner).set(username=ROLE, password="secret").render_as_string(hide_password=False)


def append(ledger: Ledger, expected: int) -> None:
    ledger.append(MODEL, expected, "promote", 1, "ada", ("better",), "d" * 64, "a" * 64, None, NOW)


def entries(*ids: str) -> Entries:
    n = len(ids)
    values = np.zeros((n, 1), np.float32), [np.array([0.2, 0.8], "<f4").tobytes()] * n
    return Entries(MODEL, 1, Layout(("x",), ("cat", "dog")), ids, [NOW] * n, ["c" * 64] * n, *values, [1.0] * n)


def test_the_server_does_its_work_with_it(urls: tuple[str, str]) -> None:
    engine = connect(urls[1])
    log = InferenceLog(engine)
    log.write([entries("kept", "withdrawn")])
    log.withdraw(["withdrawn"])
    log.probe()
    assert log.label("kept", "dog", CLASSIFICATION.read_label, NOW)
    record = DecisionRecord(id="asked", model=MODEL, version=1, at=NOW, action="request", reasons=("a look",), by="a client")
    Decisions(engine).append(record)
    assert log.window(MODEL, 1).ids == ("kept",)
    assert Ledger(engine).champion(MODEL) == 1
    assert Ledger(engine).begun_anew(MODEL) is None
    engine.dispose()


CHANGES = (
    "UPDATE ledger SET champion = 2",
    "DELETE FROM ledger",
    "DELETE FROM ledger_head",
    "UPDATE inference SET version = 2",
    "DELETE FROM label",
    "UPDATE decision SET action = 'nothing'",
    "DELETE FROM lease",
    "DROP TABLE ledger",
    "ALTER TABLE ledger ADD COLUMN x INTEGER",
    "CREATE TABLE owned_by_nobody (x INTEGER)",
)


@pytest.mark.parametrize("change", CHANGES)
def test_it_changes_nothing_else(urls: tuple[str, str], change: str) -> None:
    if change.startswith("CREATE") and urls[0].startswith("postgresql") and not forbids_new_tables(urls[1]):
        pytest.skip("PostgreSQL before 15 lets every role make tables")
    with pytest.raises(ServiceRefused, match=r"does not let this role do that|cannot be used"), writing(connect(urls[1])) as it:
        it.exec_driver_sql(change)


def forbids_new_tables(url: str) -> bool:
    with connect(url).connect() as connection:
        return connection.dialect.server_version_info >= (15,)


def test_a_promotion_with_it_is_refused_with_one_line(urls: tuple[str, str]) -> None:
    with pytest.raises(ServiceRefused, match=r"does not let this role do that .*role that owns the database") as refused:
        append(Ledger(connect(urls[1])), 1)
    assert "secret" not in str(refused.value)
    with pytest.raises(LedgerConflict):
        append(Ledger(connect(urls[0])), 0)


def test_the_owner_grants_it_again_by_a_command(urls: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owned = Workspace(Settings(openmlops_home=tmp_path, database_url=urls[0]))
    monkeypatch.setattr(Workspace, "open", lambda use_case=None: owned)
    done = CliRunner().invoke(app, ["stack", "grant", ROLE, "--json"], catch_exceptions=False)
    assert len(json.loads(done.stdout)["statements"]) > 5
    assert InferenceLog(connect(urls[1])).holds("kept")


@pytest.mark.parametrize("role", ["", "a; DROP TABLE ledger", "a" * 40, "'"])
def test_what_is_no_role_is_refused(role: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a role's name"):
        grant(connect(f"sqlite:///{tmp_path / 'a.db'}"), role)


def test_a_file_has_no_roles(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a file, which knows no roles"):
        grant(connect(f"sqlite:///{tmp_path / 'a.db'}"), ROLE)
