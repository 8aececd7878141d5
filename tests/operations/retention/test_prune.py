"""`prune` as a whole: who prunes when, what the command prints, and what the doctor says."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import in_process
from filled_log import MODEL, NOW, log, promote, workspace
from in_process import Ended
from openmlops.adapters.decisions import DecisionRecord, Outcome
from openmlops.adapters.leases import Leases
from openmlops.core.monitoring.policy import WorthLabelling
from openmlops.errors import LeaseTaken, ServiceUnavailable
from openmlops.files import write_text
from openmlops.operations.labelling.queue import current_request
from openmlops.operations.projects.doctor import _retention
from openmlops.operations.retention import due, records, sizes
from openmlops.operations.retention import prune as pruning
from openmlops.operations.retention.contents import prune_contents
from openmlops.operations.retention.due import is_due, last_pruned
from openmlops.operations.retention.inputs import prune_inputs
from openmlops.operations.retention.prune import prune, prune_and_log
from openmlops.operations.retention.records import prune_decisions
from openmlops.operations.retention.report import size
from openmlops.operations.workspace import Workspace


def test_every_kind_is_accounted_for(tmp_path: Path):
    found = workspace(tmp_path)
    log(found, 100, days=100)
    report = prune(found, NOW)
    assert len(report.pruned) == len(pruning.KINDS)
    assert {each.what for each in report.pruned} >= {"predictions", "inputs"}
    assert (report.deleted, report.problems) == (100, ())
    assert report.bytes > 100 * 500


def test_two_do_not_prune_at_once(tmp_path: Path):
    found = workspace(tmp_path)
    found.leases.take(pruning.ALONE, "host-b process 7", timedelta(minutes=1))
    with pytest.raises(LeaseTaken, match="host-b process 7 holds the lease 'prune'"):
        prune(found, NOW)
    assert prune(found, NOW, dry=True).dry_run, "looking is always possible"
    assert prune_and_log(found) is None


def test_a_watcher_prunes_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = workspace(tmp_path)
    assert is_due(found)
    assert last_pruned(found) is None
    before = datetime.now(UTC)
    prune_and_log(found)
    assert not is_due(found)
    began = last_pruned(found)
    assert began is not None
    assert before <= began <= datetime.now(UTC)
    monkeypatch.setattr(due, "datetime", type("Later", (), {"now": lambda zone: began + timedelta(days=1, seconds=1)}))
    assert is_due(found)


def set_clock(found: Workspace, monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    clock = type("Clock", (), {"now": lambda zone: at})
    monkeypatch.setattr(due, "datetime", clock)
    monkeypatch.setattr(pruning, "datetime", clock)
    found.leases = Leases(found.engine, lambda: at)


def test_a_clock_that_is_a_year_ahead_is_believed_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    found = workspace(tmp_path)
    log(found, 100, days=1)
    set_clock(found, monkeypatch, NOW)
    assert prune_and_log(found) is not None
    for hours in (0, 1, 23):
        set_clock(found, monkeypatch, NOW + timedelta(days=365, hours=hours))
        assert is_due(found)
        assert prune_and_log(found) is None
    assert [record.message for record in caplog.records] == [
        "nothing is pruned for a day: the last time was 2026-11-01, or the clock is wrong. "
        "`openmlops prune --trust-clock` does it now"
    ]
    set_clock(found, monkeypatch, NOW + timedelta(days=2))
    assert getattr(prune_and_log(found), "deleted", None) == 0, "it was wrong"
    for hours, deleted in ((0, None), (25, 100)):
        set_clock(found, monkeypatch, NOW + timedelta(days=500, hours=hours))
        assert getattr(prune_and_log(found), "deleted", None) == deleted, "it was right: the project rested"


def test_a_first_pruning_by_a_clock_that_is_a_year_ahead_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = workspace(tmp_path)
    log(found, 100, days=1)
    set_clock(found, monkeypatch, NOW + timedelta(days=365))
    assert prune_and_log(found) is None
    set_clock(found, monkeypatch, NOW + timedelta(hours=1))
    assert getattr(prune_and_log(found), "deleted", None) == 0


def test_a_pruning_in_the_future_does_not_stop_those_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = workspace(tmp_path)
    set_clock(found, monkeypatch, NOW + timedelta(days=365))
    assert prune_and_log(found) is not None
    assert not is_due(found)
    set_clock(found, monkeypatch, NOW)
    assert is_due(found)


@pytest.mark.parametrize("huge", ["1e6", "1e300", "inf"])
def test_limits_beyond_the_calendar_are_none(tmp_path: Path, huge: str):
    names = ("PREDICTIONS_DAYS", "INPUTS_DAYS", "INPUTS_GIB", "REPORTS_DAYS", "UNUSED_DAYS")
    found = workspace(tmp_path, **{f"RETENTION_{name}": huge for name in names})
    log(found, 100, days=1000)
    write_text(found.home / "inputs" / "ab" / ("ab" * 32), "an image")
    report = prune(found, NOW)
    assert (report.deleted, report.problems) == (0, ())


def test_a_kind_that_fails_is_one_line_and_the_others_are_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*values: object) -> None:
        raise ServiceUnavailable("MLflow did not respond", "Start it")

    found = workspace(tmp_path)
    ahead = (datetime.now(UTC) - NOW).days
    log(found, 100, days=ahead + 100)
    log(found, 1, days=-ahead)
    monkeypatch.setattr(pruning, "KINDS", (fail, *pruning.KINDS))
    caplog.set_level(logging.INFO)
    report = prune_and_log(found)
    assert report is not None
    assert report.deleted == 100
    assert [record.message for record in caplog.records] == [
        "not everything was pruned: MLflow did not respond. Start it.", "pruned 100 predictions",
    ]  # fmt: skip


def test_inputs_are_pruned_by_both_settings(tmp_path: Path):
    found = workspace(tmp_path, RETENTION_INPUTS_DAYS="10", RETENTION_INPUTS_GIB="0.000002")
    found.inputs.make()
    for number, days in enumerate((20, 5, 4, 3)):
        name = f"{number:064x}"
        found.inputs.put(b"x" * 900, name)
        at = (NOW - timedelta(days=days)).timestamp()
        os.utime(found.inputs.path(name), (at, at))
    said = prune_inputs(found, NOW, dry=True)
    assert found.inputs.holds(f"{0:064x}")
    done = prune_inputs(found, NOW)
    assert said == done
    assert (done.deleted, done.bytes, done.oldest) == (2, 1800, NOW - timedelta(days=4))
    forever = workspace(tmp_path, RETENTION_INPUTS_DAYS="0", RETENTION_INPUTS_GIB="0")
    assert prune_inputs(forever, NOW + timedelta(days=9999)).deleted == 0


def test_images_of_an_open_label_request_outlive_their_limit_until_it_is_closed(tmp_path: Path):
    found = workspace(tmp_path)
    promote(found, 1)
    ids = log(found, 3, days=80)
    found.inputs.make()
    for name in found.inference_log.named(MODEL, ids).input_sha256:
        found.inputs.put(b"x", name)
        os.utime(found.inputs.path(name), (0, (NOW - timedelta(days=80)).timestamp()))
    asked = DecisionRecord(
        id="r1", model=MODEL, version=1, at=NOW, action="collect_labels", reasons=("few",), by="a test",
        labels=WorthLabelling(uncertain=(ids[0],), random=(ids[2],)),
    )  # fmt: skip
    found.decisions.append(asked)
    done = prune_inputs(found, NOW)
    assert (done.deleted, done.oldest) == (1, NOW - timedelta(days=80))
    assert "or of open label requests (2)" in done.why
    request = current_request(found, MODEL)
    assert request is not None
    assert [wanted.prediction for wanted in request.open] == [ids[0], ids[2]]
    found.decisions.append(asked.model_copy(update={"id": "r2", "action": "retrain", "labels": WorthLabelling()}))
    assert prune_inputs(found, NOW).deleted == 2


def test_the_doctor_says_how_large_what_grows_is_and_warns_where_nobody_prunes(tmp_path: Path):
    found = workspace(tmp_path)
    assert _retention(found).says.startswith("nothing to keep")
    promote(found, 1)
    assert _retention(found).status == "ok"
    log(found, 10, days=100)
    finding = _retention(found)
    assert finding.status == "warning"
    assert "predictions since 2026-07-24 (limit 90 days)" in finding.says
    assert finding.remedy == "Run `openmlops prune`, or keep `openmlops watch` running"
    prune(found, datetime.now(UTC))
    assert _retention(found).status == "ok"
    assert "(no limit)" in _retention(workspace(tmp_path, RETENTION_PREDICTIONS_DAYS="0")).says


def test_decisions_that_led_to_nothing_go_but_for_the_latest_and_those_with_consequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = workspace(tmp_path)
    monkeypatch.setattr(records, "LATEST", 3)

    def decide(name: str, days: int, action: str = "nothing", model: str = MODEL) -> None:
        at, why = NOW - timedelta(days=days), ("for a test",)
        found.decisions.append(DecisionRecord(id=name, model=model, version=1, at=at, action=action, reasons=why, by="a test"))  # type: ignore[arg-type]

    for number in range(6):
        decide(f"old{number}", 300 - number)
    decide("asked", 290, "collect_labels")
    decide("acted", 289)
    found.decisions.outcome("acted", Outcome(at=NOW, kind="failed"))
    decide("unmeasured", 288, "not_measurable")
    for number in range(3):
        decide(f"new{number}", 3 - number)
    decide("alone", 400, model="other")
    dry = prune_decisions(found, NOW, dry=True)
    assert len(found.decisions.list(MODEL)) == 12
    done = prune_decisions(found, NOW)
    assert done.deleted == dry.deleted == 7
    assert done.bytes == dry.bytes > 7 * 100
    assert [record.id for record in found.decisions.list(MODEL)] == ["asked", "acted", "new0", "new1", "new2"]
    assert [record.id for record in found.decisions.list("other")] == ["alone"], "one of its latest"
    forever = workspace(tmp_path, RETENTION_RECORDS_DAYS="0")
    assert (prune_decisions(forever, NOW + timedelta(days=9999)).deleted, prune_decisions(found, NOW).deleted) == (0, 0)


def test_what_is_linked_several_times_is_measured_once(tmp_path: Path):
    found = workspace(tmp_path)
    first = found.home / "object-store" / "data" / "set" / "image.png"
    for path in (first, found.home / "dvc-cache" / "ab" / "cd", found.home / "versions" / "f" / "image.png"):
        path.parent.mkdir(parents=True)
        os.link(first, path) if first.exists() else path.write_bytes(bytes(3 * 1024**2))
    write_text(found.home / "predictions" / ("0" * 64), "x" * 1024**2)
    assert "versions and runs 1.0 MiB, data versions 3.0 MiB here" in sizes.measure(found, NOW).text


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`openmlops prune` in the workspace of `tmp_path`."""

    def run(*words: str, **settings: str) -> Ended:
        places = {"OPENMLOPS_HOME": f"{tmp_path}/state", "DATA_RAW_DIR": f"{tmp_path}/raw"}
        return in_process.run(("prune", *words), tmp_path, capsys, places | settings)

    return run


def test_the_command_prints_one_table_or_one_object(tmp_path: Path, command: Callable[..., Ended]):
    found = workspace(tmp_path)
    log(found, 100, days=(datetime.now(UTC) - NOW).days + 100)
    looked = command("--dry-run")
    assert looked.code == 0, looked.err
    head, first, *_ = (line.split("\t") for line in looked.out.splitlines())
    assert head == ["what", "would be deleted", "size", "oldest kept", "kept because"]
    assert first[:2] == ["predictions", "100"]
    assert "nothing was changed" in looked.err
    refused = command()
    assert (refused.code, refused.out) == (1, "")
    assert "the last time known here: it may be wrong. Correct the clock; or, if it is right, pass --trust-clock" in refused.err
    assert found.inference_hours.count(MODEL, 1) == 0
    done = command("--json", "--trust-clock")
    assert json.loads(done.out)["pruned"][0]["deleted"] == 100
    assert found.inference_hours.count(MODEL, 1) == 100


def test_a_bad_setting_is_one_clear_line(command: Callable[..., Ended]):
    done = command(RETENTION_PREDICTIONS_DAYS="-1")
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.strip().splitlines()
    assert line.startswith("error: RETENTION_PREDICTIONS_DAYS has the value '-1'")


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**41, "2.0 TiB")]
)
def test_sizes_are_shown_in_their_unit(count: int, shown: str):
    assert size(count) == shown


@pytest.mark.slow
def test_a_killed_pruning_loses_nothing_and_is_repeated_beside_writers(tmp_path: Path):
    found = workspace(tmp_path)
    for part in range(20):
        log(found, 2000, days=120, seconds=1, mark=f"part {part}")
    young = 0
    for _ in range(6):
        child = subprocess.Popen(
            [Path(sys.executable).with_name("openmlops"), "prune", "--json"],
            env=os.environ | {"OPENMLOPS_HOME": f"{tmp_path}/state", "DATA_RAW_DIR": f"{tmp_path}/raw"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
        )  # fmt: skip
        until = time.monotonic() + 2.5
        while time.monotonic() < until and child.poll() is None:
            young += len(log(found, 5, days=-(datetime.now(UTC) - NOW).days, mark=f"young {young}"))
        child.kill()
        child.wait()
        counted = found.inference_log.count(MODEL, 1) + found.inference_hours.count(MODEL, 1)
        assert counted == 40_000 + young
        found.leases.seize(pruning.ALONE, "the dead", timedelta(0))  # else its lease would expire in a minute
    prune(found, datetime.now(UTC))
    assert (found.inference_hours.count(MODEL, 1), found.inference_log.count(MODEL, 1)) == (40_000, young)


def test_what_steps_handed_on_goes_after_its_limit_and_exports_after_a_day(tmp_path: Path):
    found = workspace(tmp_path)
    ages = {"splits": 100, "weights": 10, "export": 2, "data": 200}
    for kind, days in ages.items():
        for name in ("manifest.json", "model.onnx") if kind == "export" else ("set.dvc",) if kind == "data" else ("",):
            key = f"content/{kind}/{'0' * 64}/{name}".rstrip("/")
            found.object_store.put_bytes(key, b"content")
            at = (NOW - timedelta(days=days)).timestamp()
            os.utime(found.home / "object-store" / key, (at, at))
    dry = prune_contents(found, NOW, dry=True)
    assert len(found.object_store.list("content/")) == 5
    done = prune_contents(found, NOW)
    assert (done.deleted, done.bytes) == (dry.deleted, dry.bytes) == (2, 3 * len(b"content"))
    assert {key.split("/")[1] for key in found.object_store.list("content/")} == {"data", "weights"}
    assert done.oldest == NOW - timedelta(days=10)
