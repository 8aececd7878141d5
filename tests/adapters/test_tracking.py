"""A run holds what it was made from and what it measured, once each, in whatever order processes die."""

import errno
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from pydantic import SecretStr

from openmlops.adapters import mlflow_client
from openmlops.adapters.mlflow_client import connect, hide_password
from openmlops.adapters.mlflow_values import valid_name
from openmlops.adapters.tracking import Epoch, Tracking
from openmlops.core.quality import ClassifierEpoch
from openmlops.errors import DiskFull, ServiceRefused, ServiceUnavailable, TrainingError
from openmlops.files import PRIVATE

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def tracking(mlflow_uri: str, tmp_path: Path) -> Tracking:
    return Tracking(mlflow_uri, "openmlops", tmp_path / "artifacts")


def epoch(number: int, loss: float = 1.0, at: datetime = NOON) -> Epoch:
    metrics = ClassifierEpoch(
        epoch=number,
        loss=loss,
        train_accuracy=0.5,
        validation_loss=1.1,
        validation_accuracy=0.4,
        learning_rate=0.1,
        seconds=2.0,
    )
    return Epoch.of(metrics, at)


def run_of(uri: str, run_id: str) -> Run:
    return MlflowClient(tracking_uri=uri).get_run(run_id)


def test_a_run_says_what_it_was_made_from(tracking: Tracking, mlflow_uri: str):
    run_id = tracking.start("cifar10", {"seed": 1, "model": {"width": 16}}, {"openmlops.dataset": "ab" * 32})
    run = run_of(mlflow_uri, run_id)
    assert run.info.run_name == "cifar10"
    assert run.data.params == {"seed": "1", "model.width": "16"}
    assert run.data.tags["openmlops.dataset"] == "ab" * 32
    assert run.data.tags.keys() >= {"host", "pid", "python", "environment.sha256"}
    written = Path(MlflowClient(tracking_uri=mlflow_uri).download_artifacts(run_id, "environment.txt")).read_text()
    assert "numpy==" in written


def test_no_secret_is_logged_as_a_parameter(tracking: Tracking, mlflow_uri: str):
    hidden = {
        "minio_secret_key": "s3cret",
        "api_token": "s3cret",
        "store": {"password": "s3cret"},
        "quiet": SecretStr("s3cret"),
    }
    run = run_of(mlflow_uri, tracking.start("cifar10", {"lr": 0.1, **hidden}, {}))
    assert run.data.params == {"lr": "0.1"}


def test_more_parameters_and_longer_texts_than_mlflow_takes_at_once_are_logged(tracking: Tracking, mlflow_uri: str):
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 9000, "odd (name)": 1}
    run = run_of(mlflow_uri, tracking.start("cifar10", params, {"note": "y" * 9000}))
    assert len(run.data.params) == 252
    assert run.data.params["odd _name"] == "1"
    assert len(run.data.params["long"]) == 6000


def test_an_epoch_is_logged_once_however_often_it_is_reported(tracking: Tracking, mlflow_uri: str):
    run_id = tracking.start("cifar10", {}, {})
    for number in (1, 2, 1, 2, 3):
        tracking.log_epochs(run_id, [epoch(number, loss=1 / number)])
    history = MlflowClient(tracking_uri=mlflow_uri).get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert tracking.logged_epochs(run_id) == {1, 2, 3}


def test_a_resumed_process_sees_which_epochs_are_logged(tracking: Tracking, mlflow_uri: str, tmp_path: Path):
    run_id = tracking.start("cifar10", {}, {})
    tracking.log_epochs(run_id, [epoch(1)])
    resumed = Tracking(mlflow_uri, "openmlops", tmp_path / "artifacts")
    resumed.log_epochs(run_id, [epoch(1), epoch(2)])
    assert resumed.logged_epochs(run_id) == {1, 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_refused_and_nothing_logged(tracking: Tracking, mlflow_uri: str, value: float):
    run_id = tracking.start("cifar10", {}, {})
    with pytest.raises(TrainingError, match="The metric 'test_loss' has the value"):
        tracking.log_metrics(run_id, {"test_accuracy": 0.5, "test_loss": value}, NOON)
    assert run_of(mlflow_uri, run_id).data.metrics == {}


def test_metric_names_that_mlflow_refuses_become_valid(tracking: Tracking, mlflow_uri: str):
    run_id = tracking.start("person", {}, {})
    tracking.log_metrics(run_id, {"metrics/precision(B)": 0.25, "mAP50-95(B)": 0.5, "f1 (classe été)": 1}, NOON)
    assert run_of(mlflow_uri, run_id).data.metrics == {"metrics/precision_B": 0.25, "mAP50-95_B": 0.5, "f1 _classe été": 1.0}


def test_two_metrics_never_become_one(tracking: Tracking, mlflow_uri: str):
    run_id = tracking.start("person", {}, {})
    tracking.log_metrics(run_id, {"recall(B)": 0.25, "recall[B]": 0.5}, NOON)
    assert sorted(MlflowClient(tracking_uri=mlflow_uri).get_run(run_id).data.metrics.values()) == [0.25, 0.5]
    assert valid_name("recall(B)") == valid_name("recall[B]")


def test_files_and_texts_are_kept_with_the_run(tracking: Tracking, mlflow_uri: str, tmp_path: Path):
    run_id = tracking.start("cifar10", {}, {})
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a.txt").write_text("a")
    tracking.log_files(run_id, tmp_path / "reports", "reports")
    tracking.log_files(run_id, tmp_path / "reports" / "a.txt")
    tracking.log_text(run_id, "hello", "notes/b.txt")
    kept = Path(MlflowClient(tracking_uri=mlflow_uri).download_artifacts(run_id, ""))
    assert kept.is_relative_to(tmp_path / "artifacts")
    assert [(kept / name).read_text() for name in ("reports/a.txt", "a.txt", "notes/b.txt")] == ["a", "a", "hello"]


def test_a_run_is_open_until_it_is_finished_or_failed(tracking: Tracking, mlflow_uri: str):
    finished, failed, killed = (tracking.start("cifar10", {}, {}) for _ in range(3))
    tracking.finish(finished)
    tracking.fail(failed, "The loss is nan after epoch 2")
    assert [tracking.run_is_open(run_id) for run_id in (finished, failed, killed, "f" * 32)] == [False, False, True, False]
    assert run_of(mlflow_uri, failed).data.tags["openmlops.failure"] == "The loss is nan after epoch 2"
    assert [run_of(mlflow_uri, run_id).info.status for run_id in (finished, failed)] == ["FINISHED", "FAILED"]


def test_a_deleted_experiment_is_named_with_the_remedy(tracking: Tracking, mlflow_uri: str):
    run_id = tracking.start("cifar10", {}, {})
    MlflowClient(tracking_uri=mlflow_uri).delete_experiment(run_of(mlflow_uri, run_id).info.experiment_id)
    with pytest.raises(ServiceUnavailable, match=r"The MLflow experiment 'openmlops' was deleted.*restore"):
        tracking.start("cifar10", {}, {})


def test_a_deleted_run_is_named_and_no_outage(tracking: Tracking, mlflow_uri: str):
    """A training goes on from its checkpoint in a new run; orphans of a deleted experiment are nobody's."""
    run_id = tracking.start("net", {}, {}, once="a" * 32)
    connect(mlflow_uri).delete_run(run_id)
    for use in (lambda: tracking.finish(run_id), lambda: tracking.log_metrics(run_id, {"loss": 1.0}, datetime.now(UTC))):
        with pytest.raises(ServiceRefused, match=f"The MLflow run {run_id} was deleted. Restore it, or run the same command"):
            use()
    assert not tracking.can_go_on(run_id)
    assert tracking.start("net", {}, {}, once="a" * 32) != run_id
    connect(mlflow_uri).delete_experiment(connect(mlflow_uri).get_run(run_id).info.experiment_id)
    assert tracking.abandon("a" * 32, "its process ended") == ()
    tracking.responds()


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    absent = Tracking("http://alice:s3cr%40t@127.0.0.1:9", "openmlops", tmp_path)
    with pytest.raises(ServiceUnavailable, match="MLflow at http://alice:") as caught:
        absent.start("cifar10", {}, {})
    assert "s3cr" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_is_hidden_as_written_and_decoded():
    url = "mysql+pymysql://u:p%40ss@host/db"
    assert (
        hide_password(f"cannot reach {url}: denied for p@ss", url)
        == "cannot reach mysql+pymysql://u:***@host/db: denied for ***"
    )


_START = """
import sys
from pathlib import Path
from openmlops.adapters.tracking import Tracking
home = Path(sys.argv[1])
print(Tracking(f"sqlite:///{home / 'mlflow.db'}", "openmlops", home / "artifacts").start("race", {"a": 1}, {}))
"""


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_fresh_folder_all_get_a_run(tmp_path: Path):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _START, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    predictions = [process.communicate(timeout=600) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0], predictions
    assert len({out.strip() for out, _ in predictions}) == 4


def test_embedded_store_whose_creation_was_cut_short_is_created_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "new é" / "mlflow.db"

    def create(uri: str) -> Mock:
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS runs (id INTEGER)")
        return Mock(MlflowClient)

    def cut_short(tracking_uri: str, registry_uri: str) -> Mock:
        create(tracking_uri)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mlflow_client, "MlflowClient", cut_short)
    with pytest.raises(DiskFull):
        connect(f"sqlite:///{database}")
    assert not database.exists()

    monkeypatch.setattr(mlflow_client, "MlflowClient", lambda tracking_uri, registry_uri: create(tracking_uri))
    connect(f"sqlite:///{database}")
    assert stat.S_IMODE(database.stat().st_mode) == PRIVATE
    assert sorted(path.name for path in database.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
