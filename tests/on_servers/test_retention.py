"""Old predictions become totals in PostgreSQL and MariaDB too, beside writers and labellers whom it keeps from nothing."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from filled_log import MODEL, NOW, label, log, promote, workspace
from openmlops.adapters.inference_hours import InferenceHours
from openmlops.adapters.mlflow_disposal import Disposal
from openmlops.adapters.schema import INFERENCE, LABEL
from openmlops.adapters.tracking import Tracking
from openmlops.errors import PredictionNotFound
from openmlops.operations.retention import predictions
from openmlops.operations.retention.predictions import prune_predictions
from openmlops.operations.workspace import Workspace
from postgres import postgres
from query_plans import filled, slow
from real_servers import make_database, mariadb, mlflow, object_store


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "postgresql":
        with postgres() as server:
            yield make_database(server, "retention")
    else:
        with mariadb(tmp_path_factory.mktemp("mariadb") / "log", ("retention",)) as found:
            yield found.url("retention")


def rows(found: Workspace) -> int:
    with found.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(INFERENCE))


def test_beside_a_server_and_a_labeller_nothing_is_lost_or_counted_twice(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "WINDOW", 10)
    found, ended = workspace(tmp_path, DATABASE_URL=url), threading.Event()
    promote(found, 1)
    old = [name for part in range(10) for name in log(found, 1000, days=120, seconds=1, mark=f"old {part}")]
    told: dict[str, list] = {"young": [], "written before a batch": [], "labelled": [], "gone": [], "failed": []}
    retire = InferenceHours.retire

    def noted(*values: object, **more: object) -> object:
        told["written before a batch"].append(len(told["young"]))
        return retire(*values, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(InferenceHours, "retire", noted)

    def write() -> None:
        while not ended.is_set():
            told["young"] += log(found, 4, days=-(datetime.now(UTC) - NOW).days, mark=f"young {len(told['young'])}")

    def label_some() -> None:
        for name in old[::7]:
            try:
                label(found, name, used=False)
                told["labelled"].append(name)
            except PredictionNotFound:
                told["gone"].append(name)
            except Exception as error:  # noqa: BLE001 (told in the assertion)
                told["failed"].append(error)

    threads = [threading.Thread(target=work) for work in (write, label_some)]
    for thread in threads:
        thread.start()
    pruner = [threading.Thread(target=prune_predictions, args=(found, datetime.now(UTC))) for _ in range(2)]
    for thread in pruner:
        thread.start()
    for thread in (*pruner, threads[1]):
        thread.join(300)
    ended.set()
    threads[0].join(60)
    assert told["failed"] == []
    assert len(set(told["written before a batch"])) > 2, "predictions are written between two batches of a deletion"
    with found.engine.connect() as connection:
        assert set(connection.scalars(select(LABEL.c.inference))) == set(told["labelled"])
    assert rows(found) + found.inference_hours.count(MODEL, 1) == len(old) + len(told["young"])
    prune_predictions(found, datetime.now(UTC))
    assert rows(found) == len(told["young"]) + len(told["labelled"])
    assert found.inference_hours.count(MODEL, 1) == len(old) - len(told["labelled"])
    assert found.activity.latest(MODEL, 5)[-1].version == 1
    assert found.labelled_inputs.count_new(MODEL) == len(told["labelled"])
    print(url.partition(":")[0], {name: len(value) for name, value in told.items()})


def test_an_index_serves_every_query(url: str, tmp_path: Path) -> None:
    found = workspace(tmp_path, DATABASE_URL=url)
    ids = filled(found)
    with found.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in ("inference", "label", "label_use", "decision"):
            connection.execute(text(f"ANALYZE {'' if 'postgresql' in url else 'TABLE'} {table}"))
    assert slow(found, ids) == []


def test_a_batch_whose_row_is_labelled_meanwhile_is_tried_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "FIRST_BATCH", 10**6)  # the other test's rows, which are younger, come first
    found = workspace(tmp_path, DATABASE_URL=url)
    log(found, 20, days=200, mark="again", model="another")
    retire, failed = InferenceHours.retire, []

    def once_in_the_way(*values: object, **more: object) -> object:
        if not failed:
            failed.append(True)
            raise IntegrityError("DELETE", {}, Exception("a label refers to it"))
        return retire(*values, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(InferenceHours, "retire", once_in_the_way)
    assert prune_predictions(found, datetime.now(UTC)).deleted >= 20
    assert found.inference_hours.count("another", 1) == 20


def test_a_run_on_an_mlflow_server_loses_its_files_and_is_marked_as_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres() as database, object_store(tmp_path / "objects") as objects:
        tables = make_database(database, "mlflow")
        with mlflow(tmp_path / "mlflow", tables, objects, objects.bucket("runs")) as server:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", server.user)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
            tracking = Tracking(server.url, "retention", tmp_path / "unused")
            disposal = Disposal(server.url, "retention")
            kept, gone, half = (tracking.start(f"{MODEL}-{name}", {}, {}) for name in ("kept", "gone", "half"))
            for run in (kept, gone, half):
                tracking.log_text(run, "a report", "monitoring/d1/report.html")
                tracking.log_text(run, "a model", "model-abc/model.onnx")
                tracking.finish(run)
            stored = objects.folder / "runs"
            assert disposal.size(kept) == disposal.size(gone) > 15
            disposal.delete_folder(kept, "monitoring/d1")
            disposal.delete_run(gone)
            with monkeypatch.context() as then:
                then.setattr(Disposal, "_dispose", lambda *values: None)  # killed in between
                disposal.delete_run(half)
            assert [run.id for run in disposal.runs()] == [kept]
            disposal.finish()
            disposal.finish()
            files = (path.relative_to(stored).as_posix() for path in stored.rglob("*") if path.is_file())
            left = {path.partition("artifacts/")[2] for path in files}
            assert left == {"environment.txt", "model-abc/model.onnx"}
            assert disposal.folders(kept, "monitoring") == ()
