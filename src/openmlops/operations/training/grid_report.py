"""Report of an experiment: its runs as a table for terminal, Markdown and MLflow, and the selection.

Not here: training (`grid`), and the gate, whose verdict is only reported.
"""

from typing import Any

from pydantic import Field

from openmlops.core.quality import DetectionEvaluation, Evaluation
from openmlops.core.types import Champion, Comparison, Interval, LedgerEntry, ModelRef, TrainedRef, Value, Verdict
from openmlops.files import copy, write_text
from openmlops.operations.training.grid import GridRef, within_noise
from openmlops.operations.training.grid_jobs import RunResult
from openmlops.operations.workspace import Workspace
from openmlops.plain import in_markdown
from openmlops.temporary import temporary_folder

FILE = "experiment.md"
SHOWN_ID = 8
"""characters of a run's id in the table"""


class Staging(Value):
    """The version with the alias `staging`."""

    version: int


class ExperimentRun(Value):
    """One run: quality on the test split with 95 % intervals, and `validation`, the score that runs are selected by.

    A detector has `map50`, `precision` and `recall`, a classifier `accuracy` and `macro_f1`; in a search only the best."""

    id: str
    config: dict[str, Any]
    map50: float | None = None
    precision: float | None = None
    recall: float | None = None
    accuracy: float | None = None
    macro_f1: float | None = None
    intervals: dict[str, Interval] = Field(default_factory=dict)
    validation: Interval | None = None
    status: str
    reason: str = ""


class Experiment(Value):
    """The object that `openmlops grid --json` and `search --json` print. `trained` counts the runs that this call trained;
    `notes` are caveats on the numbers."""

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
    notes = (_selected(workspace, grid), _noise(*within_noise(workspace, grid), grid))
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
    with temporary_folder(workspace.home, "grid-") as scratch:
        table = write_text(scratch / FILE, markdown(found))
        workspace.tracking.log_files(run_id, table)
        copy(path, table)
    return found


_SCORES = {
    "map50": "mAP@50",
    "precision": "Precision",
    "recall": "Recall",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
}
"""scores of the test split, and their columns"""
_OF_DETECTORS = ("map50", "precision", "recall")


def columns(found: Experiment) -> tuple[str, ...]:
    """Column names of the table: the standard ones, and one per further axis."""
    names = {"epochs": "Epochs", "imgsz": "Imgsz"}
    settings = (names.get(name, name) for name in _settings(found))
    selection = ["Validation"] if _is_search(found) else []
    return ("ID", *settings, *selection, *(_SCORES[name] for name in _scores(found)), "Status")


def cells(found: Experiment) -> list[tuple[str, ...]]:
    """The table's rows."""
    return [
        (
            run.id[:SHOWN_ID],
            *(_shown(run.config.get(name, "")) for name in _settings(found)),
            *([_bracketed(run.validation)] if _is_search(found) else []),
            *(_score(run, name) for name in _scores(found)),
            f"{run.status}{', staging' if run.id == found.best else ''}",
        )
        for run in found.runs
    ]


def _is_search(found: Experiment) -> bool:
    """Whether runs were not all evaluated on the test split."""
    return any(run.status == "finished" and not run.intervals for run in found.runs) or any(
        run.status == "pruned" for run in found.runs
    )


def _scores(found: Experiment) -> tuple[str, ...]:
    is_classifier = any(run.accuracy is not None for run in found.runs)
    return ("accuracy", "macro_f1") if is_classifier else _OF_DETECTORS


def _settings(found: Experiment) -> tuple[str, ...]:
    """The settings with a column: those that vary, and the two of every detector."""
    usual = ("epochs", "imgsz") if _scores(found) == _OF_DETECTORS else ()
    return (*usual, *(name for name in found.axes if name not in usual))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def markdown(found: Experiment) -> str:
    """The report as Markdown: the table, notes, failures and the verdict."""
    heads = columns(found)
    lines = ["| " + " | ".join(map(in_markdown, row)) + " |" for row in (heads, ("---",) * len(heads), *cells(found))]
    failed = [
        f"- {run.id[:SHOWN_ID] or 'a run'} failed: {in_markdown(run.reason)}" for run in found.runs if run.status == "failed"
    ]
    notes = [f"- {in_markdown(note)}" for note in found.notes]
    version = f"{found.model.name}/{found.model.version}"
    outcome = f"- {version} has the alias staging; gate: {found.verdict.outcome}. {in_markdown(found.verdict.reasons[0])}"
    return "\n".join([f"# {found.model.name}", "", *lines, "", *notes, *failed, outcome]) + "\n"


def _row(run: RunResult) -> ExperimentRun:
    given = {name: value for name, value in run.config.items() if value is not None}
    shown = {**(run.trained.config if run.trained else {}), **given}
    validation = run.validation.headline()[1] if run.validation else None
    if run.test is None:
        return ExperimentRun(id=run.run_id, config=shown, validation=validation, status=run.status, reason=run.reason)
    intervals = _intervals(run.test)
    scores = {name: found.value for name, found in intervals.items()}
    if not isinstance(run.test, DetectionEvaluation):
        scores["macro_f1"] = run.test.macro_f1
    return ExperimentRun(id=run.run_id, config=shown, intervals=intervals, validation=validation, status="finished", **scores)


def _intervals(test: Evaluation) -> dict[str, Interval]:
    if isinstance(test, DetectionEvaluation):
        return {"map50": test.map50, "precision": test.precision, "recall": test.recall}
    return dict([test.headline()])


def _score(run: ExperimentRun, name: str) -> str:
    value = getattr(run, name)
    return _bracketed(run.intervals.get(name)) or ("" if value is None else f"{value:.3f}")


def _bracketed(found: Interval | None) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else ""


def _selected(workspace: Workspace, grid: GridRef) -> str:
    assert grid.best.validation is not None
    (_, best), n = grid.best.validation.headline(), grid.splits
    ended = sum(run.trained is not None for run in grid.runs)
    tested = sum(run.test is not None for run in grid.runs)
    whose = "The table shows" if tested == ended else "Only the selected run was evaluated on"
    score = workspace.use_case.task.score_name
    return (
        f"Selected by {score} on the validation split ({n.validation} images): {_bracketed(best)}. "
        f"{whose} the test split ({n.test} images), unused in selection."
    )


def _noise(alike: int, second: Comparison | None, grid: GridRef) -> str:
    if second is None:
        return "There is no second run to compare with the best."
    low, high = 100 * second.low, 100 * second.high
    gap = f"the best leads the second by {100 * second.difference:.1f} points [{low:+.1f}, {high:+.1f}]"
    if alike > 1:
        return f"The best {alike} runs are within noise of each other on the {grid.splits.validation} validation images: {gap}."
    return f"On the {grid.splits.validation} validation images {gap}."
