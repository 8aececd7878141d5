"""From a window of answers to a stored decision: what is measured is what arrived, and what cannot be measured is said."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from openmlops.adapters.decisions import new_id
from openmlops.adapters.evidently_report import EvidentlyReport
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.images.statistics import image_statistics
from openmlops.core.monitoring.drift import DriftReference, measure
from openmlops.errors import ModelNotFound
from openmlops.operations.monitoring import monitor, windows
from openmlops.operations.monitoring.monitor import MonitoringOutcome
from openmlops.operations.monitoring.on_labels import MIN_LABELS
from openmlops.operations.monitoring.windows import SIMULATED_CORRUPTION, WindowRef, load_latest_model
from openmlops.operations.release import drift_references, promotion
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from small_loop import NOON, branch, fresh_images, label, send, train

NO_REPORT = EvidentlyReport(problems=("not drawn in this test",))
DARK = ("contrast", 4)


def collect(loop: Workspace, source="log", last=400, now=NOON) -> WindowRef:
    return windows.collect_inference_data(loop, load_latest_model(loop), last, source, now)


def decide(loop: Workspace, source="log", last=400, now=NOON + timedelta(days=400), report=NO_REPORT):
    """One monitoring run but for Evidently's page; long after the champion was made, by the clock of the test."""
    return monitor.trigger_decision(loop, collect(loop, source, last, now), report, now, "test")


def test_a_promotion_is_seen_by_the_next_monitoring_run(loop: Workspace):
    """Defect: a cached "load latest model" step watches the old model for ever."""
    first = load_latest_model(loop)
    send(loop, first, fresh_images(120, seed=1)[0])
    before = decide(loop)
    second, trained = train(loop, seed=1, steps=60)
    promotion.promote(loop, f"{second.name}/{second.version}", "to see whether monitoring follows", trained.splits, force=True)
    after = decide(loop)
    assert (before.version, before.span.n) == (first.version, 120)
    assert (after.version, after.action, after.span) == (second.version, "not_measurable", None)
    assert after.reasons == (f"version {second.version} has made no predictions yet",)


def test_without_a_champion_there_is_nothing_to_watch(tmp_path: Path):
    with pytest.raises(ModelNotFound, match=r"'cifar10_cnn' has no champion to monitor\. Run `openmlops train` first"):
        load_latest_model(Workspace(Settings(openmlops_home=tmp_path)))


def test_simulate_drift_corrupts_images_and_never_the_verdict(loop: Workspace, tmp_path: Path):
    """Defect: a demo flag that forces the verdict."""
    images, labels = fresh_images(200, seed=2)
    model = load_latest_model(loop)
    label(loop, send(loop, model, images), labels)
    simulating = branch(loop, tmp_path / "simulating", simulate_drift="1")
    plain, simulated = (collect(each, last=200) for each in (loop, simulating))
    frames = [pd.read_parquet(each.local(loop)) for each in (plain, simulated)]

    shown = monitoring_sees(simulating, images)
    for name, column in image_statistics(shown).items():
        np.testing.assert_allclose(frames[1][f"image.{name}"], column, rtol=1e-4, atol=1e-3)
    for name in ("id", "at", "version", "input_sha256", "label"):
        assert frames[0][name].equals(frames[1][name])

    reference, _ = drift_references.read_references(loop.registry.fetch(model))
    found = decide(simulating, last=200).observation.drift
    features = {name: frames[1][name].to_numpy() for name in simulated.columns}
    assert found == measure(features, reference)
    assert (found.outcome, decide(loop, last=200).observation.drift.outcome) == ("drift", "no_drift")


def monitoring_sees(loop: Workspace, images: np.ndarray) -> np.ndarray:
    from openmlops.core.images.corruptions import corrupt

    return corrupt(images, *SIMULATED_CORRUPTION, seed=0)


def test_simulate_drift_does_not_turn_too_few_answers_into_drift(loop: Workspace, tmp_path: Path):
    send(loop, load_latest_model(loop), fresh_images(10, seed=3)[0])
    simulating = branch(loop, tmp_path / "simulating", simulate_drift="1")
    found = decide(simulating)
    assert (found.action, found.observation.drift.n) == ("not_measurable", 10)


def test_answers_whose_input_is_gone_are_left_out_of_a_simulation_and_counted(loop: Workspace, tmp_path: Path):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(80, seed=4)[0])
    gone = loop.inference_log.window(model.name, model.version).input_sha256[0]
    loop.inputs.path(gone).unlink()
    simulated = collect(branch(loop, tmp_path / "simulating", simulate_drift="1"))
    assert (simulated.n, simulated.left_out) == (79, 1)


def test_the_test_set_is_answered_by_the_exported_model_as_it_was_evaluated(loop: Workspace):
    collected = collect(loop, "test-set", last=10_000)
    frame = pd.read_parquet(collected.local(loop))
    evaluated = loop.registry.run_metrics(collected.model.run_id)["test_accuracy"]
    assert (frame["prediction"] == frame["label"]).mean() == pytest.approx(evaluated, abs=1 / len(frame))
    assert decide(loop, "test-set").observation.drift.outcome == "no_drift"


def test_one_alarmed_window_is_not_enough_and_the_second_asks_for_labels(loop: Workspace):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(200, seed=5)[0], NOON, DARK)
    first = decide(loop, last=200)
    same = decide(loop, last=200)
    send(loop, model, fresh_images(200, seed=6)[0], NOON + timedelta(hours=1), DARK)
    second = decide(loop, last=200)
    assert (first.action, same.action, second.action) == ("nothing", "nothing", "collect_labels")
    assert "2 of the last 2 windows raised an alarm" in second.reasons[0]
    assert len(second.labels.uncertain) == len(second.labels.random) == 100
    assert set(second.labels.uncertain) <= set(loop.inference_log.unlabelled(model.name, model.version, 200))


def test_enough_new_labels_make_it_a_retraining(loop: Workspace, tmp_path: Path):
    eager = branch(loop, tmp_path / "eager", policy_alarmed_windows="1", policy_minimum_new_labels="150")
    images, labels = fresh_images(200, seed=7)
    ids = send(eager, load_latest_model(eager), images, corruption=DARK)
    label(eager, ids[:149], labels[:149])
    assert decide(eager).action == "collect_labels"
    label(eager, ids[149:], labels[149:])
    found = decide(eager)
    assert found.action == "retrain"
    assert "200 new labelled images, at least 150 required" in found.reasons
    assert eager.decisions.get(found.id) == found


def test_labels_that_were_asked_for_out_of_doubt_say_nothing_alone_and_with_the_random_ones_count_by_their_weight(
    loop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(monitor, "seed_of", lambda decision: 1)  # else one draw in twenty is further off
    eager = branch(loop, tmp_path / "eager", policy_alarmed_windows="1", policy_labels_to_request="100")
    images, labels = fresh_images(200, seed=8)
    ids = send(eager, load_latest_model(eager), images, corruption=DARK)
    requested = decide(eager).labels
    truth = dict(zip(ids, labels, strict=True))
    label(eager, list(requested.uncertain), np.array([truth[name] for name in requested.uncertain]))
    assert decide(eager).observation.labelled is None
    label(eager, list(requested.random), np.array([truth[name] for name in requested.random]))
    half = decide(eager).observation.labelled
    assert (half.n, half.sampled, half.apart, len(requested.random)) == (100, True, 0, 50)
    draw = eager.label_draws.of(ids)[0]
    assert sorted(draw) == sorted(ids)
    assert {name for name, each in draw.items() if each.at_random} == set(requested.random)
    rest = [name for name in ids if name not in (*requested.uncertain, *requested.random)]
    label(eager, rest, np.array([truth[name] for name in rest]))
    every = decide(eager).observation.labelled
    assert (every.n, every.sampled) == (200, True)
    frame = pd.read_parquet(collect(eager).local(eager))
    assert every.accuracy.value == pytest.approx((frame["prediction"] == frame["label"]).mean())
    assert abs(half.accuracy.value - every.accuracy.value) < 0.1


def test_a_handful_of_labels_is_no_accuracy(loop: Workspace):
    images, labels = fresh_images(100, seed=9)
    ids = send(loop, load_latest_model(loop), images)
    label(loop, ids[: MIN_LABELS - 1], labels[: MIN_LABELS - 1])
    assert decide(loop).observation.labelled is None
    label(loop, ids[MIN_LABELS - 1 : MIN_LABELS], labels[MIN_LABELS - 1 : MIN_LABELS])
    assert decide(loop).observation.labelled.n == MIN_LABELS


def test_a_broken_window_is_not_measurable_and_no_traceback(loop: Workspace, tmp_path: Path):
    send(loop, load_latest_model(loop), fresh_images(100, seed=10)[0])
    collected = collect(loop)
    frame = pd.read_parquet(collected.local(loop))
    for broken in (
        frame.assign(**{"image.red": np.nan}),
        frame.assign(**{"image.red": np.inf}),
        frame.iloc[:1],
        frame.iloc[:0],
    ):
        broken.to_parquet(tmp_path / "broken.parquet")
        kept = loop.contents.keep("window", tmp_path / "broken.parquet")
        ref = collected.model_copy(update={"n": len(broken), "content": kept})
        found = monitor.trigger_decision(loop, ref, NO_REPORT, NOON + timedelta(days=400), "test")
        assert found.action == "not_measurable"


def test_the_page_the_files_and_the_figures_are_kept_under_the_monitored_version(loop: Workspace):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(100, seed=11)[0])
    collected = collect(loop)
    report = monitor.run_evidently_report(loop, collected)
    decided = monitor.trigger_decision(loop, collected, report, NOON + timedelta(days=400), "test")
    outcome = monitor.store_monitoring_artifacts(loop, collected, report, decided)
    assert (outcome.decision.action, outcome.exit_code, outcome.n) == ("nothing", 0, 100)
    assert 0 <= outcome.share_of_drifted_columns < 0.5
    assert MonitoringOutcome.model_validate_json((loop.monitoring / "monitoring.json").read_text()) == outcome
    client = MlflowClient(loop.settings.tracking_uri)
    kept = {Path(found.path).name for found in client.list_artifacts(model.run_id, f"monitoring/{decided.id}")}
    assert kept == {"inference.parquet", "evidently_report.json", "monitoring.json"}
    assert (loop.monitoring / "evidently_report.html").is_file()
    monitor.store_monitoring_artifacts(loop, collected, report, decided)  # as after an outage
    points = client.get_metric_history(model.run_id, "monitoring_rows")
    assert [point.timestamp for point in points].count(int(decided.at.timestamp() * 1000)) == 1
    metrics = client.get_run(model.run_id).data.metrics
    assert metrics["monitoring_drift_statistic"] == pytest.approx(outcome.drift.statistic)


def test_the_page_of_a_drift_is_kept_in_mlflow_too(loop: Workspace, tmp_path: Path):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(100, seed=11)[0], corruption=DARK)
    collected = collect(loop)
    (page := tmp_path / "evidently_report.html").write_text("a page")
    report = EvidentlyReport(html=loop.contents.keep("report", page))
    decided = monitor.trigger_decision(loop, collected, report, NOON + timedelta(days=400), "test")
    assert monitor.store_monitoring_artifacts(loop, collected, report, decided).exit_code == 3
    client = MlflowClient(loop.settings.tracking_uri)
    kept = {Path(found.path).name for found in client.list_artifacts(model.run_id, f"monitoring/{decided.id}")}
    assert "evidently_report.html" in kept


def test_without_the_version_in_mlflow_a_window_is_judged_and_the_outcome_says_what_is_missing(loop: Workspace, tmp_path: Path):
    """Its MLflow is a copy, so that the version is deleted for this test alone."""
    with sqlite3.connect(loop.home / "mlflow.db") as old, sqlite3.connect(tmp_path / "mlflow.db") as new:
        old.backup(new)
    alone = branch(loop, tmp_path / "alone", mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    model = load_latest_model(alone)
    send(alone, model, fresh_images(100, seed=11)[0])
    alone.registry._client.delete_model_version(model.name, str(model.version))
    alone.registry._client.delete_run(model.run_id)
    collected = collect(alone)
    decided = monitor.trigger_decision(alone, collected, NO_REPORT, NOON + timedelta(days=400), "test")
    outcome = monitor.store_monitoring_artifacts(alone, collected, NO_REPORT, decided)
    assert (outcome.decision.action, outcome.n) == ("nothing", 100)
    assert outcome.problems[0] == f"Not logged to MLflow, from which the run of version {model.version} was deleted"
    assert MonitoringOutcome.model_validate_json((alone.monitoring / "monitoring.json").read_text()) == outcome


def test_a_decision_that_is_made_again_after_an_outage_is_the_one_that_was_kept(loop: Workspace):
    """It does not count its own window twice."""
    send(loop, load_latest_model(loop), fresh_images(100, seed=12)[0])
    collected, name = collect(loop), new_id()
    first, again = (
        monitor.trigger_decision(loop, collected, NO_REPORT, NOON + timedelta(days=400 + day), "test", name) for day in (0, 1)
    )
    assert first == again
    assert [record.id for record in loop.decisions.list(first.model)].count(name) == 1


def test_an_empty_window_leaves_no_page_of_an_earlier_one(loop: Workspace):
    loop.monitoring.mkdir(parents=True)
    (loop.monitoring / "evidently_report.html").write_text("old")
    collected = collect(loop)
    report = monitor.run_evidently_report(loop, collected)
    decided = monitor.trigger_decision(loop, collected, report, NOON, "test")
    outcome = monitor.store_monitoring_artifacts(loop, collected, report, decided)
    assert not (loop.monitoring / "evidently_report.html").exists()
    assert (outcome.exit_code, outcome.share_of_drifted_columns, len(outcome.problems)) == (4, None, 4)


@pytest.mark.parametrize(
    ("action", "drift", "code"),
    [
        ("nothing", "no_drift", 0),
        ("nothing", "drift", 3),
        ("retrain", "drift", 3),
        ("collect_labels", "no_drift", 3),
        ("not_measurable", "not_measurable", 4),
    ],
)
def test_the_exit_code_says_what_there_is_to_do(loop: Workspace, action: str, drift: str, code: int):
    collected = collect(loop)
    decided = monitor.trigger_decision(loop, collected, NO_REPORT, NOON, "test")
    outcome = monitor._outcome(collected, NO_REPORT, decided, ())
    changed = outcome.model_copy(
        update={
            "drift": outcome.drift.model_copy(update={"outcome": drift}),
            "decision": outcome.decision.model_copy(update={"action": action}),
        }
    )
    assert changed.exit_code == code


def test_a_version_with_too_few_validation_images_says_why_it_cannot_be_watched(tmp_path: Path):
    rng = np.random.default_rng(0)
    features = {f"c{i}": rng.normal(size=60).astype(np.float32) for i in range(3)}
    probabilities = rng.dirichlet(np.ones(4), size=60).astype(np.float32)
    labels = rng.integers(0, 4, 60)
    drift_references.write_references(tmp_path, features, lambda: CLASSIFICATION.confidence(probabilities, labels))
    drift, notes = drift_references.read_references(tmp_path)
    assert drift is None
    assert notes.no_drift == "60 reference rows are too few for windows of 50"
    assert notes.confidence is not None


def test_references_are_read_back_as_they_were_calibrated(loop: Workspace):
    folder = loop.registry.fetch(load_latest_model(loop))
    drift, notes = drift_references.read_references(folder)
    assert isinstance(drift, DriftReference)
    assert drift.rows == len(pd.read_parquet(folder / "reference.parquet"))
    assert sum(notes.confidence.counts) == drift.rows


def test_a_version_from_before_there_was_monitoring_says_so(tmp_path: Path):
    drift, notes = drift_references.read_references(tmp_path)
    assert drift is None
    assert "registered without a reference" in notes.no_drift
