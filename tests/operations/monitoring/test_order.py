"""What came before what is told by the database, whatever clocks said and say."""

import threading
from datetime import UTC, datetime, timedelta

import pandas
import pytest
from test_history import NOON, reasons, record, times
from test_watch import outcome

from openmlops.adapters.decisions import Basis, DecisionRecord, Outcome
from openmlops.adapters.progress import Progress
from openmlops.core.monitoring.drift import DriftReport
from openmlops.core.monitoring.policy import Observation
from openmlops.errors import DataError, LeaseTaken, ServiceUnavailable
from openmlops.operations.monitoring import monitor, watch
from openmlops.operations.monitoring.history import actions_of, basis_of, history_of, span_of
from openmlops.operations.monitoring.windows import collect_inference_data, load_latest_model
from openmlops.operations.workspace import Workspace
from small_loop import fresh_images, send

HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
NO_REPORT = monitor.EvidentlyReport(problems=("none",))


def looked(windows: list[tuple[int, datetime]]) -> list[DecisionRecord]:
    """Windows of 100 predictions that begin at these sequence numbers, logged by a clock that said this."""
    seen: list[DecisionRecord] = []
    for number, (first, at) in enumerate(windows):
        rows = range(first, first + 100)
        span = span_of([at + timedelta(seconds=row) for row in range(100)], "log", seen, 1)
        seen.append(record(str(number), span, basis=basis_of(1, rows, span, seen, 1)))
    return seen


def test_a_window_of_a_clock_that_was_a_year_ahead_does_not_swallow_those_after_it():
    assert reasons(looked([(1, NOON + YEAR), (101, NOON), (201, NOON + HOUR)])) == ["0", "1", "2"]


def test_a_clock_that_was_set_back_between_two_windows_makes_two():
    assert reasons(looked([(1, NOON), (101, NOON - 2 * HOUR)])) == ["0", "1"]


@pytest.mark.parametrize(("second", "expected"), [(1, ["0"]), (51, ["0"]), (100, ["0"]), (101, ["0", "1"])])
def test_windows_that_share_a_row_are_one_observation(second: int, expected: list[str]):
    assert reasons(looked([(1, NOON), (second, NOON)])) == expected


@pytest.mark.parametrize(("start", "expected"), [(99, ["0"]), (100, ["0", "1"])])
def test_after_a_decision_of_an_earlier_release_times_tell_it_once_more(start: int, expected: list[str]):
    before = record("0", span_of(times(0), "log", [], 1))
    span = span_of(times(start), "log", [before], 1)
    assert reasons([before, record("1", span, basis=basis_of(1, range(500, 600), span, [before], 1))]) == expected


def acted(kind: str, at: datetime) -> DecisionRecord:
    return record(kind, action=kind).model_copy(update={"at": at, "outcome": Outcome(at=at, kind="started")})


def test_an_act_of_a_clock_that_was_a_year_ahead_is_as_old_as_the_next_decision():
    """Else its cooldown would last for a year."""
    later = [record(str(hour)).model_copy(update={"at": NOON + hour * HOUR}) for hour in (1, 2, 9)]
    (found,) = actions_of([acted("retrain", NOON + YEAR), *later])
    assert found.at == NOON + HOUR
    (kept,) = actions_of([acted("retrain", NOON), *later])
    assert kept.at == NOON


def test_an_observation_after_a_promotion_counts_though_the_clock_was_set_back(loop: Workspace):
    model = load_latest_model(loop)
    (promoted,) = loop.ledger.history(model.name)
    before = promoted.at - 2 * HOUR
    seen = Observation(
        at=before, version=1, drift=DriftReport(outcome="drift", reasons=("it",), reference="r", false_alarm_rate=0)
    )
    with_basis = record("a", observation=seen, basis=Basis(sequence=promoted.sequence)).model_copy(update={"at": before})
    without = with_basis.model_copy(update={"id": "b", "basis": None})
    assert history_of(loop, model, [with_basis], "log").observations == (seen,)
    assert history_of(loop, model, [with_basis], "log").champion.since == before
    assert history_of(loop, model, [without], "log").observations == ()


def test_drift_is_found_again_after_a_window_of_a_wrong_clock(loop: Workspace):
    """Two windows with drift, the first of them logged a year ahead."""
    model = load_latest_model(loop)
    decided = []
    for at, seed in ((datetime.now(UTC) + YEAR, 60), (datetime.now(UTC), 61)):
        send(loop, model, fresh_images(300, seed=seed)[0], at=at, corruption=("contrast", 4))
        window = collect_inference_data(loop, model, 300, "log", at)
        decided.append(monitor.trigger_decision(loop, window, NO_REPORT, at, "test", window.run))
    assert [each.basis.sequence for each in decided] == [1, 1]
    assert decided[0].action == "nothing"
    assert decided[1].reasons[0].startswith("2 of the last 2 windows raised an alarm")
    assert loop.decisions.get(window.run) == decided[1]


def test_each_run_has_a_folder_of_its_own_and_links_lead_to_the_last(loop: Workspace):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(100, seed=62)[0])
    windows = [collect_inference_data(loop, model, n, "log", NOON) for n in (50, 100)]
    assert [len(pandas.read_parquet(each.local(loop))) for each in windows] == [50, 100]
    for window in reversed(windows):
        found = monitor.trigger_decision(loop, window, NO_REPORT, datetime.now(UTC), "test", window.run)
        monitor.store_monitoring_artifacts(loop, window, NO_REPORT, found)
        assert window.folder(loop) == loop.monitoring / found.id
    assert (loop.monitoring / "monitoring.json").resolve() == (windows[0].folder(loop) / "monitoring.json").resolve()
    assert (loop.monitoring / "latest").resolve() == windows[0].folder(loop).resolve()


# Turns of the watch


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL", 0.01)


def turns(loop: Workspace, run_cycle, most: int) -> int:  # type: ignore[no-untyped-def]
    """How often a cycle was tried by a watcher whose schedule is a day, until so many tries or three looks without one."""
    ended, tried, looks = threading.Event(), [], []

    def run():  # type: ignore[no-untyped-def]
        tried.append(len(tried))
        looks.clear()
        if len(tried) == most:
            ended.set()
        return run_cycle(len(tried))

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            looks.append(timeout)
            if len(looks) > 3:
                ended.set()
            return ended.is_set()

        def is_set(self) -> bool:
            return ended.is_set()

    for _ in watch.watch(loop, run, timedelta(days=1), 500, Ended()):
        pass
    return len(tried)


def kept(loop: Workspace, by: str = "cycle 1"):  # type: ignore[no-untyped-def]
    drift = DriftReport(outcome="no_drift", reasons=("still",), reference="r", false_alarm_rate=0.01)
    name, seen = f"{by} {loop.decisions.newest(loop.model_name)}", Observation(at=NOON, version=1, drift=drift)
    made = record(name, observation=seen).model_copy(update={"model": loop.model_name, "by": by})
    loop.decisions.append(made)
    return outcome(loop, made.id, "nothing")


@pytest.mark.parametrize("error", [LeaseTaken("another holds it", ""), ServiceUnavailable("away", ""), DataError("bad", "")])
def test_a_turn_that_did_not_succeed_is_tried_again_and_one_that_did_is_not(loop: Workspace, soon, error: Exception):
    def run_cycle(number: int):  # type: ignore[no-untyped-def]
        if number < 3:
            raise error
        return kept(loop)

    assert turns(loop, run_cycle, 5) == 3


def test_what_another_watcher_heard_is_left_to_it(loop: Workspace, soon):
    def run_cycle(number: int):  # type: ignore[no-untyped-def]
        if number == 1:
            watch.request(loop, "look now", datetime.now(UTC))
            return kept(loop)
        kept(loop, "cycle of another")
        loop.progress.move(f"{watch.REQUESTS}{loop.model_name}", loop.decisions.newest(loop.model_name))
        raise LeaseTaken("another holds it", "")

    assert turns(loop, run_cycle, 5) == 2


def test_a_turn_of_another_watcher_counts_and_a_look_of_a_person_does_not(loop: Workspace):
    kept(loop)
    last = watch.current_state(loop, NOON)
    kept(loop, "a person")
    watch.request(loop, "look now", NOON)
    assert watch.current_state(loop, NOON, last).turn == last.turn
    kept(loop, "cycle 2")
    assert watch.current_state(loop, NOON, last).turn == last.turn + 3


@pytest.mark.parametrize("ago", [timedelta(seconds=5), YEAR, -YEAR])
def test_a_request_is_heard_once_whatever_the_clock_of_who_made_it(loop: Workspace, soon, ago: timedelta):
    def run_cycle(number: int):  # type: ignore[no-untyped-def]
        if number == 1:
            watch.request(loop, "look now", datetime.now(UTC) - ago)
        return kept(loop)

    assert turns(loop, run_cycle, 5) == 2


def test_a_request_that_arrives_while_a_cycle_runs_is_heard_by_the_next_that_succeeds(loop: Workspace, soon):
    def run_cycle(number: int):  # type: ignore[no-untyped-def]
        if number == 1:
            watch.request(loop, "look now", datetime.now(UTC))
        if number == 2:
            raise ServiceUnavailable("away", "")
        return kept(loop)

    assert turns(loop, run_cycle, 5) == 3


def test_the_schedule_goes_on_though_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch):
    ahead = [0.0]
    monkeypatch.setattr(watch, "uptime", lambda: ahead[0])
    clock = watch._SteadyClock()
    first = clock.now()
    ahead[0] = 3600.0
    assert clock.now() - first == HOUR


def test_a_position_only_grows(loop: Workspace):
    progress = Progress(loop.engine)
    assert progress.position("x") == 0
    for position in (3, 7, 5):
        progress.move("x", position)
    assert (progress.position("x"), progress.position("y")) == (7, 0)
