"""MLflow goes away while a model is trained, or answers slowly, or not to the end: no run and no metric is lost or doubled."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from answer_cutter import AnswerCutter
from openmlops.adapters.tracking import Tracking
from openmlops.core.types import ModelRef, TrainedRef
from openmlops.errors import ServiceUnavailable
from openmlops.operations.data import datasets
from openmlops.operations.data.weights import place
from openmlops.operations.release import exporting, registration, scoring
from openmlops.operations.retries import retry
from openmlops.operations.training import train as training
from openmlops.operations.workspace import Workspace
from small_loop import workspace as small_workspace
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.slow

EPOCHS = 30
CONFIG = {"epochs": EPOCHS, "channels": "16-32", "batch_size": 100, "stem_stride": 2, "flip": False, "threads": 1}


def train(workspace: Workspace, **changes: Any) -> TrainedRef:
    splits = datasets.split(workspace, datasets.ingest(workspace), 0)
    return training.train(workspace, splits, training.preprocess(workspace, splits), {**CONFIG, **changes})


def finish(workspace: Workspace, trained: TrainedRef) -> ModelRef:
    """What follows a training, as the steps do it."""
    evaluation = retry(scoring.evaluate, workspace, trained)
    exported = retry(exporting.export, workspace, trained, evaluation)
    return retry(registration.register, workspace, exported, trained, evaluation)


def noted(workspace: Workspace) -> list[int]:
    """Epochs that are noted on disk."""
    from openmlops.operations.training.epoch_log import _FILE

    files = list(workspace.home.glob("trainings/*/epochs.json"))
    return [number for file in files for number in _FILE.validate_json(file.read_bytes())]


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something beside the block; what it raises is raised at the end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    beside = threading.Thread(target=run)
    beside.start()
    yield
    beside.join(300)
    if failed:
        raise failed[0]


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def assert_each_metric_once(client: MlflowClient, run_id: str) -> None:
    run = client.get_run(run_id)
    assert {"loss", "validation_accuracy", "test_accuracy"} <= run.data.metrics.keys()
    for name in run.data.metrics:
        steps = Counter(point.step for point in client.get_metric_history(run_id, name))
        assert set(steps.values()) == {1}, (name, steps)
        assert name.startswith("test_") or set(steps) == set(range(1, EPOCHS + 1)), (name, steps)


OUTAGES: dict[str, Callable[[TcpProxy], None]] = {
    "refused": TcpProxy.refuse,
    "cut": lambda proxy: proxy.cut(within=2000),
    "slow": lambda proxy: proxy.slow(5),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_during_a_training_neither_slows_it_nor_costs_or_doubles_a_metric(
    workspace: Workspace, mlflow: TcpProxy, mlflow_port: int, outage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outage begins in epoch 5 and ends ten seconds after the last; what follows the training waits for its end."""
    log_epochs, asked = Tracking.log_epochs, set()

    def remembered(self: Tracking, *values: Any) -> None:
        if len(noted(workspace)) < EPOCHS:
            asked.add(threading.current_thread().name)
        log_epochs(self, *values)

    monkeypatch.setattr(Tracking, "log_epochs", remembered)

    def take_away() -> None:
        until(lambda: len(noted(workspace)) >= 5)
        OUTAGES[outage](mlflow)
        until(lambda: len(noted(workspace)) == EPOCHS)
        time.sleep(10)
        mlflow.forward()

    with meanwhile(take_away):
        trained = train(workspace)
        model = finish(workspace, trained)
    assert asked == {"epochs"}, "the thread that trains sends nothing before the last epoch"
    client = MlflowClient(f"http://127.0.0.1:{mlflow_port}")
    run = client.get_run(trained.run_id)
    assert (run.info.status, model.run_id) == ("FINISHED", trained.run_id)
    assert_each_metric_once(client, trained.run_id)
    assert len(client.search_runs([run.info.experiment_id], f"tags.`openmlops.dataset` = '{model.dataset}'")) >= 1
    assert workspace.registry.fetch(model).is_dir()


def test_a_training_whose_mlflow_stayed_away_is_gone_on_with_by_the_same_command(
    mlflow: TcpProxy, mlflow_port: int, tmp_path: Path
) -> None:
    """Patience runs out after the last epoch: nothing is trained again, and the run is the same one."""
    given = {"mlflow_tracking_uri": f"http://127.0.0.1:{mlflow.port}", "service_patience_seconds": "1"}
    workspace = small_workspace(tmp_path, **given)
    datasets.make_sample(workspace)

    def take_away() -> None:
        until(lambda: len(noted(workspace)) >= EPOCHS - 3)
        mlflow.refuse()

    with meanwhile(take_away), pytest.raises(ServiceUnavailable):
        train(workspace)
    weights = list((workspace.home / "weights").iterdir())
    before = weights[0].stat()
    client = MlflowClient(f"http://127.0.0.1:{mlflow_port}")
    assert client.get_run(weights[0].stem).info.status == "RUNNING"
    mlflow.forward()
    trained = train(workspace)
    finish(workspace, trained)
    assert (trained.run_id, place(workspace.home, trained.run_id).stat().st_mtime) == (weights[0].stem, before.st_mtime)
    assert_each_metric_once(client, trained.run_id)
    assert client.get_run(trained.run_id).info.status == "FINISHED"


def test_a_server_that_answers_after_thirty_seconds_is_only_slow(workspace: Workspace, mlflow: TcpProxy) -> None:
    workspace.tracking.ready()
    mlflow.slow(15)  # each way
    workspace.tracking.ready()


@pytest.mark.parametrize("times", [1, 4])
def test_a_run_whose_creation_was_answered_by_a_cut_is_there_once(mlflow_port: int, tmp_path: Path, times: int) -> None:
    """MLflow's client asks four times, and makes four runs; then the start is repeated."""
    with AnswerCutter(mlflow_port, b"runs/create", times) as cutter:
        workspace = small_workspace(tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{cutter.port}")
        workspace.tracking.ready()
        once = f"start-{tmp_path.name}-{times}"
        start = lambda workspace: workspace.tracking.start("cut", {"lr": 0.1}, {}, once)  # noqa: E731
        run_id = retry(start, workspace)
        assert cutter.cut == times
    client = MlflowClient(f"http://127.0.0.1:{mlflow_port}")
    experiment = client.get_run(run_id).info.experiment_id
    (run,) = client.search_runs([experiment], f"tags.`openmlops.start` = '{once}'")
    assert (run.info.run_id, run.info.status, run.data.params) == (run_id, "RUNNING", {"lr": "0.1"})


def test_a_version_whose_creation_was_answered_by_a_cut_is_there_once(mlflow_port: int, tmp_path: Path) -> None:
    with AnswerCutter(mlflow_port, b"model-versions/create", 2) as cutter:
        workspace = small_workspace(
            tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{cutter.port}", model_name=f"cut_{tmp_path.name}"
        )
        datasets.make_sample(workspace)
        model = finish(workspace, train(workspace, epochs=2))
        assert cutter.cut == 2
        assert workspace.registry.versions(model.name) == (model,)


def test_what_is_told_of_an_outage_is_one_line_and_one_when_it_ends(
    workspace: Workspace, mlflow: TcpProxy, capsys: pytest.CaptureFixture
) -> None:
    workspace.tracking.ready()
    mlflow.refuse()
    threading.Timer(20, mlflow.forward).start()
    retry(lambda workspace: workspace.tracking.ready(), workspace)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"MLflow at http://127.0.0.1:{mlflow.port} failed to handle a request")
    assert json.dumps(said).count("Traceback") == 0
