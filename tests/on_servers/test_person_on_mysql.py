"""The second reference stack: person detection, MLflow and our database on MySQL, artifacts in an S3 store, a ZenML stack."""

from typing import Any

import pytest
from mlflow import MlflowClient
from stacks import Servers, folder_with

from user_folder import Folder

NAME = "people"
SMALL = ("--imgsz", "64", "--set", "threads=1", "--set", "pretrained=none")


@pytest.fixture(scope="module")
def folder(servers: Servers, tmp_path_factory: pytest.TempPathFactory, real_coco128) -> Folder:  # type: ignore[no-untyped-def]
    """A user of the servers with a subset of COCO128."""
    environment = servers.environment(servers.mariadb, servers.mlflow_mysql, NAME)
    found = folder_with(tmp_path_factory.mktemp("person") / "servers", {**environment, "USE_CASE": "person"})
    found.json("stack", "register")
    found.json("data", "tiny-person", str(real_coco128))
    return found


@pytest.fixture(scope="module")
def grid(folder: Folder) -> dict[str, Any]:
    """What `grid --json` printed, for two runs of one epoch."""
    return folder.json("grid", "--epochs", "1", "--lr", "0.01,0.02", *SMALL)


def test_the_grid_is_one_run_with_a_child_for_each_setting(
    servers: Servers, grid: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", servers.mlflow_mysql.user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", servers.mlflow_mysql.password)
    client = MlflowClient(servers.mlflow_mysql.url, servers.mlflow_mysql.url)
    assert client.get_run(grid["parent"]).info.status == "FINISHED"
    runs = [client.get_run(row["id"]) for row in grid["runs"]]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {grid["parent"]}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert int(client.get_model_version_by_alias(NAME, "staging").version) == grid["staging"]["version"]


def test_the_verdict_is_in_the_ledger_on_mysql(folder: Folder, grid: dict[str, Any]) -> None:
    (entry,) = folder.json("history", NAME)["entries"]
    assert (entry["version"], entry["kind"]) == (grid["staging"]["version"], grid["verdict"]["outcome"])


def test_the_same_grid_again_trains_nothing(folder: Folder, grid: dict[str, Any]) -> None:
    again = folder.json("grid", "--epochs", "1", "--lr", "0.01,0.02", *SMALL)
    assert again["trained"] == 0
    assert [run["map50"] for run in again["runs"]] == [run["map50"] for run in grid["runs"]]


def test_the_stack_is_as_the_settings_say(folder: Folder) -> None:
    assert {finding["status"] for finding in folder.json("stack", "check")["findings"]} == {"ok"}
