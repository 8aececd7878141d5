"""Report of an experiment: its runs as a table for terminal, Markdown and MLflow, and the selection.

Not here: training (`grid`), and the gate, whose verdict is only reported.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from openmlops.core.quality import DetectionEvaluation
from openmlops.core.types import Champion, Comparison, Interval, LedgerEntry, ModelRef, TrainedRef, Value, Verdict
from openmlops.files import write_text
from openmlops.operations.training.grid import GridRef, within_noise
from openmlops.operations.training.grid_jobs import RunResult
from openmlops.operations.workspace import Workspace

FILE = "experiment.md"
SHOWN_ID = 8
"""characters of a run's id in the table"""


class Staging(Value):
    """The version with the alias `staging`."""

    version: int


class ExperimentRun(Value):
    """One run: quality on the test split with 95 % intervals, and `validation`, the mAP@50 that runs are selected by."""

    id: str
    config: dict[str, Any]
    map50: float | None = None
    precision: float | None = None
    recall: float | None = None
    intervals: dict[str, Interval] = Field(default_factory=dict)
    validation: Interval | None = None
    status: str
    reason: str = ""


class Experiment(Value):
    """The object that `openmlops grid --json` prints. `trained` counts the runs that this call trained; `notes` are caveats on
    the numbers."""

    runs: tuple[ExperimentRun, ...]
    axes: tuple[str, ...]
    trained: int
    best: str
    notes: tuple[str, ...]
    staging: Staging
    model: ModelRef
    verdict: Verdict
    champion: Champion
    parent: str
    table: str


def summarize_grid(workspace: Workspace, grid: GridRef, model: ModelRef, decision: LedgerEntry) -> Experiment:
    """Write the table of a grid to ARTIFACTS_DIR and to its MLflow run, and close that run."""
    runs = tuple(map(_row, grid.runs))
    notes = (_selected(grid), _noise(*within_noise(workspace, grid), grid))
    found = _experiment(workspace, runs, grid.axes, grid.trained, grid.best.run_id, notes, model, decision, grid.parent)
    best = grid.best.test
    assert best is not None
    if workspace.tracking.run_is_open(grid.parent):
        metrics = {f"best_test_{name}": value for name, value in best.metrics().items()}
        assert grid.best.trained is not None
        workspace.tracking.log_metrics(grid.parent, metrics, grid.best.trained.ended_at)
        workspace.tracking.finish(grid.parent)
    return found


def summarize_run(
    workspace: Workspace, trained: TrainedRef, evaluation: DetectionEvaluation, model: ModelRef, decision: LedgerEntry
) -> Experiment:
    """The report of a single training, in the format of a grid's."""
    run = _row(RunResult(config=trained.config, run_id=trained.run_id, trained=trained, test=evaluation))
    notes = (f"Reported on the test split, {evaluation.n} images, which was not used for model selection.",)
    return _experiment(workspace, (run,), (), 1, trained.run_id, notes, model, decision, trained.run_id)


def _experiment(
    workspace: Workspace,
    runs: tuple[ExperimentRun, ...],
    axes: tuple[str, ...],
    trained: int,
    best: str,
    notes: tuple[str, ...],
    model: ModelRef,
    decision: LedgerEntry,
    run_id: str,
) -> Experiment:
    assert decision.verdict is not None
    path = workspace.artifacts / FILE
    found = Experiment(
        runs=runs,
        axes=axes,
        trained=trained,
        best=best,
        notes=notes,
        staging=Staging(version=model.version),
        model=model,
        verdict=decision.verdict,
        champion=Champion(version=decision.champion),
        parent=run_id,
        table=str(path),
    )
    write_text(path, markdown(found))
    workspace.tracking.log_files(run_id, path)
    return found


def columns(axes: Sequence[str]) -> tuple[str, ...]:
    """Column names of the table: the standard ones, and one per further axis."""
    return ("ID", "Epochs", "Imgsz", *others(axes), "mAP@50", "Precision", "Recall", "Status")


def others(axes: Sequence[str]) -> tuple[str, ...]:
    """The axes that need an additional column."""
    return tuple(name for name in axes if name not in ("epochs", "imgsz"))


def cells(found: Experiment) -> list[tuple[str, ...]]:
    """The table's rows."""
    return [
        (
            run.id[:SHOWN_ID],
            *(str(run.config.get(name, "")) for name in ("epochs", "imgsz", *others(found.axes))),
            *(_interval(run, name) for name in ("map50", "precision", "recall")),
            f"{run.status}{', staging' if run.id == found.best else ''}",
        )
        for run in found.runs
    ]


def markdown(found: Experiment) -> str:
    """The report as Markdown: the table, notes, failures and the verdict."""
    heads = columns(found.axes)
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ("---",) * len(heads), *cells(found))]
    failed = [f"- {run.id[:SHOWN_ID] or 'a run'} failed: {run.reason}" for run in found.runs if run.reason]
    notes = [f"- {note}" for note in found.notes]
    version = f"{found.model.name}/{found.model.version}"
    outcome = f"- {version} has the alias staging; gate: {found.verdict.outcome}. {found.verdict.reasons[0]}"
    return "\n".join([f"# {found.model.name}", "", *lines, "", *notes, *failed, outcome]) + "\n"


def _row(run: RunResult) -> ExperimentRun:
    shown = {**run.config, **(run.trained.config if run.trained else {})}
    validation = run.validation.map50 if run.validation else None
    if run.test is None:
        return ExperimentRun(id=run.run_id, config=shown, status="failed", reason=run.reason)
    intervals = {"map50": run.test.map50, "precision": run.test.precision, "recall": run.test.recall}
    return ExperimentRun(
        id=run.run_id,
        config=shown,
        intervals=intervals,
        validation=validation,
        status="finished",
        **{name: found.value for name, found in intervals.items()},
    )


def _interval(run: ExperimentRun, name: str) -> str:
    found = run.intervals.get(name)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else ""


def _selected(grid: GridRef) -> str:
    best, n = grid.best.validation, grid.splits
    assert best is not None
    return (
        f"Selected by mAP@50 on the validation split ({n.validation} images): {best.map50.value:.3f} "
        f"[{best.map50.low:.3f}, {best.map50.high:.3f}]. The table shows the test split ({n.test} images), unused in selection."
    )


def _noise(alike: int, second: Comparison | None, grid: GridRef) -> str:
    if second is None:
        return "There is no second run to compare with the best."
    low, high = 100 * second.low, 100 * second.high
    gap = f"the best leads the second by {100 * second.difference:.1f} points [{low:+.1f}, {high:+.1f}]"
    if alike > 1:
        return f"The best {alike} runs are within noise of each other on the {grid.splits.validation} validation images: {gap}."
    return f"On the {grid.splits.validation} validation images {gap}."
