"""Cycles started on the console: child processes of the `openmlops` script, one at a time per model.

State is one file per model under OPENMLOPS_HOME/console, shared by all worker processes. A child outlives the console that
started it; its exit code is then unknown.
"""

import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from openmlops.core.types import Standing, Value, model_name
from openmlops.errors import LeaseTaken, one_line
from openmlops.files import PRIVATE_FOLDER, write_text

Mode = Literal["suggest", "auto"]
LAST_LINES = 12
KEPT_LOGS = 20
LOCK_SECONDS = 0.5
"""how long a start waits for processes that only check whether a cycle runs"""


class CycleRun(Value):
    """One cycle. `code` is its exit code; None while it runs, or if the console ended before it."""

    model: str
    mode: Mode
    started: datetime
    ended: datetime | None = None
    code: int | None = None
    log: str
    is_running: bool = False
    lines: tuple[str, ...] = ()


class CycleRuns:
    """The cycles of one home folder."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "console"

    def start(self, model: str, mode: Mode, seen: Standing | None = None) -> CycleRun:
        """Start a cycle, which ends without acting if another version is champion than its author saw. Raises LeaseTaken while
        one started here runs."""
        alone = self._lock(model)
        self._folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
        try:
            alone.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise LeaseTaken(f"A cycle of {model} is already running", "Wait until it ends") from None
        now = datetime.now(UTC)
        log = self._folder / f"{model}-{now:%Y%m%dT%H%M%S}.log"
        cycle_run = CycleRun(model=model, mode=mode, started=now, log=str(log))
        try:
            child = _start_process(log, mode, *(("--expect", str(seen)) if seen else ()))
            self._save(cycle_run)
            threading.Thread(target=self._follow, args=(cycle_run, child, alone), daemon=True).start()
        except BaseException:
            alone.release()
            raise
        self._prune_logs(model)
        return cycle_run.model_copy(update={"is_running": True})

    def last(self, model: str) -> CycleRun | None:
        """The cycle started last; None if there is none."""
        if not self._state(model).is_file():
            return None
        is_held = self._is_held(model)  # before reading the file: the follower writes the exit code, then releases the lock
        cycle_run = CycleRun.model_validate_json(self._state(model).read_bytes())
        is_running = cycle_run.code is None and is_held
        log = self._folder / Path(cycle_run.log).name  # where the home is now, wherever it was then
        return cycle_run.model_copy(update={"log": str(log), "is_running": is_running, "lines": _last_lines(log)})

    def _follow(self, cycle_run: CycleRun, child: subprocess.Popen, alone: FileLock) -> None:
        try:
            code = child.wait()
            self._save(cycle_run.model_copy(update={"code": code, "ended": datetime.now(UTC)}))
        finally:
            alone.release()

    def _save(self, cycle_run: CycleRun) -> None:
        write_text(self._state(cycle_run.model), cycle_run.model_dump_json(exclude={"is_running", "lines"}))

    def _prune_logs(self, model: str) -> None:
        its = re.compile(rf"{re.escape(model)}-\d{{8}}T\d{{6}}\.log")  # not those of a model whose name goes on with a hyphen
        for log in sorted(path for path in self._folder.iterdir() if its.fullmatch(path.name))[:-KEPT_LOGS]:
            log.unlink(missing_ok=True)

    def _is_held(self, model: str) -> bool:
        try:
            with self._lock(model).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _lock(self, model: str) -> FileLock:
        """A lock that another thread than the one that acquired it may release."""
        return FileLock(self._folder / f"{model_name(model)}.lock", thread_local=False, is_singleton=False)

    def _state(self, model: str) -> Path:
        return self._folder / f"{model_name(model)}.json"


def _start_process(log: Path, mode: Mode, *options: str) -> subprocess.Popen:
    """Start the script of this installation in its own session: Ctrl-C ends the console, not the training."""
    command = [str(Path(sys.executable).with_name("openmlops")), "cycle", "--mode", mode, *options]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _last_lines(log: Path) -> tuple[str, ...]:
    if not log.is_file():
        return ()
    with log.open("rb") as opened:
        opened.seek(max(0, log.stat().st_size - 16_384))
        text = opened.read().decode(errors="replace")
    lines = [one_line(line) for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return tuple(lines[-LAST_LINES:])
