"""The training half of the loop as a user runs it: commands in processes of their own, on the sample, in an empty folder."""

import json
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from user_folder import PROGRAM, Folder

pytestmark = pytest.mark.slow

MODEL = "cifar10_cnn"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def outcome(folder: Folder) -> dict[str, Any]:
    """What `train --json` printed after `data sample`."""
    folder.json("data", "sample", "cifar10")
    return folder.json("train", "--epochs", "3")


def test_training_ends_with_a_champion_and_says_so_in_one_object(outcome: dict[str, Any]) -> None:
    assert outcome["model"]["name"] == MODEL
    assert outcome["verdict"]["outcome"] == "promote"
    assert outcome["verdict"]["reasons"]
    assert outcome["champion"]["version"] == outcome["model"]["version"] == 1
    assert outcome["evaluation"]["accuracy_low"] < outcome["evaluation"]["accuracy"] < outcome["evaluation"]["accuracy_high"]
    assert outcome["evaluation"]["accuracy"] > 0.5
    assert outcome["dataset"]["rows"] > 1000


def test_run_version_and_ledger_carry_the_same_data_fingerprint(folder: Folder, outcome: dict[str, Any]) -> None:
    fingerprint = outcome["dataset"]["fingerprint"]
    (entry,) = folder.json("history", MODEL)["entries"]
    assert entry["dataset"] == fingerprint
    assert folder.workspace.registry.version(MODEL, 1).dataset == fingerprint
    assert folder.workspace.tracking.tags(outcome["run_id"])["openmlops.dataset"] == fingerprint
    assert folder.json("data", "status")["fingerprint"] == fingerprint


def test_the_run_has_parameters_curves_commit_and_files(folder: Folder, outcome: dict[str, Any]) -> None:
    from openmlops.adapters.mlflow_client import connect

    client = connect(folder.workspace.settings.tracking_uri)
    run = client.get_run(outcome["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "3.0"
    assert run.data.metrics["test_accuracy"] == pytest.approx(outcome["evaluation"]["accuracy"])
    assert [m.step for m in client.get_metric_history(outcome["run_id"], "validation_accuracy")] == [1, 2, 3]
    files = {item.path for item in client.list_artifacts(outcome["run_id"])}
    assert {"config.json", "environment.txt", "data", "evaluation"} <= files


def test_reports_and_models_lie_where_users_look(folder: Folder, outcome: dict[str, Any]) -> None:
    artifacts = folder.path / "artifacts"
    for name in ("confusion_matrix.png", "classification_report.txt", "model_torchscript.pt", "model.onnx"):
        assert (artifacts / name).stat().st_size > 500, name


def test_the_champion_loads_through_mlflow_and_answers_raw_pixels(folder: Folder, outcome: dict[str, Any]) -> None:
    code = (
        "import mlflow, numpy as np;"
        f"mlflow.set_tracking_uri('sqlite:///{folder.path}/.openmlops/mlflow.db');"
        f"m = mlflow.pyfunc.load_model('models:/{MODEL}@champion');"
        "print(m.predict(np.zeros((3, 32, 32, 3), np.uint8))['probabilities'].shape)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=folder.environment, cwd=folder.path
    )
    assert shown.stdout.strip() == "(3, 10)", shown.stderr


def test_evaluate_gives_the_accuracy_that_was_registered(folder: Folder, outcome: dict[str, Any]) -> None:
    again = folder.json("evaluate", f"{MODEL}@champion")
    assert again["accuracy"] == pytest.approx(outcome["evaluation"]["accuracy"], abs=0.002)


def test_nothing_is_written_into_the_users_home(folder: Folder, outcome: dict[str, Any]) -> None:
    written = {path.relative_to(folder.path / "user").parts[:2] for path in (folder.path / "user").rglob("*") if path.is_file()}
    assert not {parts for parts in written if parts[0] != ".cache"}


MISTAKES = {
    ("promote", "nonsense"): "'nonsense' does not name a version",
    ("promote", f"{MODEL}/99"): "has no version 99",
    ("history", "unknown"): "no model 'unknown'",
    ("rollback", MODEL): "nothing to roll back to",
    ("evaluate", f"{MODEL}@nobody"): "no alias 'nobody'",
    ("train", "--epochs", "-1"): "--epochs has the value -1",
    ("train", "--budget", "soon"): "'soon' is not a duration",
    ("train", "--lr", "fast"): "fast",
    ("data", "add", "nowhere"): "There is no folder",
    ("data", "fetch", "--archive", "nowhere.tar.gz"): "There is no file nowhere.tar.gz",
    ("data", "sample", "imagenet"): "'imagenet'",
    ("nonsense",): "nonsense",
}


@pytest.fixture(scope="module")
def said(folder: Folder, outcome: dict[str, Any]) -> dict[tuple[str, ...], str]:
    """What each mistake was answered with."""
    return folder.refused(MISTAKES)


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_1(said: dict[tuple[str, ...], str], words: tuple[str, ...]) -> None:
    assert said[words].startswith("error: ")
    assert MISTAKES[words] in said[words]


def test_bad_data_stops_the_pipeline_before_training_and_the_champion_stays(folder: Folder, outcome: dict[str, Any]) -> None:
    """`data add` refuses it; slipped in behind DVC's back, the manifest refuses it."""
    batch = folder.path / "data" / "raw" / "cifar-10-batches-py" / "data_batch_3"
    good = batch.read_bytes()
    batch.chmod(0o644)
    batch.write_bytes(good[:-1000])
    status = folder.json("data", "status")
    refused = folder.run("data", "add", str(batch.parent))
    assert status["differences"]
    assert refused.returncode == 1
    assert "data_batch_3" in refused.stderr
    healed = folder.json("data", "pull")
    assert healed["fingerprint"] == outcome["dataset"]["fingerprint"]
    assert batch.read_bytes() == good
    assert folder.workspace.ledger.champion(MODEL) == 1


def test_a_killed_training_goes_on_in_its_run_without_a_metric_missing_or_doubled(
    folder: Folder, outcome: dict[str, Any]
) -> None:
    from openmlops.adapters.mlflow_client import connect

    command = [PROGRAM, "train", "--epochs", "5", "--seed", "7", "--json"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    trainings = folder.path / ".openmlops" / "trainings"
    before, known = set(trainings.glob("*/*.pt")), set(trainings.glob("*/run_id"))
    with subprocess.Popen(command, cwd=folder.path, env=folder.environment, **quiet) as training:  # type: ignore[call-overload]
        while not set(trainings.glob("*/*.pt")) - before and training.poll() is None:
            time.sleep(0.05)
        training.send_signal(signal.SIGKILL)
    assert training.returncode == -signal.SIGKILL
    client = connect(folder.workspace.settings.tracking_uri)
    (killed,) = set(trainings.glob("*/run_id")) - known
    assert client.get_run(killed.read_text()).info.status == "RUNNING"
    folder.json("models")
    closed = client.get_run(killed.read_text())
    assert closed.info.status == "FAILED"
    reason = (
        f"Its process {training.pid} on {socket.gethostname()} ended without closing it. Run the same command to resume it."
    )
    assert closed.data.tags["openmlops.failure"] == reason
    done = folder.json("train", "--epochs", "5", "--seed", "7")
    assert done["run_id"] == closed.info.run_id
    assert "openmlops.failure" not in client.get_run(done["run_id"]).data.tags
    assert sorted(m.step for m in client.get_metric_history(done["run_id"], "loss")) == [1, 2, 3, 4, 5]
    runs = client.search_runs([client.get_run(done["run_id"]).info.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 2
    versions = folder.json("models")["models"]
    assert sorted(row["version"] for row in versions) == [1, 2]
    assert len(folder.json("history", MODEL)["entries"]) == 2


def test_the_exported_model_was_trained_on_the_pixels_that_it_is_served(folder: Folder, outcome: dict[str, Any]) -> None:
    """Defect: trained on normalised pixels, monitored on raw ones. Here there is one answer for raw pixels, everywhere."""
    from openmlops.adapters.onnx_model import OnnxModel
    from openmlops.core.classification.task import CLASSIFICATION

    path = folder.workspace.registry.fetch(folder.workspace.registry.version(MODEL, 1))
    with np.load(path / "golden.npz") as golden:
        images, expected = golden["images"], golden["probabilities"]
    assert images.dtype == np.uint8
    assert np.abs(OnnxModel(path / "model.onnx", CLASSIFICATION.outputs).run(images)["probabilities"] - expected).max() < 1e-4


def test_a_version_is_trained_again_to_the_bit(folder: Folder, outcome: dict[str, Any]) -> None:
    found = folder.json("verify", f"{MODEL}/1")
    assert found["reproduced"]
    assert found["differing"] == 0
    assert [ingredient["name"] for ingredient in found["changed"]] == []


def test_python_m_openmlops_runs_pipelines_too(folder: Folder, outcome: dict[str, Any]) -> None:
    """ZenML would take the package's own folder for its source root, and import every module twice."""
    command = [sys.executable, "-m", "openmlops", "monitor", "--source", "test-set", "--window", "100", "--json"]
    done = subprocess.run(command, cwd=folder.path, env=folder.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 100
