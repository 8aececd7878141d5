"""The inference log: each prediction once, each label once, windows as they were written."""

import subprocess
import sys
import threading
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

from openmlops.adapters import inference_log
from openmlops.adapters.database import connect, writing
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.errors import DataError, LabelConflict, PredictionNotFound, ServiceUnavailable
from openmlops.operations.monitoring.windows import write_parquet
from postgres import postgres

LAYOUT = Layout(("image.brightness", "logprob.0"), ("cat", "dog", "frog"))
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def url(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'openmlops.db'}"


@pytest.fixture
def engine(url) -> Engine:
    return connect(url)


@pytest.fixture
def log(engine) -> InferenceLog:
    return InferenceLog(engine)


def entries(names: list[str], version: int = 1, layout: Layout = LAYOUT, seed: int = 0) -> Entries:
    rng, n = np.random.default_rng(seed), len(names)
    return Entries(
        model="pets",
        version=version,
        layout=layout,
        ids=names,
        at=[START + timedelta(seconds=i) for i in range(n)],
        input_sha256=[f"{i:064x}" for i in range(n)],
        features=rng.normal(size=(n, len(layout.columns))).astype(np.float32),
        predictions=CLASSIFICATION.pack(rng.dirichlet(np.ones(len(layout.classes)), n)),
        latency_ms=[1.5] * n,
    )


def join(log: InferenceLog, prediction: str, told: object, at: datetime) -> bool:
    return log.label(prediction, told, CLASSIFICATION.read_label, at)


def test_a_window_is_what_was_written_bit_for_bit_and_oldest_first(log):
    written = entries(["a", "b", "c", "d"])
    log.write([written])
    read = log.window("pets", 1, last=3)
    assert read.ids == ("b", "c", "d")
    assert read.at == tuple(written.at[1:])
    assert read.layout == LAYOUT
    assert (read.features == written.features[1:]).all()
    assert read.predictions == tuple(written.predictions[1:])
    assert (read.columns()["logprob.0"] == written.features[1:, 1]).all()
    assert read.labels == (None,) * 3


def test_versions_are_kept_apart(log):
    log.write([entries(["a", "b"]), entries(["c"], version=2)])
    assert (log.count("pets", 1), log.count("pets", 2), log.count("pets", 3)) == (2, 1, 0)
    assert log.window("pets", 2).ids == ("c",)


def test_a_version_without_predictions_has_an_empty_window(log):
    window = log.window("pets", 1)
    assert len(window) == 0
    assert window.features.shape == (0, 0)
    assert window.predictions == ()


def test_an_id_is_written_once_and_a_group_wholly_or_not_at_all(log):
    log.write([entries(["a"])])
    with pytest.raises(IntegrityError):
        log.write([entries(["b"]), entries(["c", "a"])])
    assert log.count("pets", 1) == 1


def test_threads_that_share_the_log_lose_nothing(log):
    writers = [threading.Thread(target=log.write, args=([entries([f"{t}-{i}" for i in range(50)])],)) for t in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(log.window("pets", 1, last=1000).ids)) == 400


def test_processes_that_meet_on_a_new_layout_all_write(url):
    connect(url)
    code = f"""
import sys
from datetime import datetime, UTC
import numpy as np
from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import *
log = InferenceLog(connect({url!r}))
for i in range(20):
    log.write([Entries("pets", 1, Layout(("x",), ("cat",)), [f"{{sys.argv[1]}}-{{i}}"], [datetime.now(UTC)], ["0" * 64],
                       np.zeros((1, 1)), [b"1234"], [1.0])])
"""
    started = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert InferenceLog(connect(url)).count("pets", 1) == 60


def test_a_label_joins_once_by_index_or_name(log):
    log.write([entries(["a", "b"])])
    assert join(log, "a", "frog", START)
    assert not join(log, "a", 2, START)
    with pytest.raises(LabelConflict, match="already has the label 'frog', not 'dog'"):
        join(log, "a", "dog", START)
    assert log.window("pets", 1).labels == ("2", None)
    assert log.unlabelled("pets", 1) == ("b",)


@pytest.mark.parametrize("label", [-1, 3, "bird"])
def test_a_label_that_is_no_class_of_the_version_is_refused(log, label):
    log.write([entries(["a"])])
    with pytest.raises(DataError, match="not a class"):
        join(log, "a", label, START)


def test_a_label_for_an_unknown_prediction_is_refused(log):
    with pytest.raises(PredictionNotFound, match="'nobody'"):
        join(log, "nobody", 0, START)


@pytest.mark.parametrize(("times", "joins"), [(2, True), (3, False)])
def test_a_label_that_met_a_deadlock_is_written_again(log, monkeypatch, times, joins):
    log.write([entries(["a"])])
    failures = [ServiceUnavailable("The database cannot be used", "Check it") for _ in range(times)]
    for each in failures:
        each.__cause__ = Exception(1213, "Deadlock found when trying to get lock")

    def meeting(engine):
        if failures:
            raise failures.pop()
        return writing(engine)

    monkeypatch.setattr(inference_log, "writing", meeting)
    with nullcontext() if joins else pytest.raises(ServiceUnavailable):
        assert join(log, "a", "dog", START)
    assert (log.window("pets", 1, last=1).labels != (None,)) == joins


def test_of_labels_that_race_one_joins(log):
    log.write([entries(["a"])])
    results: list[object] = []

    def race(label: int) -> None:
        try:
            results.append(join(log, "a", label, START))
        except LabelConflict:
            results.append("conflict")

    racing = [threading.Thread(target=race, args=(i % 3,)) for i in range(9)]
    for thread in racing:
        thread.start()
    for thread in racing:
        thread.join()
    assert sorted(map(str, results)) == ["False"] * 2 + ["True"] + ["conflict"] * 6


def export(log: InferenceLog, path: Path) -> np.ndarray:
    """Write the window of version 1 as monitoring does; its probabilities."""
    window = log.window("pets", 1)
    probabilities = CLASSIFICATION.unpack(window.predictions, len(window.layout.classes))
    labels = CLASSIFICATION.label_column(window.labels)
    write_parquet(path, window, {**CLASSIFICATION.columns(probabilities, window.layout.classes), "label": labels}, 1)
    return probabilities


def test_the_export_holds_the_window_and_replaces_the_file_whole(log, tmp_path):
    log.write([entries(["a", "b"])])
    join(log, "b", "dog", START)
    path = tmp_path / "monitoring" / "inference.parquet"
    for _ in range(2):
        probabilities = export(log, path)
    frame = pyarrow.parquet.read_table(path).to_pydict()
    assert frame["id"] == ["a", "b"]
    assert frame["label"] == [None, 1]
    assert frame["prediction"] == probabilities.argmax(axis=1).tolist()
    assert np.allclose(frame["probability_frog"], probabilities[:, 2])
    assert np.allclose(frame["image.brightness"], log.window("pets", 1).features[:, 0])
    assert [entry.name for entry in path.parent.iterdir()] == ["inference.parquet"]


def test_an_empty_window_can_be_exported(log, tmp_path):
    export(log, tmp_path / "inference.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "inference.parquet").num_rows == 0


def test_rows_of_an_older_layout_are_left_out_of_the_window(log):
    log.write([entries(["a"]), entries(["b"], layout=Layout(("other",), ("cat", "dog")))])
    assert log.window("pets", 1).ids == ("b",)


def test_a_database_that_is_gone_is_unavailable_not_a_traceback(log, engine, tmp_path):
    engine.dispose()
    (tmp_path / "openmlops.db").unlink()
    (tmp_path / "openmlops.db").mkdir()
    with pytest.raises(ServiceUnavailable):
        log.write([entries(["a"])])


def test_the_oldest_entries_come_back_as_they_were_written_and_can_be_taken_out(log):
    other = Layout(("x",), ("no", "yes"))
    groups = [entries(["a", "b"]), entries(["c"], version=2), entries(["d"], layout=other, seed=1), entries(["e"])]
    log.write(groups)
    found = log.oldest(4)
    assert [(one.version, one.layout, list(one.ids)) for one in found] == [
        (one.version, one.layout, list(one.ids)) for one in groups[:3]
    ]
    for one, written in zip(found, groups[:3], strict=True):
        assert np.array_equal(one.features, written.features)
        assert (one.predictions, one.at, one.latency_ms) == (
            list(written.predictions),
            list(written.at),
            list(written.latency_ms),
        )
    log.remove(found)
    assert log.total() == 1
    assert log.holds("e")
    assert not log.holds("a")


def test_of_entries_that_are_partly_there_only_the_rest_is_written(log):
    log.write([entries(["b"])])
    for _ in range(2):
        log.write_missing([entries(["a", "b"]), entries(["c"], version=2)])
    assert [log.window("pets", version).ids for version in (1, 2)] == [("b", "a"), ("c",)]


def test_an_attempt_that_is_committed_while_its_entries_are_written_again_doubles_none():
    with postgres() as server:
        url, commit = server.url(server.create()), threading.Event()
        engine = connect(url)
        slow, log = InferenceLog(engine), InferenceLog(connect(url))
        log.write([entries(["z"])])  # the layout
        slow.write([entries(["y"])])
        event.listen(engine, "commit", lambda connection: commit.wait(60))
        attempt = threading.Thread(target=slow.write, args=([entries(["a", "b"])],))
        again = threading.Thread(target=log.write_missing, args=([entries(["a", "b", "c"])],))
        for thread in (attempt, again):
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()
        commit.set()
        for thread in (attempt, again):
            thread.join(60)
        assert log.window("pets", 1).ids == ("z", "y", "a", "b", "c")
