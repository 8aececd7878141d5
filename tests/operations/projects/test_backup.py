"""A backup is whole or not there, made and put back under a running server, and says what it lacks."""

import io
import json
import os
import sqlite3
import tarfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlflow_tables import with_tables
from openmlops.adapters.inference_log import Entries, Layout
from openmlops.adapters.processes import Process
from openmlops.errors import DataCorrupt, DataError, LeaseTaken, OpenMLOpsError, ServiceUnavailable, SettingsError
from openmlops.operations.projects.backup import FOLDERS, back_up, verified
from openmlops.operations.projects.restore import restore
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def workspace(home: Path, **settings: str) -> Workspace:
    return Workspace(Settings(openmlops_home=home, use_case="cifar10", **settings))


@pytest.fixture
def project(tmp_path: Path) -> Workspace:
    found = workspace(tmp_path / "home")
    with_tables(found.home / "mlflow.db")
    found.inputs.make()
    found.inputs.put(b"image", "ab" * 32)
    (found.home / "dvc-cache").mkdir()
    (found.home / "dvc-cache" / "object").write_bytes(b"data")
    (found.home / "object-store").mkdir()
    os.link(found.home / "dvc-cache" / "object", found.home / "object-store" / "object")
    (found.home / "console.key").write_bytes(b"key")
    (found.home / "models").mkdir()
    (found.home / "models" / "copy").touch()
    promote(found, 1)
    write(found, "a")
    return found


def promote(found: Workspace, version: int) -> None:
    head = found.ledger.head("pets")
    now = datetime.now(UTC)
    found.ledger.append("pets", head.sequence if head else 0, "promote", version, "me", ("why",), "0" * 64, "1" * 64, None, now)


def write(found: Workspace, *ids: str) -> None:
    entries = Entries(
        model="pets",
        version=1,
        layout=Layout(("a",), ("cat",)),
        ids=ids,
        at=[NOW] * len(ids),
        input_sha256=["0" * 64] * len(ids),
        features=np.zeros((len(ids), 1), np.float32),
        predictions=[b"\0\0\0\0"] * len(ids),
        latency_ms=[1.0] * len(ids),
    )
    found.inference_log.write([entries])


def ids(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT id FROM inference")}


def test_a_backup_restored_elsewhere_is_the_project(project, tmp_path):
    made = back_up(project, tmp_path / "project.tar")
    other = workspace(tmp_path / "other")
    restored = restore(other, tmp_path / "project.tar", NOW)
    assert (restored.files, restored.kept) == (made.files, "")
    assert other.ledger.champion("pets") == 1
    assert ids(other.home / "openmlops.db") == {"a"}
    assert other.inputs.path("ab" * 32).read_bytes() == b"image"
    assert os.path.samefile(other.home / "dvc-cache" / "object", other.home / "object-store" / "object")
    assert not (other.home / "console.key").exists()
    assert not (other.home / "models").exists()


def test_the_key_is_in_it_by_choice(project, tmp_path):
    assert back_up(project, tmp_path / "project.tar.gz", keys=True).has_keys
    restore(workspace(tmp_path / "other"), tmp_path / "project.tar.gz", NOW)
    assert (tmp_path / "other" / "console.key").read_bytes() == b"key"


def test_what_the_backup_lacks_is_said_and_kept(project, tmp_path):
    back_up(project, tmp_path / "project.tar")
    write(project, "b", "c")
    promote(project, 2)
    project.inputs.path("ab" * 32).write_bytes(b"damaged")
    restored = restore(project, tmp_path / "project.tar", NOW)
    assert (restored.predictions, restored.ledger_rows) == (2, 1)
    assert ids(Path(restored.kept)) == {"a", "b", "c"}
    assert project.ledger.champion("pets") == 1
    assert project.inputs.path("ab" * 32).read_bytes() == b"image"
    write(project, "d")
    assert ids(project.home / "openmlops.db") == {"a", "d"}


@pytest.mark.parametrize("spoil", ["cut", "changed", "other", "absent"])
def test_a_damaged_backup_changes_nothing(project, tmp_path, spoil):
    path = tmp_path / "project.tar"
    back_up(project, path)
    content = path.read_bytes()
    place = content.index(b"image")
    spoiled = {
        "cut": content[: len(content) // 2],
        "changed": content[:place] + b"I" + content[place + 1 :],
        "other": b"no tar",
    }
    path.write_bytes(spoiled.get(spoil, b""))
    if spoil == "absent":
        path.unlink()
    write(project, "b")
    before = sorted(project.home.rglob("*"))
    with pytest.raises(DataCorrupt if spoil in ("cut", "changed") else DataError, match=r"project\.tar"):
        restore(project, path, NOW)
    assert sorted(project.home.rglob("*")) == before
    assert ids(project.home / "openmlops.db") == {"a", "b"}


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "home/../../escaped"])
def test_a_member_outside_of_the_folder_is_refused(project, tmp_path, name):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        info = tarfile.TarInfo(name)
        archive.addfile(info, io.BytesIO())
    with pytest.raises(DataCorrupt, match="no backup has"):
        restore(project, tmp_path / "evil.tar", NOW)


def test_a_link_out_of_the_folder_is_refused(project, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        info = tarfile.TarInfo("home/inputs/x")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataCorrupt, match="no backup has"):
        restore(project, tmp_path / "evil.tar", NOW)


def test_a_damaged_database_is_not_backed_up(project, tmp_path):
    project.engine.dispose()
    with (project.home / "openmlops.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    with pytest.raises(ServiceUnavailable, match=r"openmlops\.db"):
        back_up(project, tmp_path / "project.tar")
    assert not (tmp_path / "project.tar").exists()


def test_nothing_is_restored_under_a_training(project, tmp_path):
    back_up(project, tmp_path / "project.tar")
    project.leases.take("cycle/pets", "this test", timedelta(minutes=5))
    with pytest.raises(LeaseTaken, match="this test"):
        restore(project, tmp_path / "project.tar", datetime.now(UTC))


def test_a_training_whose_process_has_ended_keeps_nothing_from_being_restored(project, tmp_path):
    back_up(project, tmp_path / "project.tar")
    ended = Process.this().model_copy(update={"started": 1})
    project.leases.take("run/a", ended.model_dump_json(), timedelta(minutes=5))
    assert restore(project, tmp_path / "project.tar", datetime.now(UTC)).files
    project.leases.take("run/b", Process.this().model_dump_json(), timedelta(minutes=5))
    with pytest.raises(LeaseTaken, match=rf"^process {os.getpid()} on .* is at work \(run/b\)"):
        restore(project, tmp_path / "project.tar", datetime.now(UTC))


@pytest.mark.parametrize("settings", [{"database_url": "postgresql://u:p@h/d"}, {"mlflow_tracking_uri": "http://mlflow:5000"}])
def test_servers_are_backed_up_by_their_own_tools(tmp_path, settings):
    with pytest.raises(SettingsError, match="a server, which is not backed up"):
        back_up(workspace(tmp_path / "home", **settings), tmp_path / "project.tar")


def test_every_folder_of_the_documents_is_in_a_backup(project, tmp_path):
    for folder in FOLDERS:
        (project.home / folder).mkdir(exist_ok=True)
        (project.home / folder / "file").write_text(folder)
    back_up(project, tmp_path / "project.tar")
    assert {f"home/{folder}/file" for folder in FOLDERS} <= set(verified(tmp_path / "project.tar").files)


class Writers:
    """Threads that log predictions as a server does: what was acknowledged is remembered."""

    def __init__(self, found: Workspace) -> None:
        self.acknowledged: list[str] = []
        self.refused = 0
        self._found, self._ended = found, threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(3)]

    def __enter__(self) -> "Writers":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def _write(self, number: int) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            try:
                write(self._found, name := f"{number}-{count}-{os.urandom(3).hex()}")
            except OpenMLOpsError:
                self.refused += 1
                time.sleep(0.01)
            else:
                self.acknowledged.append(name)

    def some(self, more: int = 20) -> None:
        """Until so many more were acknowledged."""
        seen, ends = len(self.acknowledged), time.monotonic() + 60
        while len(self.acknowledged) < seen + more:
            assert time.monotonic() < ends
            time.sleep(0.005)


def under_load(project: Workspace, path: Path, turns: int) -> None:
    """Back up and restore while predictions are logged: what was acknowledged is in one of the databases, all whole."""
    databases = {project.home / "openmlops.db"}
    with Writers(project) as writers:
        for turn in range(turns):
            writers.some()
            acknowledged = set(writers.acknowledged)
            back_up(project, path)
            assert verified(path)
            writers.some()
            restored = restore(project, path, NOW + timedelta(seconds=turn))
            databases.add(Path(restored.kept))
            assert acknowledged <= ids(project.home / "openmlops.db") | set.union(*map(ids, databases))
        writers.some()
    kept = [ids(database) for database in databases]
    assert len(databases) == turns + 1
    assert set(writers.acknowledged) <= set.union(*kept)
    for database in databases:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    print(json.dumps({"turns": turns, "acknowledged": len(writers.acknowledged), "refused": writers.refused}))


def test_nothing_acknowledged_is_lost_by_a_restore_under_load(project, tmp_path):
    under_load(project, tmp_path / "project.tar", 3)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_fifty_restores_under_load(project, tmp_path):
    under_load(project, tmp_path / "project.tar", 50)
