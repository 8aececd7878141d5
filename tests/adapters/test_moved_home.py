"""A project that was moved or copied works where it is, and touches nothing where it was."""

import base64
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from mlflow_tables import with_tables
from openmlops.adapters import moved_home
from openmlops.adapters.data_versions import DataVersions, Remote
from openmlops.adapters.moved_home import LOCATION, repair
from openmlops.adapters.tracking import Tracking
from openmlops.errors import SettingsError
from openmlops.files import Manifest

NAME = "données [a] b%20c"


def tracking(root: Path) -> Tracking:
    return Tracking(f"sqlite:///{root}/.openmlops/mlflow.db", "openmlops", root / ".openmlops" / "mlflow-artifacts")


def versions(root: Path) -> DataVersions:
    home = root / ".openmlops"
    return DataVersions(Remote(url=str(home / "dvc-remote"), is_default=True), home / "dvc-cache")


def zenml(home: Path) -> Path:
    """ZenML's files as it writes them for the embedded store with a registered stack: what locates something."""
    database = home / "zenml" / "local_stores" / "default_zen_store" / "zenml.db"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE artifact_version (uri TEXT)")
        connection.execute("CREATE TABLE stack_component (id TEXT, configuration BLOB)")
        connection.execute("INSERT INTO artifact_version VALUES (?)", (f"{home}/zenml/local_stores/x/train",))
        connection.execute("INSERT INTO artifact_version VALUES (?)", (f"{home}-other/train",))
        for configuration in ({"path": f"{home}/zenml-artifacts"}, {"tracking_uri": f"sqlite:///{home}/mlflow.db"}, {}):
            text = base64.b64encode(json.dumps(configuration).encode())
            connection.execute("INSERT INTO stack_component VALUES ('', ?)", (text,))
    store = {"database": str(database), "url": f"sqlite:///{database}", "password": "x"}
    config = home / "zenml" / "config.yaml"
    config.write_text(yaml.safe_dump({"store": store, "user_id": "7"}))
    config.chmod(0o600)
    return database


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with data, a run and a stack."""
    root = tmp_path / NAME
    (root / "data" / "set").mkdir(parents=True)
    (root / "data" / "set" / "a").write_bytes(b"a")
    monkeypatch.chdir(root)
    versions(root).add(root / "data" / "set")
    with_tables(root / ".openmlops" / "mlflow.db")
    run = tracking(root).start("run", {"path": f"{root}/.openmlops/x"}, {})
    tracking(root).log_text(run, "kept", "kept/note.txt")
    (root / "run").write_text(run)
    zenml(root / ".openmlops")
    return root


def opened(root: Path) -> tuple[Path, ...]:
    return repair(root / ".openmlops", None, (root, root / "data"))


def texts(root: Path) -> str:
    """Everything that locates something in the stores."""
    zen = root / ".openmlops" / "zenml"
    rows = []
    for file, query in (
        (root / ".openmlops" / "mlflow.db", "SELECT artifact_location FROM experiments"),
        (root / ".openmlops" / "mlflow.db", "SELECT artifact_uri FROM runs"),
        (zen / "local_stores" / "default_zen_store" / "zenml.db", "SELECT uri FROM artifact_version"),
        (zen / "local_stores" / "default_zen_store" / "zenml.db", "SELECT configuration FROM stack_component"),
    ):
        with closing(sqlite3.connect(file)) as connection:
            rows += [row for (row,) in connection.execute(query)]
    decoded = [base64.b64decode(row).decode() if isinstance(row, bytes) else row for row in rows]
    stored = yaml.safe_load((zen / "config.yaml").read_text())
    return "\n".join([*decoded, *map(str, stored["store"].values()), (root / ".dvc" / "config.local").read_text()])


def points_to(place: Path, root: Path) -> bool:
    """Whether a store of the project in `root` still points to the one in `place`."""
    forms = (f"{place}/.openmlops/", f"{place.as_uri()}/.openmlops/", f"{place}/mlruns/")
    return any(form in texts(root) for form in forms)


def works(root: Path) -> None:
    """The earlier run is read, a new one and a new data version are written, all below `root`."""
    run = (root / "run").read_text()
    assert tracking(root).read_files(run, "kept") == {"note.txt": b"kept"}
    new = tracking(root).start("another", {}, {})
    assert list((root / ".openmlops" / "mlflow-artifacts").rglob(f"{new}/artifacts/environment.txt"))
    (root / "data" / "set" / "b").write_bytes(b"b")
    versions(root).add(root / "data" / "set")


def test_a_moved_project_writes_nothing_where_it_was(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = first.with_name("second")
    assert opened(first) == ()
    first.rename(second)
    monkeypatch.chdir(second)
    first.write_text("in the way")
    assert opened(second) == (first / ".openmlops",)
    assert opened(second) == ()
    assert not points_to(first, second)
    assert f"{first}/.openmlops-other/train" in texts(second)
    works(second)
    assert first.read_text() == "in the way"
    assert (second / ".openmlops" / "zenml" / "config.yaml").stat().st_mode & 0o777 == 0o600


def test_a_copy_leaves_its_origin_as_it_was(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = first.with_name("second")
    shutil.copytree(first, second, symlinks=True)
    before = Manifest.of(first), Manifest.of(first / ".openmlops"), Manifest.of(first / ".dvc")
    monkeypatch.chdir(second)
    assert opened(second) == (first / ".openmlops",)  # by what the stores say: no command had noted where the first was
    works(second)
    assert (Manifest.of(first), Manifest.of(first / ".openmlops"), Manifest.of(first / ".dvc")) == before


def test_records_of_what_happened_stay(first: Path) -> None:
    first.rename(second := first.with_name("second"))
    opened(second)
    with closing(sqlite3.connect(second / ".openmlops" / "mlflow.db")) as connection:
        assert connection.execute("SELECT value FROM params WHERE key = 'path'").fetchone() == (f"{first}/.openmlops/x",)


@pytest.mark.parametrize("step", ["_rewrite_database", "_rewrite_yaml", "_note"])
def test_a_killed_repair_is_finished_also_after_another_move(step: str, first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    second, third = first.with_name("second"), first.with_name("third")
    opened(first)
    first.rename(second)
    with monkeypatch.context() as patched:
        patched.setattr(moved_home, step, killed)
        with pytest.raises(KeyboardInterrupt):
            opened(second)
    second.rename(third)
    monkeypatch.chdir(third)
    assert opened(third)
    assert not points_to(first, third)
    assert not points_to(second, third)
    works(third)


def test_a_home_that_did_not_move_opens_no_store(first: Path) -> None:
    opened(first)
    (first / ".openmlops" / "mlflow.db").write_text("not a database")
    assert opened(first) == ()


def test_a_folder_without_a_home_gets_none(tmp_path: Path) -> None:
    assert opened(tmp_path) == ()
    assert not list(tmp_path.iterdir())


def test_a_moved_home_that_cannot_be_repaired_is_named(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(first)
    first.rename(second := first.with_name("second"))
    monkeypatch.setattr(moved_home, "BUSY_SECONDS", 0)
    with closing(sqlite3.connect(second / ".openmlops" / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SettingsError, match=r"second/.openmlops was moved or copied.*database is locked.*writable"):
            opened(second)
    assert (second / ".openmlops" / LOCATION).read_text() == f"{first}/.openmlops\n"


def test_a_damaged_store_stops_nothing_and_is_moved_when_it_is_restored(first: Path) -> None:
    opened(first)
    first.rename(second := first.with_name("second"))
    stores = [second / ".openmlops" / "mlflow.db", second / ".openmlops" / "zenml" / "config.yaml"]
    whole = [store.read_bytes() for store in stores]
    for store in stores:
        store.write_text("{{{ neither a database nor YAML")
    assert opened(second) == (first / ".openmlops",)
    assert opened(second) == ()
    for store, content in zip(stores, whole, strict=True):
        store.write_bytes(content)
    assert points_to(first, second)
    assert opened(second) == (first / ".openmlops",)
    assert not points_to(first, second)


def test_a_copy_made_of_hard_links_is_refused_before_it_writes_to_its_origin(first: Path) -> None:
    opened(first)
    second = first.with_name("second")
    shutil.copytree(first, second, symlinks=True, copy_function=os.link)
    before = Manifest.of(first / ".openmlops")
    with pytest.raises(SettingsError, match=r"second/\.openmlops/.*\.db is a hard link: .* Copy the project with `cp -a`"):
        opened(second)
    assert Manifest.of(first / ".openmlops") == before


def test_a_copy_of_the_home_inside_its_project_does_not_take_the_project_over(first: Path) -> None:
    opened(first)
    before = (first / ".dvc" / "config.local").read_text()
    shutil.copytree(first / ".openmlops", first / "kept", symlinks=True)
    assert repair(first / "kept", None, (first,)) == (first / ".openmlops",)
    assert (first / ".dvc" / "config.local").read_text() == before


def test_configurations_of_earlier_releases_become_relative(first: Path) -> None:
    """They held absolute paths."""
    config = first / ".dvc" / "config.local"
    config.write_text(config.read_text().replace("../.openmlops", f"{first}/.openmlops".replace("%", "%")))
    first.rename(second := first.with_name("second"))
    opened(second)
    assert "dir = ../.openmlops/dvc-cache" in (second / ".dvc" / "config.local").read_text()
