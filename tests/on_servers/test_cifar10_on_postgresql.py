"""The first reference stack: CIFAR-10, MLflow and our database on PostgreSQL, data and artifacts in an S3 store."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from stacks import Servers, folder_with

from ports import free_port
from processes import is_healthy, process
from user_folder import PROGRAM, Folder

NAME = "loop"
TRAIN = ("train", "--epochs", "3", "--seed", "0", "--set", "threads=1")


@pytest.fixture(scope="module")
def folder(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A user of the servers, with the stack registered and the sample data in the S3 store."""
    found = folder_with(
        tmp_path_factory.mktemp("on") / "servers", servers.environment(servers.postgresql, servers.mlflow, NAME)
    )
    found.json("stack", "register")
    found.json("data", "sample", "cifar10")
    return found


@pytest.fixture(scope="module")
def outcome(folder: Folder) -> dict[str, Any]:
    """What `train --json` printed."""
    return folder.json(*TRAIN)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, dict[str, Any]]:
    """The same commands without any server."""
    found = folder_with(tmp_path_factory.mktemp("off") / "servers", {"MODEL_NAME": NAME})
    found.json("data", "sample", "cifar10")
    return found, found.json(*TRAIN)


@pytest.fixture(scope="module")
def server(folder: Folder, outcome: dict[str, Any]) -> Iterator[str]:
    """`openmlops serve`, its address."""
    port, log = free_port(), folder.path / "serve.log"
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [PROGRAM, "serve", "--port", str(port)]
    with process(command, log, is_healthy(f"{url}/health/ready"), folder.environment, folder=folder.path):
        yield url


class TestTheSameAsEmbedded:
    def test_the_data_has_the_same_fingerprint(self, outcome: dict[str, Any], embedded: tuple[Folder, dict[str, Any]]) -> None:
        assert outcome["dataset"]["fingerprint"] == embedded[1]["dataset"]["fingerprint"]

    def test_the_weights_are_the_same_to_the_bit(
        self, folder: Folder, outcome: dict[str, Any], embedded: tuple[Folder, dict[str, Any]]
    ) -> None:
        there = folder.path / ".openmlops" / "weights" / f"{outcome['run_id']}.safetensors"
        here = embedded[0].path / ".openmlops" / "weights" / f"{embedded[1]['run_id']}.safetensors"
        assert there.read_bytes() == here.read_bytes()

    def test_the_ledger_decides_the_same_for_the_same_reasons(
        self, folder: Folder, outcome: dict[str, Any], embedded: tuple[Folder, dict[str, Any]]
    ) -> None:
        decided = [found.json("history", NAME)["entries"] for found in (folder, embedded[0])]
        told = [
            [(e["kind"], e["version"], e["champion"], e["reasons"], e["dataset"], e["verdict"]) for e in entries]
            for entries in decided
        ]
        assert len(told[0]) == 1
        assert told[0] == told[1]

    def test_both_have_the_same_metrics(self, outcome: dict[str, Any], embedded: tuple[Folder, dict[str, Any]]) -> None:
        assert outcome["evaluation"] == embedded[1]["evaluation"]


class TestWhereThingsAre:
    def test_the_run_with_its_curves_is_on_the_server(
        self, servers: Servers, outcome: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = _client(servers, monkeypatch)
        run = client.get_run(outcome["run_id"])
        assert run.info.status == "FINISHED"
        assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3]
        assert client.get_model_version_by_alias(NAME, "champion").version == "1"

    def test_mlflows_files_went_through_the_server_into_its_bucket(self, servers: Servers, outcome: dict[str, Any]) -> None:
        stored = {path.name for path in (servers.objects.folder / "runs-1").rglob(f"*{outcome['run_id']}*/**/*")}
        assert {"model.onnx", "reference.parquet", "confusion_matrix.png"} <= stored

    def test_data_and_zenmls_artifacts_are_in_the_bucket_of_the_project(
        self, servers: Servers, folder: Folder, outcome: dict[str, Any]
    ) -> None:
        bucket = servers.objects.folder / NAME
        assert {path.name for path in bucket.iterdir()} == {"content", "data", "dvc", "ledger", "zenml"}
        assert any("register_model" in path.as_posix() for path in (bucket / "zenml").rglob("*"))

    def test_the_pipeline_run_is_on_the_zenml_server_on_the_registered_stack(
        self, servers: Servers, outcome: dict[str, Any]
    ) -> None:
        zenml = servers.zenml
        form = {"username": zenml.user, "password": zenml.password}
        token = requests.post(f"{zenml.url}/api/v1/login", data=form, timeout=30).json()["access_token"]
        asked = {"headers": {"Authorization": f"Bearer {token}"}, "params": {"hydrate": "true", "sort_by": "desc:created"}}
        runs = requests.get(f"{zenml.url}/api/v1/runs", timeout=30, **asked).json()["items"]
        ours = [run for run in runs if run["resources"]["pipeline"]["name"] == "training_pipeline"]
        assert ours[-1]["body"]["status"] == "completed"
        assert ours[-1]["resources"]["stack"]["name"] == NAME

    def test_the_table_of_the_database_holds_the_ledger(self, servers: Servers, outcome: dict[str, Any]) -> None:
        import sqlalchemy

        engine = sqlalchemy.create_engine(servers.postgresql.url(NAME))
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT model, kind FROM ledger").all() == [(NAME, "promote")]


class TestTheLoop:
    def test_clean_traffic_is_no_drift_and_a_simulated_one_is(self, folder: Folder, server: str) -> None:
        sent = folder.json("traffic", "--url", server, "--rate", "100", "--seconds", "6s", "--labels")
        assert sent["failed"] == 0
        clean = folder.json("monitor")
        assert clean["drift"]["outcome"] == "no_drift"
        folder.environment["SIMULATE_DRIFT"] = "1"
        try:
            found = folder.json("monitor", "--source", "test-set")
        finally:
            del folder.environment["SIMULATE_DRIFT"]
        assert found["drift"]["outcome"] == "drift"

    def test_a_turn_of_the_loop_is_taken_and_remembered(self, folder: Folder, server: str) -> None:
        turn = folder.json("cycle", "--mode", "auto")
        known = folder.json("decisions")["decisions"]
        assert turn["monitoring"]["decision"]["id"] in {record["id"] for record in known}

    @pytest.mark.slow
    def test_a_rollback_on_the_server_is_served_at_once(self, folder: Folder, server: str) -> None:
        folder.json(*TRAIN[:-4], "--seed", "1", "--set", "threads=1")
        folder.json("promote", f"{NAME}/2", "--force", "--reason", "to see it come and go")
        _until(lambda: _serving(server) == 2)
        folder.json("rollback", NAME)
        _until(lambda: _serving(server) == 1)

    def test_a_second_machine_with_an_empty_disk_serves_the_champion(
        self, servers: Servers, folder: Folder, outcome: dict[str, Any], tmp_path: Path
    ) -> None:
        other = Folder(tmp_path / "other")
        (other.path / ".env").write_text((folder.path / ".env").read_text())
        _clone_data(folder, other)
        other.json("data", "pull")
        found = other.json("evaluate", f"{NAME}@champion")
        assert found["accuracy"] == outcome["evaluation"]["accuracy"]


class TestAskingTheDoctor:
    def test_everything_is_found_well(self, folder: Folder, server: str) -> None:
        _until(lambda: _serving(server) == 1)
        found = folder.json("doctor", "--server", server)
        others = [finding for finding in found["findings"] if finding["service"] != "home"]  # that is the machine's free space
        assert [finding for finding in others if finding["status"] != "ok"] == []
        assert folder.json("stack", "check")["findings"][-1]["says"].endswith("stored and returned a test file")


def _clone_data(folder: Folder, other: Folder) -> None:
    """What git brings: the small files of DVC."""
    (other.path / "data" / "raw").mkdir(parents=True)
    for path in (folder.path / "data" / "raw").glob("*"):
        if path.is_file():
            shutil.copy(path, other.path / "data" / "raw" / path.name)


def _client(servers: Servers, patch: pytest.MonkeyPatch) -> MlflowClient:
    patch.setenv("MLFLOW_TRACKING_USERNAME", servers.mlflow.user)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", servers.mlflow.password)
    return MlflowClient(servers.mlflow.url, servers.mlflow.url)


def _serving(url: str) -> int | None:
    return requests.get(f"{url}/health/ready", timeout=5).json()["serving"]


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
