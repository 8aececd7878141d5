"""Person detection as a user runs it, on real photographs: the unpacked COCO128, commands in processes of their own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from user_folder import Folder

pytestmark = pytest.mark.slow

MODEL = "person_yolo"
SMALL = ("--imgsz", "64", "--set", "threads=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, real_coco128: Path) -> Folder:
    found = Folder(tmp_path_factory.mktemp("user"))
    found.environment["USE_CASE"] = "person"
    found.coco128 = real_coco128  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def outcome(folder: Folder) -> dict[str, Any]:
    """What `train --json` printed after `data tiny-person`."""
    folder.json("data", "tiny-person", str(folder.coco128))  # type: ignore[attr-defined]
    return folder.json("train", "--epochs", "2", *SMALL)


def test_the_tiny_data_set_has_the_sizes_asked_for_and_passes_its_checks(folder: Folder, outcome: dict[str, Any]) -> None:
    assert outcome["dataset"]["rows"] == 60
    assert folder.json("data", "check")["problems"] == []
    assert folder.json("data", "status")["differences"] == []
    again = folder.json("data", "tiny-person", str(folder.coco128))  # type: ignore[attr-defined]
    assert again["fingerprint"] == outcome["dataset"]["fingerprint"]


def test_the_baseline_is_measured_on_the_test_split_with_intervals_and_judged(folder: Folder, outcome: dict[str, Any]) -> None:
    found = outcome["evaluation"]
    assert (found["kind"], found["split"], found["n"]) == ("detection", "test", 10)
    for name in ("map50", "map50_95", "precision", "recall"):
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 1
    assert outcome["verdict"]["outcome"] in ("promote", "reject")
    assert "one box as large as the image" in outcome["verdict"]["reasons"][0]
    (entry,) = folder.json("history", MODEL)["entries"]
    assert entry["dataset"] == outcome["dataset"]["fingerprint"]


def test_the_run_has_curves_under_valid_names_and_pictures(folder: Folder, outcome: dict[str, Any]) -> None:
    from openmlops.adapters.mlflow_client import connect

    client = connect(folder.workspace.settings.tracking_uri)
    run = client.get_run(outcome["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["imgsz"] == "64"
    assert run.data.metrics["test_map50"] == pytest.approx(outcome["evaluation"]["map50"]["value"])
    assert [m.step for m in client.get_metric_history(outcome["run_id"], "validation_map50")] == [1, 2]
    files = {item.path for item in client.list_artifacts(outcome["run_id"], "evaluation")}
    assert {f"evaluation/{name}" for name in ("pr_curve.png", "confusion_matrix.png", "predictions.png")} <= files
    table = (folder.path / "artifacts" / "experiment.md").read_text()
    assert "| ID | Epochs | Imgsz | mAP@50 | Precision | Recall | Status |" in table


def test_evaluate_gives_what_was_registered(folder: Folder, outcome: dict[str, Any]) -> None:
    again = folder.json("evaluate", f"{MODEL}@staging")
    assert again["map50"]["value"] == pytest.approx(outcome["evaluation"]["map50"]["value"], abs=0.01)


def test_a_version_is_trained_again_to_the_bit(folder: Folder, outcome: dict[str, Any]) -> None:
    found = folder.json("verify", f"{MODEL}/1")
    assert (found["reproduced"], found["differing"], found["changed"]) == (True, 0, [])
    assert found["tensors"] > 300


def test_monitoring_says_why_ten_validation_images_are_no_reference(folder: Folder, outcome: dict[str, Any]) -> None:
    if outcome["champion"]["version"] is None:
        folder.json("promote", f"{MODEL}/1", "--force", "--reason", "to have something to watch")
    found = folder.json("monitor", "--source", "test-set")
    assert found["drift"]["outcome"] == "not_measurable"
    assert "10 reference rows are too few" in found["drift"]["reasons"][0]


def test_the_models_file_loads_through_mlflow(folder: Folder, outcome: dict[str, Any]) -> None:
    code = (
        "import mlflow, numpy as np;"
        f"mlflow.set_tracking_uri('sqlite:///{folder.path}/.openmlops/mlflow.db');"
        f"m = mlflow.pyfunc.load_model('models:/{MODEL}/1');"
        "print(m.predict(np.zeros((3, 64, 64, 3), np.uint8))['boxes'].shape)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=folder.environment, cwd=folder.path
    )
    assert shown.stdout.strip() == "(3, 84, 4)", shown.stderr


def test_nothing_is_written_into_the_users_home_nor_beside_the_data(folder: Folder, outcome: dict[str, Any]) -> None:
    written = {path.relative_to(folder.path / "user").parts[0] for path in (folder.path / "user").rglob("*") if path.is_file()}
    assert written <= {".cache"}
    suffixes = {path.suffix for path in (folder.path / "data").rglob("*") if path.is_file()}
    assert suffixes <= {"", ".jpg", ".txt", ".yaml", ".json", ".dvc"}
    assert not list((folder.path / "data").rglob("*.cache"))
    assert not (folder.path / "runs").exists()


MISTAKES = {
    ("train", "--imgsz", "100"): "imgsz has the value 100",
    ("train", "--lr", "0.1", "--set", "lr=0.2"): "lr is given twice",
    ("train", "--set", "wings=2"): "--wings is not an option",
    ("data", "tiny-person", "."): "is not COCO128",
    ("data", "fetch", "person", "--archive", "nowhere.zip"): "There is no file nowhere.zip",
    ("data", "fetch", "cifar10", "--weights"): "There are no published weights for cifar10",
    ("evaluate", f"{MODEL}/1", "--use-case", "imagenet"): "'imagenet'",
}


@pytest.fixture(scope="module")
def said(folder: Folder, outcome: dict[str, Any]) -> dict[tuple[str, ...], str]:
    """What each mistake was answered with."""
    return folder.refused(MISTAKES)


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_gets_one_line_and_exit_code_1(said: dict[tuple[str, ...], str], words: tuple[str, ...]) -> None:
    assert said[words].startswith("error: ")
    assert MISTAKES[words] in said[words]


def test_weights_that_are_not_there_are_told_by_the_pipeline(folder: Folder, outcome: dict[str, Any]) -> None:
    done = folder.run("train", "--pretrained", "nowhere.pt")
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: There are no pretrained weights at nowhere.pt")
    assert "Traceback" not in done.stderr
