"""Watching: a turn when it is due, by schedule, answers, labels or request; who is told of it, once."""

import logging
import threading
from datetime import datetime, timedelta

import pytest
from test_cycle import keep

from openmlops.errors import DataError, LeaseTaken
from openmlops.operations.monitoring import notification, watch
from openmlops.operations.monitoring.cycle import CycleOutcome
from openmlops.operations.monitoring.monitor import DecisionSummary, MonitoringOutcome
from openmlops.operations.monitoring.watch import TriggerState, current_state, trigger_reason
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.retention import due
from openmlops.operations.retention import prune as pruning
from openmlops.operations.workspace import Workspace
from small_loop import NOON, branch, fresh_images, label, send

HOUR = timedelta(hours=1)
LAST = TriggerState(at=NOON, version=1, predictions=1000, labels=10)


def is_due(requests: tuple[str, ...] = (), **changed) -> str:
    seen = LAST.model_copy(update={"at": NOON + timedelta(minutes=1), **changed})
    return trigger_reason(LAST, seen, HOUR, window=500, labels=100, requests=requests)


def test_the_watch_begins_with_a_turn():
    assert trigger_reason(None, LAST, HOUR, 500, 100, ()) == "watch started"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"at": NOON + HOUR}, "1:00:00 since the last cycle"),
        ({"predictions": 1499}, ""),
        ({"predictions": 1500}, "500 new predictions"),
        ({"labels": 99}, ""),
        ({"labels": 100}, "100 new labels"),
        ({"version": 2, "predictions": 400}, ""),
        ({"version": 2, "predictions": 500}, "500 new predictions"),
    ],
)
def test_a_turn_is_due_by_schedule_answers_and_labels(changed: dict, why: str):
    assert is_due(**changed) == why


def test_labels_that_are_enough_already_make_one_turn_due_not_one_each_time():
    enough = LAST.model_copy(update={"labels": 100})
    seen = enough.model_copy(update={"at": NOON + timedelta(minutes=1), "labels": 120})
    assert trigger_reason(enough, seen, HOUR, 500, 100, ()) == ""


def test_a_request_makes_a_turn_due_at_once():
    assert is_due(("complaints from site 4",)) == "requested: complaints from site 4"


def test_answers_and_labels_are_counted_where_they_are_logged(loop: Workspace):
    model = load_latest_model(loop)
    images, labels = fresh_images(30, seed=50)
    label(loop, send(loop, model, images)[:20], labels[:20])
    first = current_state(loop, NOON)
    assert first == TriggerState(at=NOON, version=model.version, predictions=30, labels=20, newest=first.newest)
    send(loop, model, fresh_images(5, seed=51)[0])
    assert (current_state(loop, NOON, first).predictions, current_state(loop, NOON).predictions) == (35, 35)


def outcome(loop: Workspace, decision: str, action: str, mode: str = "suggest") -> CycleOutcome:
    record = loop.decisions.get(decision)
    model = load_latest_model(loop)
    summary = DecisionSummary(id=decision, action=action, reasons=record.reasons)
    seen = MonitoringOutcome(
        model=model, source="log", simulated=False, n=500, drift=record.observation.drift, share_of_drifted_columns=0.9,
        estimate=None, labelled=None, decision=summary, files=(),
    )  # fmt: skip
    return CycleOutcome(monitoring=seen, mode=mode, act="none", reasons=("suggested",), outcome=None, champion=model.version)


def test_the_watch_takes_turns_until_it_is_ended(loop: Workspace, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    ended, taken = threading.Event(), []

    def run_cycle() -> CycleOutcome:
        taken.append(keep(loop, "nothing", by=str(len(taken))))
        return outcome(loop, taken[-1].id, "nothing")

    for _ in watch.watch(loop, run_cycle, timedelta(seconds=0.02), 500, ended):
        if len(taken) == 3:
            ended.set()
    assert len(taken) == 3
    assert "starting a cycle: watch started" in caplog.text


def test_the_watch_prunes_beside_its_turns_once_a_day_and_goes_on_if_that_fails(
    loop: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    ended, pruned, taken = threading.Event(), [], []

    def fail(*values: object) -> None:
        pruned.append(threading.current_thread().name)
        raise DataError("the disk is full", "Free some space")

    def run_cycle() -> CycleOutcome:
        taken.append(keep(loop, "nothing", by=str(len(taken))))
        return outcome(loop, taken[-1].id, "nothing")

    monkeypatch.setattr(pruning, "KINDS", (fail,))
    for _ in watch.watch(loop, run_cycle, timedelta(seconds=0.02), 500, ended):
        if len(taken) > 2 and pruned and not due.is_due(loop):
            ended.set()
    for thread in [each for each in threading.enumerate() if each.name == "retention"]:
        thread.join(60)
    assert pruned == ["retention"]
    assert "not everything was pruned: the disk is full. Free some space." in caplog.text


def test_a_turn_that_another_watcher_has_is_left_to_it(loop: Workspace):
    ended, tried = threading.Event(), []

    def run_cycle() -> CycleOutcome:
        tried.append(len(tried))
        if len(tried) == 2:
            ended.set()
        raise LeaseTaken("host-b process 7 holds the lease", "Wait for it")

    assert list(watch.watch(loop, run_cycle, timedelta(seconds=0.02), 500, ended)) == []
    assert tried == [0, 1]


def test_what_fails_again_in_the_same_way_is_logged_once(loop: Workspace, caplog: pytest.LogCaptureFixture):
    ended, holders = threading.Event(), ["host-b", "host-b", "host-c", "host-c", "host-b"]

    def run_cycle() -> CycleOutcome:
        holder = holders.pop(0)
        if not holders:
            ended.set()
        raise LeaseTaken(f"{holder} holds it", "Wait for it")

    caplog.set_level(logging.INFO)
    assert list(watch.watch(loop, run_cycle, timedelta(seconds=0.02), 500, ended)) == []
    said = [record.message.split(" holds")[0] for record in caplog.records if "holds it" in record.message]
    assert said == ["host-b", "host-c", "host-b"]


def test_a_watcher_takes_up_a_request_from_another_process(loop: Workspace):
    ended, taken = threading.Event(), []

    def run_cycle() -> CycleOutcome:
        taken.append(keep(loop, "nothing", by=str(len(taken))))
        return outcome(loop, taken[-1].id, "nothing")

    def ask() -> None:
        watch.request(Workspace(loop.settings), "look now", datetime.now(NOON.tzinfo))

    watch.POLL, before = 0.05, watch.POLL
    try:
        for _ in watch.watch(loop, run_cycle, timedelta(days=1), 500, ended):
            ask() if len(taken) == 1 else ended.set()
    finally:
        watch.POLL = before
    assert len(taken) == 2


def logged(loop: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    sent: list[dict] = []
    monkeypatch.setattr(
        notification.webhook, "post", lambda url, content, hosts, *rest: sent.append({**content, "hosts": hosts, "rest": rest})
    )
    return sent


def test_a_decision_is_told_once_and_nothing_is_told_of_nothing(loop: Workspace, tmp_path, monkeypatch):
    listened = branch(
        loop,
        tmp_path / "listened",
        notify_webhook_url="http://hooks.example/x",
        notify_allowed_hosts="hooks.example, b.example",
    )
    sent = logged(listened, monkeypatch)
    for by, action in (("1", "nothing"), ("2", "retrain"), ("3", "retrain"), ("4", "nothing"), ("5", "retrain")):
        record = keep(listened, action, by=by)
        notification.notify(listened, outcome(listened, record.id, action))
    assert [each["decision"] for each in sent] == ["retrain-2", "retrain-5"]
    assert sent[0]["hosts"] == ["hooks.example", "b.example"]
    assert [each["rest"] for each in sent] == [("retrain-2.retrain", ""), ("retrain-5.retrain", "")]
    assert (sent[0]["action"], sent[0]["reasons"], sent[0]["mode"]) == ("retrain", ["because"], "suggest")


def test_the_mode_manual_tells_nobody_outside(loop: Workspace, tmp_path, monkeypatch):
    listened = branch(loop, tmp_path / "listened", notify_webhook_url="http://hooks.example/x")
    sent = logged(listened, monkeypatch)
    told = notification.notify(listened, outcome(listened, keep(listened, "retrain").id, "retrain", "manual"))
    assert told == notification.Delivery()
    assert sent == []


def test_a_webhook_that_is_not_allowed_costs_a_log_line_and_no_more(loop: Workspace, tmp_path, caplog):
    listened = branch(loop, tmp_path / "listened", notify_webhook_url="http://169.254.169.254/x?key=s3cret")
    told = notification.notify(listened, outcome(listened, keep(listened, "retrain").id, "retrain"))
    assert (told.sent, told.waiting) == (0, 1)
    assert "is not in NOTIFY_ALLOWED_HOSTS" in caplog.text
    assert "s3cret" not in caplog.text
