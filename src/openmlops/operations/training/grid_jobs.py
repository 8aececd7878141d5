"""The processes of a grid's runs: started, listened to, ended with whoever asked, and what ends badly made a failed row.

What is not here: which runs there are and which is the best (`grid`), and what one of them does (`grid_run`).
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from openmlops.core.quality import DetectionEvaluation
from openmlops.core.types import SplitsRef, TrainedRef, Value
from openmlops.errors import ServiceUnavailable
from openmlops.files import write_text
from openmlops.operations.run_leases import run_lease
from openmlops.operations.training import train
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

PARENT_TAG = "mlflow.parentRunId"
"""how MLflow's pages know that a run is one of a grid"""
TERMINATION_SECONDS, POLL_SECONDS = 10, 1
EXIT_UNAVAILABLE = 75
"""exit code of a run that a service stayed away from: no failure, it can go on (EX_TEMPFAIL)"""


class RunResult(Value):
    """What one run came to; `answers` is the file of its validation answers. A failed one has only a reason."""

    config: dict[str, Any]
    run_id: str = ""
    reason: str = ""
    trained: TrainedRef | None = None
    validation: DetectionEvaluation | None = None
    test: DetectionEvaluation | None = None
    predictions: str = ""

    @property
    def score(self) -> float:
        """What runs are selected by: mAP@50 on validation."""
        return self.validation.map50.value if self.validation else -1.0


def run_all(waiting: "list[GridJob]", folder: Path, parent: str, jobs: int) -> list[RunResult]:
    """Run them, `jobs` at once. When this process is interrupted they end with it, and go on when the grid is given again."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="grid") as pool:
        names = [f"{number}/{len(waiting)}" for number in range(1, len(waiting) + 1)]
        futures = [pool.submit(job.run, folder, parent, jobs, name) for job, name in zip(waiting, names, strict=True)]
        try:
            while (state := wait(futures, POLL_SECONDS, FIRST_EXCEPTION)).not_done:  # and hear a signal that another thread got
                for done in state.done:
                    done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for job in waiting:
                job.end()
            raise
    return [done.result() for done in futures]


class GridJob:
    """One run of the grid: a training that is named by all that decides its weights."""

    def __init__(self, workspace: Workspace, splits: SplitsRef, preprocessing: Any, config: dict[str, Any]) -> None:
        self.workspace, self.splits, self.config = workspace, splits, config
        chosen = workspace.use_case.config(**config)
        self.key = train.training_key(workspace, splits, preprocessing, chosen)
        self.process: subprocess.Popen[str] | None = None
        self.ended = False
        self.start_id = uuid.uuid4().hex
        self.note = workspace.home / "trainings" / self.key[:16] / "run_id"

    def result_file(self, folder: Path) -> Path:
        return folder / f"{self.key[:16]}.json"

    def read(self, folder: Path) -> RunResult | None:
        """What this run came to, if it ended well before."""
        path = self.result_file(folder)
        try:
            return RunResult.model_validate_json(path.read_bytes()) if path.exists() else None
        except ValidationError:  # written by another version of this package
            return None

    def run(self, folder: Path, parent: str, jobs: int, number: str) -> RunResult:
        """Train in a process of its own. A failure of whatever kind becomes the result's reason, but a service that stayed
        away: that raises ServiceUnavailable, and the run goes on when the grid is given again.
        """
        say(f"run {number}  {self.shown}")
        request = {
            "use_case": self.workspace.settings.use_case,
            "splits": self.splits.model_dump(mode="json"),
            "config": self.config,
            "key": self.key,
            "parent": parent,
            "jobs": jobs,
            "result": str(self.result_file(folder)),
        }
        command = [sys.executable, "-m", "openmlops.operations.training.grid_run"]
        with _running(command) as self.process:
            process = self.process
            if self.ended:
                process.kill()
            assert process.stdin is not None
            assert process.stderr is not None
            with suppress(BrokenPipeError):  # it ended at once: its exit code says so
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()  # and left open: the run ends when this process does
            reason = _forward_output(process.stderr, f"run {number}")
            code = process.wait()
        if self.ended:
            return RunResult(config=self.config, reason="interrupted")
        if code == 0 and (found := self.read(folder)) is not None:
            return found
        if code == EXIT_UNAVAILABLE:
            raise ServiceUnavailable(reason, "Give the same command again: it goes on where it was")
        reason = reason or f"its process ended with the exit code {code}"
        say(f"failed  {self.shown}: {reason}".replace("[", "\\["))
        return RunResult(config=self.config, reason=reason)

    @property
    def shown(self) -> str:
        return "  ".join(f"{name} {value}" for name, value in self.config.items() if value is not None)

    def end(self) -> None:
        """End the process, if there is one, now or in a moment. Its run stays open and its checkpoint where it is."""
        self.ended = True
        if self.process is not None:
            self.process.kill()

    def close(self, workspace: Workspace, result: RunResult, parent: str) -> RunResult:
        """Close the run that a process that failed may have left open; one that failed before it had a run gets one."""
        with run_lease(workspace, self.start_id):
            run_id = self._own_run_id(workspace, parent) or self._new_run(workspace, parent)
            if workspace.tracking.run_is_open(run_id):
                workspace.tracking.fail(run_id, result.reason)
        return result.model_copy(update={"run_id": run_id})

    def _own_run_id(self, workspace: Workspace, parent: str) -> str:
        """The run of this training, if it is one of this grid's: what somebody else trains is not ours to close."""
        noted = self.note.read_text() if self.note.exists() else ""
        return noted if noted and workspace.tracking.tags(noted).get(PARENT_TAG) == parent else ""

    def _new_run(self, workspace: Workspace, parent: str) -> str:
        tags = {"openmlops.use_case": workspace.use_case.name, "openmlops.splits": self.splits.fingerprint}
        run_id = workspace.tracking.start(workspace.model_name, self.config, {**tags, PARENT_TAG: parent}, self.start_id)
        if not (self.note.exists() and workspace.tracking.run_is_open(self.note.read_text())):
            write_text(self.note, run_id)
        return run_id


def _forward_output(lines: IO[str], prefix: str) -> str:
    """Pass on what a run says; its error, if it says one."""
    reason = ""
    for line in map(str.strip, lines):
        if line.startswith("error: "):
            reason = line.removeprefix("error: ")
        elif line:
            say(f"{prefix}  {line}".replace("[", "\\["))
    return reason


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(TERMINATION_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
