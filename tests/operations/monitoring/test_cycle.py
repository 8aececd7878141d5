"""One turn of the loop: what the mode allows, done once, and what came of it is kept."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from openmlops.adapters.decisions import DecisionRecord
from openmlops.core.monitoring.drift import DriftReport
from openmlops.core.monitoring.policy import Champion, History, Labels, Observation, Policy, decide
from openmlops.core.types import Interval
from openmlops.errors import DataError, LeaseTaken
from openmlops.operations.data import datasets
from openmlops.operations.monitoring import cycle
from openmlops.operations.monitoring.history import actions_of, observations_of, records_of
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.release import promotion
from openmlops.operations.workspace import Workspace
from small_loop import NOON, branch, fresh_images, label, send, train

DRIFT = DriftReport(outcome="drift", reasons=("it moved",), reference="r", false_alarm_rate=0.01, n=500)


def keep(loop: Workspace, action: str, by: str = "test", at: datetime = NOON) -> DecisionRecord:
    version = loop.ledger.champion(loop.model_name)
    record = DecisionRecord(
        id=f"{action}-{by}", model=loop.model_name, version=version, at=at, action=action, reasons=("because",), by=by,
        observation=Observation(at=at, version=version, drift=DRIFT),
    )  # fmt: skip
    loop.decisions.append(record)
    return record


@pytest.mark.parametrize("mode", ["manual", "suggest"])
def test_only_the_mode_auto_acts(loop: Workspace, mode: str):
    record = keep(loop, "retrain")
    planned = cycle.plan(loop, "test", mode, NOON)
    assert (planned.act, planned.reasons) == ("none", (f"retrain is suggested; mode {mode} takes no action",))
    assert loop.decisions.get(record.id).outcome is None


@pytest.mark.parametrize("action", ["nothing", "not_measurable", "collect_labels"])
def test_what_asks_for_no_act_of_ours_starts_none(loop: Workspace, action: str):
    keep(loop, action)
    assert cycle.plan(loop, "test", "auto", NOON).act == "none"


def test_a_turn_acts_on_its_own_decision_only(loop: Workspace):
    keep(loop, "retrain", by="another turn")
    keep(loop, "nothing", by="mine")
    assert cycle.plan(loop, "mine", "auto", NOON).act == "none"


def test_a_retraining_that_has_begun_is_in_the_history_at_once(loop: Workspace):
    keep(loop, "retrain")
    assert cycle.plan(loop, "test", "auto", NOON).act == "retrain"
    assert [(action.kind, action.outcome) for action in actions_of(records_of(loop, loop.model_name))] == [("retrain", None)]


def test_an_act_that_fails_is_closed_as_failed_with_the_reason(loop: Workspace):
    record = keep(loop, "retrain")
    with pytest.raises(ZeroDivisionError), cycle.cycle_lease(loop) as held, cycle.failing_started_acts(loop, held):
        cycle.plan(loop, "test", "auto", NOON)
        raise ZeroDivisionError("by zero")
    outcome = loop.decisions.get(record.id).outcome
    assert (outcome.kind, outcome.reasons) == ("failed", ("ZeroDivisionError: by zero",))


def test_an_act_that_a_killed_process_had_begun_is_closed_by_the_next_turn(loop: Workspace):
    record = keep(loop, "retrain")
    cycle.plan(loop, "test", "auto", NOON)
    with cycle.cycle_lease(loop):
        assert loop.decisions.get(record.id).outcome.kind == "failed"


def test_while_one_process_has_the_turn_no_other_gets_it(loop: Workspace):
    with (
        cycle.cycle_lease(loop),
        pytest.raises(LeaseTaken, match="holds the lease 'cycle/cifar10_cnn'"),
        cycle.cycle_lease(loop),
    ):
        pytest.fail("two had the turn")


def test_without_a_usable_label_the_decision_says_so_and_stays_closed(loop: Workspace):
    record = keep(loop, "retrain")
    planned = cycle.plan(loop, "test", "auto", NOON)
    with cycle.cycle_lease(loop) as held, pytest.raises(DataError), cycle.failing_started_acts(loop, held):
        loop.decisions.outcome(record.id, cycle.Outcome(at=NOON, kind="started"))
        cycle.add_new_data(loop, planned)
    assert loop.decisions.get(record.id).outcome.kind == "no_data"


def test_a_retraining_ends_with_the_gates_verdict_and_used_labels(loop: Workspace):
    record, model = keep(loop, "retrain"), load_latest_model(loop)
    images, labels = fresh_images(400, seed=40)
    label(loop, send(loop, model, images, corruption=("contrast", 4)), labels)
    planned = cycle.plan(loop, "test", "auto", NOON)
    new = cycle.add_new_data(loop, planned)
    challenger, trained = train(loop, seed=2, steps=60)
    entry = promotion.decide(loop, challenger, trained.splits)
    outcome = cycle.conclude(loop, planned, new)
    assert (outcome.kind, outcome.version) == (entry.verdict.outcome, challenger.version)
    assert loop.decisions.get(record.id).outcome == outcome
    assert {compared.name for compared in entry.verdict.comparisons} == {"holdout", "fresh"}
    assert loop.labelled_inputs.count_new(loop.model_name) == 0
    assert (trained.splits.dataset.fingerprint, challenger.dataset) == (new.dataset.fingerprint, new.dataset.fingerprint)
    used = cycle.training_config(loop)
    assert used == loop.use_case.config(**used).model_dump()
    assert datasets.ingest(loop).rows == 4200 + new.added


def test_a_rollback_names_its_decision_in_the_ledger(loop: Workspace):
    second, trained = train(loop, seed=3, steps=60)
    promotion.promote(loop, f"{second.name}/{second.version}", "to have somewhere to go back from", trained.splits, force=True)
    record = keep(loop, "roll_back")
    planned = cycle.plan(loop, "test", "auto", NOON)
    entry = cycle.roll_back(loop, planned)
    assert (planned.act, entry.champion, entry.kind) == ("roll_back", 1, "rollback")
    assert f"decision {record.id}" in entry.reasons[0]
    assert cycle.roll_back(loop, planned) == entry == loop.ledger.head(loop.model_name)  # as after an outage
    assert loop.decisions.get(record.id).outcome.kind == "rolled_back"


def rounds_of_eight(reigning: Workspace, folder: Path, rounds: int) -> list[int]:
    """Retrainings in each round, a day apart, when eight watchers see the same two alarming windows at once."""
    first = branch(reigning, folder)
    watchers = [first, *(Workspace(first.settings) for _ in range(7))]
    champion = Champion(version=1, since=NOON, accuracy=Interval(value=0.9, low=0.88, high=0.92))
    ready = threading.Barrier(8)

    def watch(number: int, day: int) -> int:
        loop, now = watchers[number], NOON + timedelta(days=day, seconds=1)
        ready.wait()
        try:
            with cycle.cycle_lease(loop):
                records = records_of(loop, loop.model_name)
                past = History(
                    champion=champion,
                    observations=(*observations_of(records, "log"), Observation(at=now, version=1, drift=DRIFT)),
                    actions=actions_of(records),
                )
                decided = decide(Policy(alarmed_windows=1), past, Labels(new=500), now)
                by = f"watcher {number} day {day}"
                keep(loop, decided.action, by, now)
                planned = cycle.plan(loop, by, "auto", now)
                if planned.act != "retrain":
                    return 0
                loop.decisions.outcome(planned.decision, cycle.Outcome(at=now, kind="inconclusive", version=2))
                return 1
        except LeaseTaken:
            return 0

    with ThreadPoolExecutor(8) as pool:
        return [sum(pool.map(watch, range(8), [day] * 8)) for day in range(rounds)]


def test_eight_watchers_at_once_retrain_once_a_round(reigning: Workspace, tmp_path: Path):
    assert rounds_of_eight(reigning, tmp_path / "eight", 4) == [1] * 4


@pytest.mark.slow
def test_eight_watchers_at_once_retrain_once_a_round_in_a_hundred_rounds(reigning: Workspace, tmp_path: Path):
    assert rounds_of_eight(reigning, tmp_path / "eight", 100) == [1] * 100
