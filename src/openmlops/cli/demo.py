"""The demo: the training half of the loop on sample data, offline, each line a fact that was checked when it was printed."""

import shutil
import time
from pathlib import Path

from openmlops.cli.show import percent
from openmlops.cli.training import run
from openmlops.console import say
from openmlops.core.types import TrainingOutcome
from openmlops.errors import OpenMLOpsError
from openmlops.operations.workspace import Workspace
from openmlops.settings import move_into

MARK = ".openmlops-demo"


def run_demo(folder: Path) -> TrainingOutcome:
    """Make `folder` anew and tell the story in it. Raises OpenMLOpsError if a line of the story is not true."""
    start = time.monotonic()
    move_into(_fresh(folder))
    workspace = Workspace.open()
    _make_data(workspace)
    outcome = run(workspace, workspace.use_case.config())
    _tell(outcome)
    _check_production(workspace, outcome)
    say(f"\n[bold]Done in {time.monotonic() - start:.0f} s.[/] Everything is in {folder}/. Look at it:")
    program = "../.venv/bin/openmlops" if Path("../.venv/bin/openmlops").exists() else "openmlops"
    for command, what in (
        (f"{program} history {outcome.model.name}", "who went live, when and why"),
        (f"{program} evaluate {outcome.model.name}@champion", "the champion, class by class"),
        (f"{program} models", "all versions"),
        (
            f"{program.removesuffix('openmlops')}mlflow ui --backend-store-uri sqlite:///.openmlops/mlflow.db",
            "runs, curves, files",
        ),
    ):
        say(f"  cd {folder} && {command}    [dim]# {what}[/]")
    say(f"  {folder}/artifacts/confusion_matrix.png, classification_report.txt")
    return outcome


def _fresh(folder: Path) -> Path:
    """An empty folder; one that is there already is emptied only if an earlier demo made it."""
    if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
        raise OpenMLOpsError(f"{folder} exists and was not made by the demo", "Name another folder: openmlops demo FOLDER")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder.resolve()


def _make_data(workspace: Workspace) -> None:
    from openmlops.operations.data import check, make_sample

    dataset = make_sample(workspace)
    report = check(workspace)
    _fact(report.passed, f"data       {dataset.rows} sample images, version {dataset.fingerprint[:12]}, checked")


def _tell(outcome: TrainingOutcome) -> None:
    e = outcome.evaluation
    model = f"{outcome.model.name}/{outcome.model.version}"
    _fact(
        e.accuracy > 0.5,
        f"model      {model}: {percent(e.accuracy, e.accuracy_low, e.accuracy_high)} of {e.n} test images right",
    )
    _fact(outcome.verdict.outcome == "promote", f"gate       {outcome.verdict.outcome}: {outcome.verdict.reasons[0]}")


def _check_production(workspace: Workspace, outcome: TrainingOutcome) -> None:
    name, version = outcome.model.name, outcome.model.version
    workspace.ledger.verify(name)
    _fact(workspace.ledger.champion(name) == version, f"ledger     {name}/{version} is champion; hash chain intact")
    _fact(
        workspace.registry.alias(name, "champion") == version,
        f"registry   MLflow's alias champion says the same ({name}@champion)",
    )


def _fact(holds: bool, line: str) -> None:
    if not holds:
        raise OpenMLOpsError(
            f"The demo came out differently than it must: {line}", "Please report it with the folder's content"
        )
    say(f"[green]ok[/] {line}")
