"""Machines that share only settings and servers: the steps of a training, and a server and whoever reads its images."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stacks import Servers, folder_with

from ports import free_port
from processes import is_healthy, process
from user_folder import PROGRAM, SECONDS, Folder

NAME = "apart"
TRAIN = ("train", "--epochs", "1", "--seed", "0", "--set", "threads=1")
SCRIPT = """
import os, pathlib, shutil, sys, tempfile
from dotenv import dotenv_values

os.environ.update(dotenv_values(".env"), MINIO_BUCKET="apart-steps", DVC_REMOTE="s3://apart/dvc")
place, record = pathlib.Path(tempfile.mkdtemp(dir=".")).resolve(), pathlib.Path("data/raw").resolve()
from openmlops.operations.data import rows
from openmlops.pipelines import stack, training_pipeline
from openmlops.pipelines.steps import training as steps

homes, opened = [], stack.open_workspace


def empty():
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)
    homes.append(home := place / f"step-{len(homes)}")
    (home / "raw").mkdir(parents=True)
    if len(homes) == 1:  # what a checkout has
        for path in record.glob("*.*"):
            shutil.copy(path, home / "raw")
    os.environ.update(OPENMLOPS_HOME=str(home / "state"), DATA_RAW_DIR=str(home / "raw"), ARTIFACTS_DIR=str(home / "artifacts"))
    os.chdir(home)
    rows._opened.clear()
    return opened()


here = opened("cifar10")
steps.open_workspace = empty
print(training_pipeline.run_training(here.use_case.config(epochs=1, seed=0, threads=1)).model_dump_json())
print(len(homes), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A user of PostgreSQL, MLflow and S3, with the sample data in the store; ZenML is embedded."""
    given = servers.environment(servers.postgresql, servers.mlflow, NAME).items()
    environment = {name: value for name, value in given if not name.startswith("ZENML")}
    found = folder_with(tmp_path_factory.mktemp("on") / NAME, environment)
    found.json("data", "sample", "cifar10")
    return found


@pytest.fixture(scope="module")
def alone(folder: Folder) -> dict[str, Any]:
    """What `train --json` printed in one home: the first version."""
    return folder.json(*TRAIN)


def test_it_makes_the_version_that_one_home_makes_bit_by_bit(folder: Folder, alone: dict[str, Any], servers: Servers) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder.path, env=folder.environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "10", "each step had a home"
    apart = json.loads(done.stdout.splitlines()[-1])
    assert apart["model"] == alone["model"], "no second version is registered, because all its files are those of the first"
    assert apart["evaluation"] == alone["evaluation"]
    kinds = {path.name for path in (Path(servers.objects.folder) / "apart-steps" / "content").iterdir()}
    assert kinds == {"data", "export", "splits", "weights"}


def test_another_machine_reads_the_images_that_the_server_packed(folder: Folder, alone: dict[str, Any], tmp_path: Path) -> None:
    assert alone["champion"]["version"] == 1
    other, port = Folder(tmp_path / "other"), free_port()
    shutil.copy(folder.path / ".env", other.path)
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [PROGRAM, "serve", "--port", str(port)]
    environment = folder.environment | {"INPUTS_STORE": "objects"}
    with process(command, folder.path / "serve.log", is_healthy(f"{url}/health/ready"), environment, folder=folder.path):
        sent = folder.json("traffic", "--url", url, "--rate", "50", "--seconds", "2s", "--labels")
    assert sent["failed"] == 0
    assert not [path for path in (folder.path / ".openmlops" / "inputs").glob("*/*") if path.is_file()]
    other.environment |= {"INPUTS_STORE": "objects", "SIMULATE_DRIFT": "1"}  # which predicts on the images again
    found = other.json("monitor")
    assert found["n"] >= 50
    assert not [problem for problem in found["problems"] if "excluded" in problem]
    assert found["drift"]["outcome"] == "drift"
