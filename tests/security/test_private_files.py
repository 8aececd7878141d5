"""Databases, inputs, logs and backups of an embedded home are readable by their owner alone."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openmlops.adapters.database import connect
from openmlops.adapters.input_store import InputStore, sha256_of
from openmlops.adapters.mlflow_client import connect as connect_mlflow
from openmlops.operations.projects import doctor
from openmlops.operations.projects.backup import back_up
from openmlops.operations.projects.restore import restore
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

CONTENT = b"what somebody sent"


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def found(tmp_path: Path) -> Workspace:
    """An embedded home with a prediction's input."""
    made = Workspace(Settings(openmlops_home=tmp_path / "its home", use_case="cifar10"))
    connect(made.settings.database).dispose()
    made.inputs.make()
    made.inputs.put(CONTENT, sha256_of(CONTENT))
    return made


def others_may(path: Path) -> int:
    """The permissions that group and others have."""
    return stat.S_IMODE(path.stat().st_mode) & 0o077


def test_the_database_with_its_journal_is_private(found: Workspace) -> None:
    with found.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO progress VALUES ('n', 1)")
        present = sorted(found.home.glob("openmlops.db*"))
        assert {"openmlops.db", "openmlops.db-wal", "openmlops.db-shm"} <= {path.name for path in present}
        assert [path.name for path in present if others_may(path) and not path.name.endswith(".lock")] == []


def test_mlflows_database_is_private(tmp_path: Path) -> None:
    connect_mlflow.cache_clear()
    (tmp_path / "mlflow").mkdir()
    connect_mlflow(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    assert others_may(tmp_path / "mlflow" / "mlflow.db") == 0


def test_inputs_are_private_also_those_of_a_folder_that_was_deleted(found: Workspace, tmp_path: Path) -> None:
    InputStore(tmp_path / "new").put(CONTENT, sha256_of(CONTENT))
    for folder in (found.home / "inputs", tmp_path / "new"):
        assert [path for path in (folder, *folder.rglob("*")) if others_may(path)] == []


def test_a_backup_and_what_is_restored_from_it_are_private(found: Workspace, tmp_path: Path) -> None:
    back_up(found, file := tmp_path / "project.tar")
    assert others_may(file) == 0
    elsewhere = Workspace(Settings(openmlops_home=tmp_path / "another home", use_case="cifar10"))
    restore(found, file, datetime.now(UTC))
    restore(elsewhere, file, datetime.now(UTC))
    inputs = [path for home in (found.home, elsewhere.home) for path in (home / "inputs", *(home / "inputs").rglob("*"))]
    for path in (found.home / "openmlops.db", elsewhere.home / "openmlops.db", *(found.home / "replaced").iterdir(), *inputs):
        assert others_may(path) == 0, path


def test_doctor_says_what_an_earlier_release_left_open(found: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> doctor.Finding:
        return next(finding for finding in doctor.examine(found, "http://127.0.0.1:9") if finding.service == "home")

    monkeypatch.setattr(doctor, "FREE_BYTES", 0)
    assert home().status == "ok"
    (found.home / "openmlops.db").chmod(0o644)
    assert (home().status, home().remedy) == ("warning", f"Run: chmod -R go= '{found.home}'")
    assert "openmlops.db can be read by other users" in home().says
