"""A workspace is opened where its project is now."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_tables import with_tables
from openmlops.adapters.tracking import Tracking
from openmlops.operations.workspace import Workspace
from openmlops.settings import move_into


@pytest.mark.parametrize("uri", ["", "sqlite:///runs.db"])
def test_a_moved_project_is_told_once(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with an MLflow database of its own that lies beside the home."""
    first, second = tmp_path / "first [a]", tmp_path / "second"
    for name in ("OPENMLOPS_HOME", "ZENML_CONFIG_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # so that they are restored
    (first / ".openmlops").mkdir(parents=True)
    monkeypatch.chdir(first)
    move_into(first, MLFLOW_TRACKING_URI=uri)
    with_tables(first / "runs.db" if uri else first / ".openmlops" / "mlflow.db")
    tracking: Tracking = Workspace.open().tracking
    tracking.ready()
    first.rename(second)
    move_into(second, MLFLOW_TRACKING_URI=uri)
    assert not capsys.readouterr().err
    Workspace.open()
    found = capsys.readouterr().err
    assert f"moved or copied from {first}/.openmlops" in found
    assert found.count("\n") == 1
    with closing(sqlite3.connect(second / "runs.db" if uri else second / ".openmlops" / "mlflow.db")) as connection:
        places = {place for (place,) in connection.execute("SELECT artifact_location FROM experiments")}
    assert f"file://{second}/.openmlops/mlflow-artifacts/openmlops" in places
    Workspace.open()
    assert not first.exists()
    assert not capsys.readouterr().err
