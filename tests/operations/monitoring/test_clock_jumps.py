"""The clock jumps by an hour back and a day forward while the watcher works: no cycle is doubled, and none is skipped."""

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from filled_log import MODEL, promote, workspace
from mlflow_tables import with_tables
from openmlops.adapters.decisions import DecisionRecord, requested
from openmlops.operations.monitoring import watch
from openmlops.operations.monitoring.cycle import CYCLE
from openmlops.operations.workspace import Workspace

pytestmark = pytest.mark.slow

JUMPS = 200
EVERY = timedelta(minutes=1)
START = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
"""half an hour before summer time ends in Europe"""


class Machine:
    """A machine whose uptime goes on, whose clock jumps, and on which somebody asks for a cycle now and then."""

    def __init__(self, found: Workspace, seed: int) -> None:
        self.found, self.draw = found, random.Random(seed)
        self.uptime, self.offset, self.jumps, self.asked = 0.0, timedelta(), 0, 0
        self.pending = False
        self.expected: list[float] = []
        self.cycles: list[float] = []
        self.ended = threading.Event()

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.uptime) + self.offset

    def wait(self, seconds: float) -> bool:
        """The time between two looks. What is due at the next one is known here, by uptime alone."""
        self.uptime += seconds
        if self.draw.random() < 0.3:
            self.jumps += 1
            self.offset += self.draw.choice((timedelta(hours=-1), timedelta(days=1), timedelta(seconds=-self.draw.random())))
        if self.draw.random() < 0.05:
            self.asked += 1
            self.found.decisions.append(requested(MODEL, 1, f"look {self.asked}", by="a person", now=self.clock()))
            self.pending = True
        if self.pending or self.uptime - self.expected[-1] >= EVERY.total_seconds():
            self.expected.append(self.uptime)
            self.pending = False
        if self.jumps >= JUMPS:
            self.ended.set()
        return self.ended.is_set()

    def cycle(self) -> None:
        """What a cycle leaves: a decision, with the time that the clock shows."""
        if not self.expected:
            self.expected.append(self.uptime)
        self.cycles.append(self.uptime)
        name, now = f"{len(self.cycles):012x}", self.clock()
        record = DecisionRecord(id=name, model=MODEL, version=1, at=now, action="nothing", reasons=("quiet",), by=CYCLE)
        self.found.decisions.append(record)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_cycle_is_doubled_or_skipped_over_200_jumps(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tables(tmp_path / "state" / "mlflow.db")
    found = workspace(tmp_path, MODEL_NAME=MODEL)
    promote(found, 1)
    machine = Machine(found, seed)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return machine.clock()

    monkeypatch.setattr(watch, "datetime", Clock)
    monkeypatch.setattr(watch, "uptime", lambda: machine.uptime)
    monkeypatch.setattr(watch, "is_due", lambda workspace: False)
    monkeypatch.setattr(watch, "notify", lambda workspace, outcome: None)
    monkeypatch.setattr(machine.ended, "wait", machine.wait)
    for _ in watch.watch(found, machine.cycle, EVERY, window=1000, ended=machine.ended):
        pass
    expected = [at for at in machine.expected if at <= machine.cycles[-1] or at < machine.uptime]
    assert machine.jumps >= JUMPS
    assert machine.asked > 10
    assert machine.cycles == expected
    assert watch._requests(found).reasons == () or machine.pending or machine.expected[-1] == machine.uptime
