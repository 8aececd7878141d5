"""Old predictions become totals; what is still needed stays, and nothing is counted twice or lost."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from filled_log import LAYOUT, MODEL, NOW, label, log, promote, workspace
from openmlops.adapters.decisions import DecisionRecord, Span
from openmlops.adapters.inference_hours import bucket, latency_ms, percentile
from openmlops.adapters.schema import INFERENCE, LABEL, LABEL_USE
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.monitoring.policy import WorthLabelling
from openmlops.errors import PredictionNotFound
from openmlops.operations.retention import predictions
from openmlops.operations.retention.predictions import prune_predictions
from openmlops.operations.workspace import Workspace


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "WINDOW", 10)
    monkeypatch.setattr(predictions, "FIRST_BATCH", 37)


def rows(found: Workspace, table=INFERENCE) -> int:
    with found.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def total(found: Workspace, model: str = MODEL) -> int:
    return sum(hour.n for hour in found.inference_hours.hours(model))


def test_older_predictions_become_hourly_totals_and_younger_ones_stay(tmp_path: Path):
    found = workspace(tmp_path)
    log(found, 200, days=100)
    log(found, 50, days=100, version=2)
    log(found, 30, days=89)
    done = prune_predictions(found, NOW)
    assert (done.deleted, rows(found), total(found)) == (250, 30, 250)
    assert done.oldest == NOW - timedelta(days=89)
    hours = found.inference_hours.hours(MODEL)
    assert [(hour.version, hour.n) for hour in hours] == [(1, 30), (2, 30), (1, 60), (2, 20), (1, 60), (1, 50)]
    assert {hour.at.minute for hour in hours} == {0}
    assert sum(sum(hour.latency.values()) for hour in hours) == 250


def test_the_count_of_a_version_stays_what_it_was(tmp_path: Path):
    found = workspace(tmp_path)
    log(found, 200, days=100)
    log(found, 30, days=1)
    prune_predictions(found, NOW)
    assert found.inference_log.count(MODEL, 1) + found.inference_hours.count(MODEL, 1) == 230


def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path: Path):
    found = workspace(tmp_path)
    promote(found, 1)
    ids = log(found, 120, days=100)
    label(found, ids[3], used=False)
    before = (tmp_path / "state" / "openmlops.db").read_bytes()
    said = prune_predictions(found, NOW, dry=True)
    assert (tmp_path / "state" / "openmlops.db").read_bytes() == before
    done = prune_predictions(found, NOW)
    assert said == done
    assert said.deleted == 109


def test_a_second_pruning_finds_nothing(tmp_path: Path):
    found = workspace(tmp_path)
    log(found, 120, days=100)
    prune_predictions(found, NOW)
    assert (prune_predictions(found, NOW).deleted, total(found)) == (0, 120)


def test_later_ones_of_the_same_hour_are_added_to_its_total(tmp_path: Path):
    found = workspace(tmp_path)
    log(found, 5, days=100, seconds=1)
    prune_predictions(found, NOW)
    log(found, 7, days=100, seconds=1, mark="of a spool")
    prune_predictions(found, NOW)
    assert [(hour.n, sum(hour.latency.values())) for hour in found.inference_hours.hours(MODEL)] == [(12, 12)]


def test_zero_days_keep_everything(tmp_path: Path):
    found = workspace(tmp_path, RETENTION_PREDICTIONS_DAYS="0")
    log(found, 20, days=1000)
    done = prune_predictions(found, NOW)
    assert (done.deleted, rows(found), done.oldest) == (0, 20, NOW - timedelta(days=1000))
    assert "for ever" in done.why


def test_a_label_that_was_not_trained_on_keeps_its_prediction(tmp_path: Path):
    found = workspace(tmp_path)
    ids = log(found, 50, days=100)
    label(found, ids[7], used=False)
    label(found, ids[8], used=True)
    done = prune_predictions(found, NOW)
    assert (done.deleted, rows(found), rows(found, LABEL), rows(found, LABEL_USE)) == (49, 1, 1, 0)
    assert sum(hour.labelled for hour in found.inference_hours.hours(MODEL)) == 1
    assert "labels that can still be trained on (1)" in done.why
    found.labelled_inputs.mark_used([ids[7]], "d" * 64, NOW)
    assert (prune_predictions(found, NOW).deleted, total(found)) == (1, 50)


def test_a_used_label_stays_while_its_image_is_stored(tmp_path: Path):
    """Images that are held out for the gate are compared again with each challenger."""
    found = workspace(tmp_path)
    (name,) = log(found, 1, days=100)
    label(found, name, used=True)
    found.inputs.put(b"image", found.inference_log.named(MODEL, [name]).input_sha256[0])
    assert prune_predictions(found, NOW).deleted == 0


def test_an_open_label_request_keeps_what_it_names_until_it_is_closed(tmp_path: Path):
    found = workspace(tmp_path)
    ids = log(found, 50, days=100)
    log(found, 20, days=1, version=2)
    promote(found, 2)
    asked = DecisionRecord(
        id="r1", model=MODEL, version=1, at=NOW, action="collect_labels", reasons=("few",), by="a test",
        labels=WorthLabelling(uncertain=(ids[0],), random=(ids[1],)),
    )  # fmt: skip
    found.decisions.append(asked)
    assert prune_predictions(found, NOW).deleted == 48
    found.decisions.append(asked.model_copy(update={"id": "r2", "action": "retrain", "labels": WorthLabelling()}))
    assert prune_predictions(found, NOW).deleted == 2


def test_a_label_request_of_meanwhile_keeps_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = workspace(tmp_path)
    ids = log(found, 50, days=100)
    log(found, 20, days=1, version=2)
    promote(found, 2)
    monkeypatch.setattr(predictions, "REFRESH_SECONDS", -1.0)
    retire, batches = predictions._retire, []

    def asking(*arguments: Any) -> Any:
        passed = retire(*arguments)
        if not batches:
            labels = WorthLabelling(uncertain=(ids[48],), random=(ids[49],))
            named = {"id": "r1", "model": MODEL, "version": 1, "action": "collect_labels", "by": "a test"}
            found.decisions.append(DecisionRecord(**named, at=NOW, reasons=("few",), labels=labels))
        batches.append(passed)
        return passed

    monkeypatch.setattr(predictions, "_retire", asking)
    assert prune_predictions(found, NOW).deleted == 48
    assert len(batches) > 1


def test_the_latest_windows_of_the_champion_and_of_the_one_before_it_stay(tmp_path: Path):
    found = workspace(tmp_path)
    for version in (1, 2, 3):
        promote(found, version)
        log(found, 100, days=200 - version, version=version)
    log(found, 100, days=120, version=9, model="other")
    assert prune_predictions(found, NOW).deleted == 380
    kept = {version: found.inference_log.window(MODEL, version) for version in (1, 2, 3)}
    assert {version: len(window) for version, window in kept.items()} == {1: 0, 2: 10, 3: 10}
    assert kept[3].ids[-1] == "3-197-99"


def test_the_window_that_was_evaluated_last_stays_and_what_lies_between_goes(tmp_path: Path):
    found = workspace(tmp_path)
    promote(found, 1)
    ids = log(found, 300, days=200)
    until = found.inference_log.named(MODEL, [ids[99]]).at[0]
    seen = DecisionRecord(
        id="w1", model=MODEL, version=1, at=until, action="nothing", reasons=("calm",), by="a test",
        span=Span(source="log", anchor=until, until=until, n=40),
    )  # fmt: skip
    found.decisions.append(seen)
    assert prune_predictions(found, NOW).deleted == 300 - 40 - 40
    assert found.inference_log.window(MODEL, 1, 40, until).ids == tuple(ids[60:100])


def test_the_stretch_of_a_window_is_found_in_any_order_of_models(tmp_path: Path):
    found = workspace(tmp_path)
    for part in range(5):
        log(found, 20, days=50 - part, seconds=30)
        log(found, 20, days=50 - part, seconds=30, version=2)
    until = NOW - timedelta(days=47)
    window = found.inference_log.window(MODEL, 1, 25, until)
    with found.engine.connect() as connection:
        ends = connection.scalars(select(INFERENCE.c.sequence).where(INFERENCE.c.id.in_((window.ids[0], window.ids[-1])))).all()
    assert found.inference_log.stretch(MODEL, 1, 25, until) == (min(ends), max(ends))
    assert found.inference_log.stretch(MODEL, 1, 25, NOW - timedelta(days=99)) is None
    assert found.inference_log.stretch(MODEL, 3, 25) is None


def test_the_latest_of_a_model_are_those_of_all_its_versions(tmp_path: Path):
    found = workspace(tmp_path)
    for part, version in enumerate((1, 2, 1, 3, 2)):
        log(found, 20, days=50 - part, version=version, seconds=30, mark=f"{part}")
        log(found, 20, days=50 - part, version=version, seconds=30, model="other", mark=f"other {part}")
    with found.engine.connect() as connection:
        query = select(INFERENCE.c.at, INFERENCE.c.version).where(INFERENCE.c.model == MODEL)
        newest = connection.execute(query.order_by(INFERENCE.c.sequence.desc())).all()
    for last in (1, 30, 55, 100, 200):
        seen = found.activity.latest(MODEL, last)
        assert [(each.at, each.version) for each in seen] == [tuple(row) for row in newest[:last][::-1]]
    assert found.activity.latest("no such", 10) == ()


def test_a_label_for_a_prediction_that_is_gone_is_refused_as_unknown(tmp_path: Path):
    found = workspace(tmp_path)
    ids = log(found, 20, days=100)
    prune_predictions(found, NOW)
    with pytest.raises(PredictionNotFound, match="has no prediction"):
        label(found, ids[0], used=False)


def test_a_label_that_arrives_while_its_prediction_is_deleted_is_refused_as_unknown(tmp_path: Path):
    found = workspace(tmp_path)
    (name,) = log(found, 1, days=100)

    def read(reported: object, classes: object) -> str:
        prune_predictions(found, NOW)
        return CLASSIFICATION.read_label(reported, classes)

    with pytest.raises(PredictionNotFound):
        found.inference_log.label(name, 1, read, datetime.now(NOW.tzinfo))


def test_a_batch_that_fails_half_way_has_neither_counted_nor_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from openmlops.adapters import inference_hours

    found = workspace(tmp_path)
    log(found, 100, days=100)

    def die(*values: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as then:
        then.setattr(inference_hours, "_delete", die)
        with pytest.raises(KeyboardInterrupt):
            prune_predictions(found, NOW)
    assert (rows(found), total(found)) == (100, 0)
    prune_predictions(found, NOW)
    assert (rows(found), total(found)) == (0, 100)


@pytest.mark.parametrize(
    ("most", "took", "following"),
    [
        (500, 0.01, 1000),
        (4000, 0.01, 4000),
        (500, 0.05, 500),
        (4000, 3.0, 2000),
        (300, 3.0, 200),
        (200, 3.0, 200),
        (37, 3.0, 37),
    ],
)
def test_batches_adapt_to_the_time_they_take(most: int, took: float, following: int):
    assert predictions._next_size(most, took) == following


def test_percentiles_of_totals_are_those_of_the_rows_within_an_eighth():
    latencies = [0.5 * 1.01**row for row in range(1000)]
    totals: dict[int, int] = {}
    for each in latencies:
        totals[bucket(each)] = totals.get(bucket(each), 0) + 1
    for share in (0.5, 0.99):
        assert percentile(totals, share) == pytest.approx(latencies[round(share * 999)], rel=0.125)
    assert percentile({}, 0.5) == 0.0
    assert latency_ms(bucket(0.0)) < 0.02


def test_the_layout_of_what_is_gone_stays_for_what_comes(tmp_path: Path):
    found = workspace(tmp_path)
    log(found, 20, days=100)
    prune_predictions(found, NOW)
    log(found, 20, days=1)
    assert found.inference_log.window(MODEL, 1).layout == LAYOUT
