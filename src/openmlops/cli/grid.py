"""`grid`: a grid search with one result table; the best model is staged."""

from typing import Annotated, Any

import typer

from openmlops.cli.options import Sets, UseCaseName, assignments, repeated, values
from openmlops.cli.show import Json, print_json, print_table
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: openmlops grid --use-case person --epochs 3,5 --imgsz 320,416 --jobs 2")(grid)


def grid(
    use_case: UseCaseName = None,
    epochs: Annotated[str | None, typer.Option(help="Epochs, such as 3,5.")] = None,
    imgsz: Annotated[str | None, typer.Option(help="Input sizes in pixels, such as 320,416.")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Batch sizes.")] = None,
    lr: Annotated[str | None, typer.Option(help="Peak learning rates.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seeds for weight initialisation, data order and augmentation.")] = None,
    set_: Sets = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Runs to train in parallel; they share the CPU cores.")] = 1,
    json: Json = False,
) -> None:
    """Train every combination of the given values, select on validation, report on test, alias the best as staging, gate it.

    What ended well is not trained again when the same command is given again; what was killed goes on where it was.
    """
    from openmlops.operations.training.grid import grid_of

    workspace = Workspace.open()
    options = {"epochs": epochs, "imgsz": imgsz, "batch_size": batch_size, "lr": lr, "seed": seed}
    given = {name: text for name, text in options.items() if text is not None}
    chosen = {name: values(text) for name, text in (given | assignments(set_, given)).items()}
    axes = {name: found for name, found in chosen.items() if len(found) > 1 or name in ("epochs", "imgsz")}
    base = {name: found[0] for name, found in chosen.items() if name not in axes}
    found = _run(workspace, grid_of(workspace, axes, base, jobs))
    print_json(found) if json else print_experiment(found, use_case)


def _run(workspace: Workspace, grid: Any) -> Any:
    from openmlops.settings import embed_zenml

    embed_zenml(workspace.home)
    if workspace.use_case.name == "person":
        from openmlops.pipelines.person_grid import run_grid
    else:
        from openmlops.pipelines.search_pipeline import run_grid

    return run_grid(grid)


def print_experiment(found: Any, use_case: str | None = None) -> None:
    """Print the table of a grid or a search, what to know about it, and what to do next."""
    from openmlops.operations.training.grid_report import cells, columns

    print_table(
        f"{found.model.name}: {len(found.runs)} runs, {found.trained} trained in this call", columns(found), cells(found)
    )
    for note in (*found.notes, f"Gate: {found.verdict.outcome}. {' '.join(found.verdict.reasons)}"):
        say(f"- {note}")
    for run in found.runs:
        if run.status == "failed":
            say(f"- failed: {run.reason}")
    say(f"Table: {found.table}, and MLflow run {found.parent}.")
    say(f"Next: openmlops evaluate {found.model.name}@staging{repeated(use_case)}")
