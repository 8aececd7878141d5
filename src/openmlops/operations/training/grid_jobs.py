"""The processes of the runs of a grid or a search: started, their output forwarded, terminated with the parent, failures turned
into results.

Not here: the list of runs and the selection (`grid`, `search`), and the work of one run (`grid_run`).
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from openmlops.core.quality import Evaluation
from openmlops.core.types import Content, SplitsRef, TrainedRef, Value
from openmlops.errors import ServiceUnavailable
from openmlops.files import write_text
from openmlops.operations.data import weights
from openmlops.operations.run_leases import run_lease
from openmlops.operations.training import train
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

PARENT_TAG = "mlflow.parentRunId"
"""MLflow's tag for the parent of a nested run"""
TERMINATION_SECONDS, POLL_SECONDS = 10, 1
EXIT_UNAVAILABLE = 75
"""exit code of a run that stopped because a service was unavailable: it can be resumed (EX_TEMPFAIL)"""


_PROGRESS = TypeAdapter(list[tuple[float, float]])


class RunResult(Value):
    """Result of one run; `predictions` is the file of its validation predictions, None in results of earlier releases. A failed
    or pruned run has `config`, `run_id` and `reason` only; a run of a search has `test` only if it was selected."""

    config: dict[str, Any]
    run_id: str = ""
    reason: str = ""
    trained: TrainedRef | None = None
    validation: Evaluation | None = Field(None, discriminator="kind")
    test: Evaluation | None = Field(None, discriminator="kind")
    predictions: Content | None = None
    pruned: bool = False

    @field_validator("predictions", mode="before")
    @classmethod
    def _without_place(cls, given: Any) -> Any:
        """Earlier releases wrote a path here."""
        return None if isinstance(given, str) else given

    @property
    def score(self) -> float:
        """The selection criterion: the score on the validation split, -1 for a failed run."""
        return self.validation.headline()[1].value if self.validation else -1.0

    @property
    def status(self) -> str:
        """`finished`, `failed` or `pruned`."""
        return "finished" if self.trained else "pruned" if self.pruned else "failed"


def run_all(waiting: "list[GridJob]", folder: Path, parent: str, jobs: int) -> list[RunResult]:
    """Run `jobs` processes in parallel. If this process is interrupted they are terminated, and resumed when the grid is run
    again. Raises ServiceUnavailable if a run stopped for it."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="grid") as pool:
        names = [f"{number}/{len(waiting)}" for number in range(1, len(waiting) + 1)]
        futures = [pool.submit(job.run, folder, parent, jobs, name) for job, name in zip(waiting, names, strict=True)]
        try:
            while (state := wait(futures, POLL_SECONDS, FIRST_EXCEPTION)).not_done:  # wakes up to handle signals
                for done in state.done:
                    done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for job in waiting:
                job.end()
            raise
    return [done.result() for done in futures]


def shown(config: Mapping[str, Any]) -> str:
    """Settings in one line, numbers with four digits."""
    given = {name: value for name, value in config.items() if value is not None}
    return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in given.items())


def predictions_file(result: Path) -> Path:
    """The file of a run's validation predictions, beside its result."""
    return result.with_suffix(".answers")


def progress_file(result: Path) -> Path:
    """The file of a run's validation scores, beside its result: [share of the training, score] for each epoch."""
    return result.with_suffix(".progress")


def read_progress(result: Path) -> list[tuple[float, float]]:
    """The scores so far; empty if there are none."""
    path = progress_file(result)
    return _PROGRESS.validate_json(path.read_bytes()) if path.exists() else []


class GridJob:
    """One run, identified by its training key. `tests`: whether it is evaluated on the test split too."""

    def __init__(
        self, workspace: Workspace, splits: SplitsRef, preprocessing: Any, config: dict[str, Any], tests: bool = True
    ) -> None:
        self.workspace, self.splits, self.config, self.tests = workspace, splits, config, tests
        chosen = workspace.use_case.config(**config)
        self.key = train.training_key(workspace, splits, preprocessing, chosen)
        self.process: subprocess.Popen[str] | None = None
        self.ended = False
        self.start_id = uuid.uuid4().hex
        self.note = workspace.home / "trainings" / self.key[:16] / "run_id"

    def result_file(self, folder: Path) -> Path:
        return folder / f"{self.key[:16]}.json"

    def read(self, folder: Path) -> RunResult | None:
        """The result of this run, if it completed before."""
        path = self.result_file(folder)
        try:
            found = RunResult.model_validate_json(path.read_bytes()) if path.exists() else None
        except ValidationError:  # written by another version of this package
            return None
        if found is None or found.trained is None:
            return found
        file = weights.place(self.workspace.home, found.trained.run_id)
        if not file.is_file():  # deleted after its retention
            return None
        trained = found.trained.model_copy(update={"splits": self.splits, "weights": weights.named(file)})
        predictions = found.predictions or self.workspace.contents.keep("predictions", predictions_file(path))
        return found.model_copy(update={"trained": trained, "predictions": predictions})

    def run(self, folder: Path, parent: str, jobs: int, number: str) -> RunResult:
        """Train in a subprocess. A failure becomes the result's reason, except for an unavailable service: that raises
        ServiceUnavailable, and the run is resumed when the grid is run again.
        """
        say(f"run {number}  {self.shown}")
        request = {
            "use_case": self.workspace.settings.use_case,
            "splits": self.splits.model_dump(mode="json"),
            "config": self.config,
            "key": self.key,
            "parent": parent,
            "jobs": jobs,
            "tests": self.tests,
            "result": str(self.result_file(folder)),
        }
        command = [sys.executable, "-m", "openmlops.operations.training.grid_run"]
        with _running(command) as self.process:
            process = self.process
            if self.ended:
                process.kill()
            assert process.stdin is not None
            assert process.stderr is not None
            with suppress(BrokenPipeError):  # the process has exited: see its exit code
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()  # left open: the run ends when this process does
            reason = _forward_output(process.stderr, f"run {number}")
            code = process.wait()
        if self.ended:
            return RunResult(config=self.config, reason="interrupted")
        if code == 0 and (found := self.read(folder)) is not None:
            return found
        if code == EXIT_UNAVAILABLE:
            raise ServiceUnavailable(reason, "Run the same command again to resume")
        reason = reason or f"its process ended with exit code {code}"
        say(f"failed  {self.shown}: {reason}")
        return RunResult(config=self.config, reason=reason)

    @property
    def shown(self) -> str:
        return shown(self.config)

    def end(self) -> None:
        """Kill the process, now or as soon as it has started. Its MLflow run stays open and its checkpoint is kept."""
        self.ended = True
        if self.process is not None:
            self.process.kill()

    def close(self, workspace: Workspace, result: RunResult, parent: str) -> RunResult:
        """Close the MLflow run of a failed or pruned process; create one if it failed before it had one."""
        with run_lease(workspace, self.start_id):
            run_id = self._own_run_id(workspace, parent) or self._new_run(workspace, parent)
            if workspace.tracking.run_is_open(run_id):
                (workspace.tracking.stop if result.pruned else workspace.tracking.fail)(run_id, result.reason)
        return result.model_copy(update={"run_id": run_id})

    def _own_run_id(self, workspace: Workspace, parent: str) -> str:
        """The recorded run id of this training, if the run belongs to this grid; else empty."""
        noted = self.note.read_text() if self.note.exists() else ""
        return noted if noted and workspace.tracking.tags(noted).get(PARENT_TAG) == parent else ""

    def _new_run(self, workspace: Workspace, parent: str) -> str:
        tags = {"openmlops.use_case": workspace.use_case.name, "openmlops.splits": self.splits.fingerprint}
        run_id = workspace.tracking.start(workspace.model_name, self.config, {**tags, PARENT_TAG: parent}, self.start_id)
        if not (self.note.exists() and workspace.tracking.run_is_open(self.note.read_text())):
            write_text(self.note, run_id)
        return run_id


def _forward_output(lines: IO[str], prefix: str) -> str:
    """Forward the output of a run, prefixed; returns its error line, if any."""
    reason = ""
    for line in map(str.strip, lines):
        if line.startswith("error: "):
            reason = line.removeprefix("error: ")
        elif line:
            say(f"{prefix}  {line}")
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
