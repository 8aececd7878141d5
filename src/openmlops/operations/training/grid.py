"""Grid search: every combination of some training settings, each trained and evaluated in its own process and MLflow run.

Here: the list of runs, resuming an interrupted grid, and selecting the best run. Not here: the processes (`grid_jobs`), one run
(`grid_run`), the table (`grid_report`), and promotion (`release.promotion`).

Runs are selected on the validation split and reported on the test split, which is never used for selection.
"""

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field

from openmlops.adapters.mlflow_values import ABANDONED_TAG, FAILURE_TAG
from openmlops.core.types import Comparison, LedgerEntry, ModelRef, SplitsRef, Value
from openmlops.errors import SettingsError, TrainingError
from openmlops.files import write_text
from openmlops.operations.data import weights
from openmlops.operations.data.datasets import indices_of
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release import promotion
from openmlops.operations.release.aliases import STAGING
from openmlops.operations.retries import retry
from openmlops.operations.run_leases import hold_run, next_start, run_lease
from openmlops.operations.training import train
from openmlops.operations.training.grid_jobs import GridJob, RunResult, run_all
from openmlops.operations.training.predictions import kept_predictions
from openmlops.operations.workspace import Workspace

EPOCHS, IMGSZ = (3, 5), (320, 416)
"""the default grid of a detector"""


class Grid(Value):
    """Every combination of the values in `axes` on top of `base` (fields of the use case's TrainConfig), `jobs` at once."""

    axes: dict[str, tuple[int | float | str | bool, ...]]
    base: dict[str, int | float | str | bool | None] = Field(default_factory=dict)
    jobs: int = Field(1, ge=1)

    def configs(self) -> tuple[dict[str, Any], ...]:
        """The fields of each run, the last axis changing fastest."""
        combinations = itertools.product(*self.axes.values())
        return tuple({**self.base, **dict(zip(self.axes, values, strict=True))} for values in combinations)


class GridRef(Value):
    """A completed grid: its runs in order, its parent MLflow run, and the number of runs that this call trained."""

    axes: tuple[str, ...]
    runs: tuple[RunResult, ...]
    parent: str
    trained: int
    splits: SplitsRef

    @property
    def best(self) -> RunResult:
        """The run with the best validation score, the first of equal ones."""
        return max(self.runs, key=lambda run: run.score)


def train_all(workspace: Workspace, splits: SplitsRef, grid: Grid) -> GridRef:
    """Train the runs that are not trained yet. Raises TrainingError if all runs failed, or if another process runs this grid;
    SettingsError if two combinations are the same training.
    """
    preprocessing = train.preprocess(workspace, splits)
    jobs = [GridJob(workspace, splits, preprocessing, config) for config in grid.configs()]
    if len({job.key for job in jobs}) < len(jobs):
        problem = f"Some of the {len(jobs)} combinations of {', '.join(grid.axes)} are the same run"
        raise SettingsError(problem, "Vary only parameters that affect the weights")
    key = hashlib.sha256("\n".join(sorted(job.key for job in jobs)).encode()).hexdigest()[:16]
    folder = workspace.home / "grids" / key
    axes = {name: ",".join(map(str, values)) for name, values in grid.axes.items()}
    with locked(folder, "grid"):
        parent = retry(parent_run, workspace, folder, "grid", {"grid": axes, **grid.base}, splits)
        waiting = [job for job in jobs if job.read(folder) is None]
        with hold_run(workspace, parent):
            ran = run_all(waiting, folder, parent, grid.jobs)
    failed = {
        job.key: retry(job.close, workspace, result, parent)
        for job, result in zip(waiting, ran, strict=True)
        if result.trained is None
    }
    results = [failed.get(job.key) or job.read(folder) for job in jobs]
    runs = tuple(result for result in results if result is not None)
    retry(close_runs, workspace, runs)
    require_any(workspace, runs, parent, "runs of the grid")
    trained = sum(result.trained is not None for result in ran)
    found = GridRef(axes=tuple(grid.axes), runs=runs, parent=parent, trained=trained, splits=splits)
    retry(keep_best, workspace, found)
    return found


def keep_best(workspace: Workspace, found: GridRef) -> None:
    """Keep the weights of the best run for the steps that follow. Raises ServiceUnavailable."""
    assert found.best.trained is not None
    weights.keep(workspace, found.best.trained)


def stage(workspace: Workspace, model: ModelRef, splits: SplitsRef) -> LedgerEntry:
    """Run the gate on the best model and set its alias `staging`. Returns the ledger entry; of a repeated grid, the existing
    one."""
    decision = promotion.decide(workspace, model, splits)
    workspace.registry.set_alias(model.name, STAGING, model.version)
    return decision


def within_noise(workspace: Workspace, grid: GridRef) -> tuple[int, Comparison | None]:
    """Number of top runs, including the best, whose validation score does not differ significantly from the best; and the
    comparison of the best with the second, if there is one. Paired bootstrap over the images, at 95 %.
    """
    rows = rows_of(workspace, grid.splits.dataset)
    labels = rows.labels[indices_of(workspace, grid.splits)["validation"]]
    ranked = sorted((run for run in grid.runs if run.trained), key=lambda run: -run.score)
    predictions = [kept_predictions(workspace, run.predictions, len(rows.names)) for run in ranked if run.predictions]
    task, names = workspace.use_case.task, range(1, len(ranked))
    compared = [task.compare("validation", labels, predictions[0], predictions[other], other, False) for other in names]
    distinct = next((number for number, found in enumerate(compared) if found.low > 0), len(compared))
    return 1 + distinct, compared[0] if compared else None


def require_any(workspace: Workspace, runs: tuple[RunResult, ...], parent: str, what: str) -> None:
    """Raises TrainingError, with the first reason, if no run ended well; the parent run is then closed as failed."""
    if not any(run.trained for run in runs):
        reason = runs[0].reason if runs else "their files were deleted"
        retry(_fail, workspace, parent, reason)
        problem = f"All {len(runs)} {what} failed; the first: {reason}"
        raise TrainingError(problem, "Fix this error and run the same command again")


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a grid or a search (`what`). Raises TrainingError if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout as error:
        raise TrainingError(
            f"Another process is running this {what} (lock {folder / 'lock'})", "Wait for it, or stop it"
        ) from error


def parent_run(workspace: Workspace, folder: Path, kind: str, params: dict[str, Any], splits: SplitsRef) -> str:
    """The parent MLflow run of a grid or a search (`kind`): that of an earlier call, unless all of its runs failed."""
    note = folder / "parent"
    if note.exists():
        parent = note.read_text()
        found = workspace.tracking.tags(parent) if workspace.registered.has_run(parent) else {FAILURE_TAG: "deleted"}
        if FAILURE_TAG not in found or ABANDONED_TAG in found:
            return parent
    tags = {"openmlops.use_case": workspace.use_case.name, "openmlops.splits": splits.fingerprint, "openmlops.kind": kind}
    with next_start(folder) as start_id, run_lease(workspace, start_id):
        parent = workspace.tracking.start(f"{workspace.model_name} {kind}", params, tags, start_id)
        write_text(note, parent)
    return parent


def _fail(workspace: Workspace, run_id: str, reason: str) -> None:
    workspace.tracking.fail(run_id, reason)


def close_runs(workspace: Workspace, runs: tuple[RunResult, ...]) -> None:
    """Close the runs of processes that were killed after they had written their results."""
    for run in runs:
        if run.trained and workspace.tracking.run_is_open(run.run_id):
            workspace.tracking.finish(run.run_id)


def grid_of(workspace: Workspace, axes: dict[str, tuple[Any, ...]], base: dict[str, Any], jobs: int) -> Grid:
    """A grid over fields of the use case's TrainConfig, each value checked. Raises SettingsError."""
    if not axes and workspace.use_case.task.kind == "detection":
        axes = {"epochs": EPOCHS, "imgsz": IMGSZ}
    if not axes:
        raise SettingsError("No setting has more than one value", "Give a grid several, as in --lr 0.05,0.1,0.2")
    grid = Grid(axes=axes, base=base, jobs=jobs)
    for config in grid.configs():
        require_valid(workspace, config)
    return grid


def require_valid(workspace: Workspace, config: dict[str, Any]) -> None:
    """Raises SettingsError if the use case's TrainConfig cannot have these fields."""
    from pydantic import ValidationError

    fields = workspace.use_case.config
    try:
        fields(**config)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        what = f"{name} cannot be {config.get(name)!r}" if name else "These fields cannot be combined"
        problem = f"{what}: {first['msg'].lower()}"
        raise SettingsError(problem, f"Fields: {', '.join(fields.model_fields)}") from None
