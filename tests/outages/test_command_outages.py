"""MLflow, PostgreSQL and the object store go away together while commands run: each ends well, with everything there once."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from postgres import postgres
from tcp_proxy import TcpProxy
from user_folder import PROGRAM, Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "25"))
"""run once with 300: five minutes"""
EPOCHS = 12


@dataclass(frozen=True)
class World:
    """A user's folder whose services are behind proxies."""

    folder: Folder
    proxies: tuple[TcpProxy, ...]
    mlflow: MlflowClient

    def through_an_outage(self, begins: Callable[[], bool], *words: str) -> tuple[dict[str, Any], str]:
        """Give a command, and take all services away when `begins` says so, until it waits for them and OUTAGE_SECONDS have
        passed; the object that it printed, and what it said."""
        command, said = [PROGRAM, *words, "--json"], self.folder.path / "said.txt"
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
        with (
            said.open("w") as errors,
            subprocess.Popen(command, cwd=self.folder.path, env=self.folder.environment, stderr=errors, **streams) as running,
        ):
            while not begins() and running.poll() is None:
                time.sleep(0.02)
            for proxy in self.proxies:
                proxy.refuse()
            over = time.monotonic() + OUTAGE_SECONDS
            while running.poll() is None and (time.monotonic() < over or "Waiting up to" not in said.read_text()):
                time.sleep(0.1)
            assert running.poll() is None, said.read_text()
            for proxy in self.proxies:
                proxy.forward()
            printed, _ = running.communicate(timeout=900)
        assert running.returncode == 0, said.read_text()
        return json.loads(printed), said.read_text()

    def points(self, run_id: str) -> dict[str, Counter]:
        """Metric -> step -> how many points."""
        names = self.mlflow.get_run(run_id).data.metrics
        return {name: Counter(p.step for p in self.mlflow.get_metric_history(run_id, name)) for name in names}


@pytest.fixture(scope="module")
def world(mlflow_port: int, s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = Folder(tmp_path_factory.mktemp("user"))
    with (
        postgres() as server,
        TcpProxy(server.port) as database,
        TcpProxy(mlflow_port) as mlflow,
        TcpProxy(int(urlsplit(s3_server.endpoint).port or 0)) as store,
    ):
        folder.environment |= {
            "DATABASE_URL": server.url(server.create(), database.port),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow.port}",
            "MLFLOW_EXPERIMENT_NAME": "commands",
            "MODEL_NAME": "commands",
            "MINIO_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
            "MINIO_ACCESS_KEY": s3_server.access_key.get_secret_value(),
            "MINIO_SECRET_KEY": s3_server.secret_key.get_secret_value(),
            "MINIO_BUCKET": "commands",
        }
        yield World(folder, (database, mlflow, store), MlflowClient(f"http://127.0.0.1:{mlflow_port}"))


@pytest.fixture(scope="module")
def trained(world: World) -> tuple[dict[str, Any], str]:
    """A training, with an outage from its third epoch on."""
    world.folder.json("data", "sample", "cifar10")

    def third_epoch() -> bool:
        files = list(world.folder.path.glob(".openmlops/trainings/*/epochs.json"))
        return bool(files) and len(json.loads(files[0].read_text())) >= 3

    return world.through_an_outage(third_epoch, "train", "--epochs", str(EPOCHS))


def test_a_training_waits_for_its_services_and_says_so_in_two_lines(world: World, trained: tuple[dict[str, Any], str]) -> None:
    outcome, said = trained
    told = [line for line in said.splitlines() if not line.startswith("epoch ")]
    assert len(told) == 2
    assert "Waiting up to" in told[0]
    assert told[1] == "The service is available again; resuming."
    assert outcome["champion"]["version"] == 1


def test_no_run_and_no_metric_of_the_training_is_missing_or_doubled(world: World, trained: tuple[dict[str, Any], str]) -> None:
    run_id = trained[0]["run_id"]
    experiment = world.mlflow.get_run(run_id).info.experiment_id
    (run,) = world.mlflow.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    for name, steps in world.points(run_id).items():
        expected = [0] if name.startswith("test_") else range(1, EPOCHS + 1)
        assert steps == Counter(expected), name
    assert len(world.folder.json("history", "commands")["entries"]) == 1


def test_monitoring_waits_too_and_decides_once(world: World, trained: tuple[dict[str, Any], str]) -> None:
    runs = Path(world.folder.path) / "monitoring"
    outcome, said = world.through_an_outage(
        lambda: any(runs.glob("*/inference.parquet")), "monitor", "--source", "test-set", "--window", "300"
    )
    assert "Waiting up to" in said
    (record,) = world.folder.json("decisions", "commands")["decisions"]
    assert record["id"] == outcome["decision"]["id"]
    monitored = {name: steps for name, steps in world.points(trained[0]["run_id"]).items() if name.startswith("monitoring_")}
    assert monitored
    assert set(map(str, monitored.values())) == {str(Counter([0]))}
