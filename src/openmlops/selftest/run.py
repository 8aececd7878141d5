"""Runs the faults one after the other, each in a folder of its own, and gathers what they say."""

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from openmlops.core.types import Value
from openmlops.errors import one_line
from openmlops.selftest.faults import EXPECTED, FAULTS, Fault


class Row(Value):
    """One promise: what was done against it, whether it held, and what was counted."""

    promise: str
    fault: str
    holds: bool
    figure: str
    seconds: float


class Card(Value):
    """All of them, and the machine that they were tried on."""

    machine: str
    rows: tuple[Row, ...]
    seconds: float

    @property
    def broken(self) -> tuple[Row, ...]:
        """Those that did not hold."""
        return tuple(row for row in self.rows if not row.holds)


def run_faults(done: Callable[[int, int], None], faults: Sequence[Fault] = FAULTS) -> Card:
    """Inject every fault. `done` is called with how many are done, and of how many."""
    begun, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="openmlops-selftest-", ignore_cleanup_errors=True) as place:
        for number, fault in enumerate(faults):
            done(number, len(faults))
            (folder := Path(place) / str(number)).mkdir()
            rows.append(_row(fault, folder))
            shutil.rmtree(folder, ignore_errors=True)
    machine = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return Card(machine=machine, rows=tuple(rows), seconds=round(time.perf_counter() - begun, 1))


def _row(fault: Fault, folder: Path) -> Row:
    begun = time.perf_counter()
    try:
        figure, holds = fault.run(folder), True
    except EXPECTED as error:
        figure, holds = one_line(str(error)) or type(error).__name__, False
    seconds = round(time.perf_counter() - begun, 1)
    return Row(promise=fault.promise, fault=fault.fault, holds=holds, figure=figure, seconds=seconds)
