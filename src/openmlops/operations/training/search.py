"""Search: trials of settings that Optuna samples from what a use case declares, each its own process and MLflow run.

Trials are selected on the validation split; the test split is used once, for the selected one. Here: the search, its limits,
and how an interrupted one goes on. Not here: the sampling (`adapters.optuna_study`), the processes (`grid_jobs`), and one trial
(`grid_run`).
"""

import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import Field

from openmlops.adapters.optuna_study import Study, Trial
from openmlops.core.search_space import Choices, Range, Setting
from openmlops.core.types import SplitsRef, Value
from openmlops.errors import SettingsError
from openmlops.files import write_text
from openmlops.operations.release import scoring
from openmlops.operations.retries import retry
from openmlops.operations.run_leases import hold_run
from openmlops.operations.training import train
from openmlops.operations.training.grid import GridRef, close_runs, keep_best, locked, parent_run, require_any, require_valid
from openmlops.operations.training.grid_jobs import POLL_SECONDS, GridJob, RunResult, read_progress, shown
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

TRIALS = 20
STEPS = 10
"""points of a training at which trials are compared"""
SAVED_SECONDS = 5.0
"""time between two records of the time spent: what a killed search may forget"""
PRUNED = "pruned: below the median of the other trials"


class Search(Value):
    """`trials` settings from `space` on top of `base` (fields of the use case's TrainConfig), `jobs` at once, in at most
    `budget` seconds, if given. `seed` is that of the drawn settings."""

    space: dict[str, Range | Choices]
    base: dict[str, Setting | None] = Field(default_factory=dict)
    trials: int = Field(TRIALS, ge=1)
    budget: float | None = Field(None, gt=0)
    jobs: int = Field(1, ge=1)
    seed: int = 0


def search_of(workspace: Workspace, given: Mapping[str, Range | Choices | Setting], **limits: Any) -> Search:
    """A search of what the use case declares, except for what is `given`: fixed settings and other ranges. `limits` are the
    other fields of a `Search`. Raises SettingsError."""
    base = {name: found for name, found in given.items() if not isinstance(found, Range | Choices)}
    own = {name: found for name, found in given.items() if isinstance(found, Range | Choices)}
    declared: dict[str, Range | Choices] = dict(getattr(workspace.use_case.config, "SEARCH", {}))
    if {"budget", "steps"} & base.keys():
        declared.pop("epochs", None)
    require_valid(workspace, base)
    for name in getattr(workspace.use_case.config(**base), "unused", ()):
        declared.pop(name, None)
    space = {name: found for name, found in (declared | own).items() if name not in base}
    if not space:
        problem = f"The use case '{workspace.use_case.name}' declares nothing to search"
        raise SettingsError(problem, "Give ranges or choices, as in --set lr=0.01..0.3 --set width=8,16")
    for name, found in space.items():
        for value in found.examples:
            require_valid(workspace, {**base, name: value})
    return Search(space=space, base=base, **limits)  # type: ignore[arg-type]


def search_all(workspace: Workspace, splits: SplitsRef, search: Search) -> GridRef:
    """Run the trials that are left of the search, and evaluate the best on the test split. Raises TrainingError if all failed,
    or if another process runs this search."""
    preprocessing = train.preprocess(workspace, splits)
    parts = (splits.fingerprint, preprocessing.model_dump_json(), train.code_fingerprint(workspace))
    what = search.model_dump_json(include={"space", "base", "seed"})
    folder = workspace.home / "searches" / hashlib.sha256("\n".join((*parts, what)).encode()).hexdigest()[:16]
    with locked(folder, "search"):
        space = {name: str(found.examples) for name, found in search.space.items()}
        parent = retry(parent_run, workspace, folder, "search", {"search": space, **search.base}, splits)
        trials = _Trials(workspace, splits, preprocessing, search, folder, parent)
        with hold_run(workspace, parent):
            trained = trials.run()
            runs = trials.results()
            retry(close_runs, workspace, runs)
            require_any(workspace, runs, parent, "trials")
            found = GridRef(axes=tuple(search.space), runs=runs, parent=parent, trained=trained, splits=splits)
            tested = retry(_tested, workspace, found.best, trials.file_of(found.best))
            retry(keep_best, workspace, found)
    return found.model_copy(update={"runs": tuple(tested if run is found.best else run for run in runs)})


def _tested(workspace: Workspace, best: RunResult, file: Path) -> RunResult:
    """The result with its evaluation on the test split, done once and kept."""
    if best.test is not None:
        return best
    assert best.trained is not None
    found = best.model_copy(update={"test": scoring.evaluate(workspace, best.trained, file.with_suffix(""))})
    write_text(file, found.model_dump_json(indent=2))
    return found


@dataclass
class _Running:
    """A trial in progress: its process, since when, and the step at which it was compared last."""

    job: GridJob
    future: Future[RunResult]
    began: float
    step: int = 0
    is_pruned: bool = False


@dataclass
class _Trials:
    """The trials of one search: the state that is not on disk."""

    workspace: Workspace
    splits: SplitsRef
    preprocessing: Any
    search: Search
    folder: Path
    parent: str
    active: dict[int, _Running] = field(default_factory=dict)
    jobs: dict[int, GridJob] = field(default_factory=dict)
    trained: int = 0

    def __post_init__(self) -> None:
        self.study = Study(self.folder / "study.db", self.search.space, self.search.seed)
        self.interrupted = [trial for trial in self.study.trials() if trial.state == "running"]
        self.before, self.began, self.saved = self.study.seconds, time.monotonic(), 0.0
        self.study.suggest(self._defaults())

    def _defaults(self) -> dict[str, Setting]:
        """The use case's own settings, which the first trial has."""
        fields = self.workspace.use_case.config.model_fields
        return {name: fields[name].default for name, found in self.search.space.items() if found.holds(fields[name].default)}

    def run(self) -> int:
        """Run trials until their number or the budget is reached; returns how many were trained to the end. If this process is
        interrupted, its trials are ended, and resumed when the search is run again."""
        with ThreadPoolExecutor(self.search.jobs, thread_name_prefix="trial") as pool:
            try:
                while self._fill(pool):
                    wait([each.future for each in self.active.values()], POLL_SECONDS, FIRST_COMPLETED)
                    self._look()
            except BaseException as error:
                self._end_all()
                if isinstance(error, KeyboardInterrupt):
                    self._tell_known()
                raise
            finally:
                self.study.seconds = self.spent
        return self.trained

    def results(self) -> tuple[RunResult, ...]:
        """The results of all trials that have ended, oldest first."""
        found = []
        for trial in self.study.trials():
            if trial.state == "complete" and (result := self._job(trial).read(self.folder)):
                found.append(result)
            elif trial.state in ("failed", "pruned"):
                run_id, reason = (str(trial.notes.get(name, "")) for name in ("run_id", "reason"))
                pruned = trial.state == "pruned"
                found.append(RunResult(config=self._config(trial), run_id=run_id, reason=reason, pruned=pruned))
        return tuple(found)

    def file_of(self, result: RunResult) -> Path:
        """The file of a trial's result."""
        return next(job.result_file(self.folder) for job in self.jobs.values() if job.config == result.config)

    @property
    def spent(self) -> float:
        """Seconds of this search, those of earlier calls included."""
        return self.before + time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return float("inf") if self.search.budget is None else self.search.budget - self.spent

    def _fill(self, pool: ThreadPoolExecutor) -> bool:
        """Start trials as far as there is room; whether any runs."""
        while len(self.active) < self.search.jobs and (trial := self._next()):
            job = self._job(trial)
            name = f"{trial.number + 1}/{self.search.trials}"
            future = pool.submit(job.run, self.folder, self.parent, self.search.jobs, name)
            self.active[trial.number] = _Running(job, future, time.monotonic())
        return bool(self.active)

    def _next(self) -> Trial | None:
        """The trial to start now: an interrupted one first. None if there is none, or no time for one."""
        trials = self.study.trials()
        durations = [float(trial.notes["seconds"]) for trial in trials if trial.state == "complete"]
        if (durations or self.active) and self.left < (median(durations) if durations else 1):
            return None
        if self.interrupted:
            return self.interrupted.pop(0)
        return self.study.ask() if len(trials) < self.search.trials else None

    def _look(self) -> None:
        """Take in what ended, end what is hopeless or beyond the budget, and record the time."""
        for number, running in list(self.active.items()):
            if running.future.done():
                del self.active[number]
                self._take_in(number, running)
            elif self._is_hopeless(number, running):
                running.is_pruned = True
                running.job.end()
        if self.left <= 0 and any(trial.state == "complete" for trial in self.study.trials()):
            self._end_all()
        if self.spent - self.saved >= SAVED_SECONDS:
            self.study.seconds = self.saved = self.spent

    def _take_in(self, number: int, running: _Running) -> None:
        result = running.future.result()
        seconds = time.monotonic() - running.began
        if result.trained is not None:
            self.study.note(number, "seconds", seconds)
            self.study.complete(number, result.score)
            self.trained += 1
        elif running.is_pruned:
            say(f"pruned  {running.job.shown}")
            self._close(number, running.job, result.model_copy(update={"reason": PRUNED, "pruned": True}))
            self.study.prune(number)
        elif not running.job.ended:
            self._close(number, running.job, result)
            self.study.fail(number)

    def _close(self, number: int, job: GridJob, result: RunResult) -> None:
        closed = retry(job.close, self.workspace, result, self.parent)
        self.study.note(number, "run_id", closed.run_id)
        self.study.note(number, "reason", closed.reason)

    def _is_hopeless(self, number: int, running: _Running) -> bool:
        if running.is_pruned or not (progress := read_progress(running.job.result_file(self.folder))):
            return False
        share, score = progress[-1]
        step = int(STEPS * share)
        if not running.step < step < STEPS:
            return False
        running.step = step
        return self.study.report(number, score, step)

    def _end_all(self) -> None:
        """End the running trials; they are resumed when the search is run again."""
        for running in self.active.values():
            running.job.end()
        self.active.clear()

    def _tell_known(self) -> None:
        done = [run for run in self.results() if run.trained]
        say(f"{len(done)} trials are completed; the same command goes on with the others.")
        if done:
            best = max(done, key=lambda run: run.score)
            say(f"The best so far, {100 * best.score:.1f} % on the validation split: {shown(best.config)}")

    def _config(self, trial: Trial) -> dict[str, Any]:
        return {**self.search.base, **trial.settings}

    def _job(self, trial: Trial) -> GridJob:
        if trial.number not in self.jobs:
            config = self._config(trial)
            self.jobs[trial.number] = GridJob(self.workspace, self.splits, self.preprocessing, config, tests=False)
        return self.jobs[trial.number]
