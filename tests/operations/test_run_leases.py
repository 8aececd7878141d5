"""A run whose process died is closed, with a reason; one whose process lives never is, or not for long."""

import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.entities import Run
from sqlalchemy import Connection, event

from openmlops.adapters.leases import Leases
from openmlops.adapters.mlflow_client import connect
from openmlops.adapters.processes import Process
from openmlops.adapters.tracking import ABANDONED_TAG, FAILURE_TAG
from openmlops.core.quality import EpochMetrics
from openmlops.operations.run_leases import GRACE, LEASE, PREFIX, close_orphans, hold_run, next_start, run_lease
from openmlops.operations.training.epoch_log import EpochLog
from openmlops.operations.workspace import Workspace
from small_loop import workspace as small_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return small_workspace(tmp_path_factory.mktemp("runs"))


def run_of(workspace: Workspace, run_id: str) -> Run:
    return connect(workspace.settings.tracking_uri).get_run(run_id)


def state(workspace: Workspace, run_id: str) -> tuple[str, str]:
    """Status, and why it failed."""
    run = run_of(workspace, run_id)
    return run.info.status, run.data.tags.get(FAILURE_TAG, "")


def started_by(workspace: Workspace, holder: Process | None, ago: timedelta = timedelta()) -> str:
    """An open run, held by `holder` who was last heard of some time ago."""
    once = uuid.uuid4().hex
    if holder is not None:
        leases = Leases(workspace.engine, lambda: datetime.now(UTC) - ago)
        leases.seize(PREFIX + once, holder.model_dump_json(), LEASE)
    return workspace.tracking.start("orphan", {}, {}, once)


def dead() -> Process:
    """A process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return Process.this().model_copy(update={"pid": ended.pid, "started": 12})


def test_the_run_of_a_dead_process_is_closed_as_failed_with_the_reason_and_can_be_gone_on_with(workspace: Workspace) -> None:
    process = dead()
    run_id = started_by(workspace, process)
    assert close_orphans(workspace) == (run_id,)
    status, reason = state(workspace, run_id)
    assert status == "FAILED"
    assert reason == f"Its process {process.pid} on {process.host} ended without closing it. Run the same command to resume it."
    assert close_orphans(workspace) == ()
    assert workspace.tracking.can_go_on(run_id)
    with hold_run(workspace, run_id):
        assert state(workspace, run_id) == ("RUNNING", "")
    workspace.tracking.finish(run_id)
    assert state(workspace, run_id) == ("FINISHED", "")
    assert ABANDONED_TAG not in run_of(workspace, run_id).data.tags


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"started": Process.this().started + 1}, id="its number was given to another process"),
        pytest.param({"pid": 2**22 + 1}, id="no such process"),
    ],
)
def test_a_process_is_known_by_more_than_its_number(workspace: Workspace, other: dict) -> None:
    run_id = started_by(workspace, Process.this().model_copy(update=other))
    assert close_orphans(workspace) == (run_id,)


def test_a_process_that_ended_counts_as_dead_before_its_parent_has_asked(workspace: Workspace) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        started = int(stat.read_text().rpartition(")")[2].split()[19])
        process = Process.this().model_copy(update={"pid": child.pid, "started": started})
        assert process.is_dead is False
        child.kill()
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert process.is_dead


def test_the_run_of_a_living_process_is_never_closed_however_long_its_database_was_away(workspace: Workspace) -> None:
    run_id = started_by(workspace, Process.this(), ago=timedelta(days=1))
    assert close_orphans(workspace) == ()
    assert state(workspace, run_id) == ("RUNNING", "")


def test_a_process_of_another_machine_is_dead_when_its_lease_ran_out_a_while_ago(workspace: Workspace) -> None:
    elsewhere = Process(host="elsewhere", pid=1, machine="another boot", started=5)
    silent = started_by(workspace, elsewhere, ago=LEASE + GRACE + timedelta(seconds=1))
    recent = started_by(workspace, elsewhere, ago=LEASE + GRACE - timedelta(seconds=20))
    assert close_orphans(workspace) == (silent,)
    assert "Its process 1 on elsewhere has sent no heartbeat since" in state(workspace, silent)[1]
    assert state(workspace, recent) == ("RUNNING", "")
    for lease in workspace.leases.named(PREFIX):
        workspace.leases.forget(lease)  # before it has run out for long enough


def test_where_processes_cannot_be_told_apart_only_the_lease_counts(workspace: Workspace) -> None:
    unknown = Process(host="a mac", pid=1)
    assert unknown.is_dead is None
    assert close_orphans(workspace) == ()


def test_runs_that_nobody_said_to_hold_are_left_alone(workspace: Workspace) -> None:
    """Made by older versions, or by other programs."""
    run_id = started_by(workspace, None)
    assert close_orphans(workspace) == ()
    assert state(workspace, run_id) == ("RUNNING", "")


def test_finished_and_failed_runs_stay_as_they_are(workspace: Workspace) -> None:
    finished, failed = started_by(workspace, dead()), started_by(workspace, dead())
    workspace.tracking.finish(finished)
    workspace.tracking.fail(failed, "the loss is nan")
    assert close_orphans(workspace) == ()
    assert (state(workspace, finished), state(workspace, failed)) == (("FINISHED", ""), ("FAILED", "the loss is nan"))
    assert not workspace.tracking.can_go_on(failed)


def test_a_run_that_was_closed_wrongly_is_opened_again_by_its_own_process(workspace: Workspace, tmp_path: Path) -> None:
    """The database was away for so long that another machine took this one for dead."""
    once = uuid.uuid4().hex
    with run_lease(workspace, once):
        run_id, epochs = workspace.tracking.start("alive", {}, {}, once), EpochLog(workspace.tracking, tmp_path)
        epochs.send_to(run_id)
        workspace.tracking.abandon(once, "not heard of")
        epochs.add(EpochMetrics(epoch=1, loss=1.0, learning_rate=0.1, seconds=1.0))
        deadline = time.monotonic() + 120
        while state(workspace, run_id)[0] != "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.05)
    assert state(workspace, run_id) == ("RUNNING", "")
    assert ABANDONED_TAG not in run_of(workspace, run_id).data.tags


def test_a_start_that_was_killed_goes_on_with_its_run_also_after_that_was_closed(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), next_start(tmp_path) as once:
        first = workspace.tracking.start("killed", {}, {}, once)
        raise KeyboardInterrupt
    workspace.tracking.abandon(once, "ended")
    with next_start(tmp_path) as again:
        second = workspace.tracking.start("killed", {}, {}, again)
    assert (again, second) == (once, first)
    assert state(workspace, first) == ("RUNNING", "")
    with next_start(tmp_path) as other:
        assert other != once


def test_looking_for_orphans_is_one_query_while_trainings_run(workspace: Workspace) -> None:
    for _ in range(10):
        started_by(workspace, Process.this())
    asked: list[str] = []

    def remember(connection: Connection, cursor: object, statement: str, *more: object) -> None:
        asked.append(statement)

    event.listen(workspace.engine, "before_cursor_execute", remember)
    assert close_orphans(workspace) == ()
    event.remove(workspace.engine, "before_cursor_execute", remember)
    assert [statement.split()[0] for statement in asked] == ["BEGIN", "SELECT"]
