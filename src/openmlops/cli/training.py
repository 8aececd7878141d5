"""`train` and `demo`: the commands that run the training pipelines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openmlops.cli.evaluations import figures
from openmlops.cli.options import Sets, UseCaseName, assignments, repeated, seconds
from openmlops.cli.show import Json, percent, print_json, print_table
from openmlops.errors import SettingsError
from openmlops.operations.workspace import Workspace
from openmlops.terminal import chapter, say

if TYPE_CHECKING:
    from openmlops.core.quality import TrainingOutcome

BAR = 40
"""length in characters of a bar for 1.0"""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(name="train", epilog="Example: openmlops train --budget 60s --seed 1")(train)
    app.command(name="demo", epilog="Example: openmlops demo my-demo --json")(demo)


def train(
    use_case: UseCaseName = None,
    epochs: Annotated[float | None, typer.Option(help="Epochs; a classifier accepts a fraction.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Input size of a detector in pixels, a multiple of 32.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of a classifier's square input in pixels.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Pretrained model of timm for a classifier, by name, or none: a small network.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the backbone: a file, or download: where timm publishes them.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed for split, weight initialisation, data order and augmentation.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Training time, such as 60s or 3m; the schedule is adjusted to fit.")
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="Pretrained weights for a detector: a file, or none.")] = None,
    device: Annotated[str | None, typer.Option(help="Device: cpu, cuda or auto.")] = None,
    folds: Annotated[
        int,
        typer.Option(min=0, max=20, help="Cross-validate with so many further trainings, such as 5: for small data."),
    ] = 0,
    set_: Sets = None,
    json: Json = False,
) -> None:
    """Train on the current data version, evaluate, export, register, and submit the new version to the gate."""
    from openmlops.pipelines.training_entry import config_of, run

    workspace = Workspace.open()
    workspace.upgrade()
    given: dict[str, Any] = {"epochs": epochs, "imgsz": imgsz, "batch_size": batch_size, "lr": lr, "seed": seed}
    given |= {"budget": seconds(budget) if budget else None, "pretrained": pretrained, "device": device}
    given |= {"size": size, "backbone": backbone, "weights": weights}
    named = {name for name, value in given.items() if value is not None}
    if folds == 1:
        raise SettingsError("--folds is 1, and one fold leaves nothing to train on", "Use --folds 5")
    outcome = run(workspace, config_of(workspace, given | assignments(set_, named), option), folds)
    print_json(outcome) if json else print_outcome(outcome, use_case)


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the demo; recreated on each run.")] = Path("demo"),
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Run the whole loop once on sample data, offline and in its own folder, and write an HTML report."""
    from openmlops.demo.story import run_demo

    outcome = run_demo(folder, Workspace.open().settings.use_case)
    if json:
        return print_json(outcome)
    name, inside = Workspace.open().model_name, f"cd {folder} && openmlops"
    chapter("Accuracy seen by clients")
    for part, value in outcome.accuracy:
        full = round(BAR * value)
        say(f"{part:>10} {outcome.metric} {value:.3f} ", ("█" * full, "cyan"), ("░" * (BAR - full), "dim"))
    say((f"\nDone in {outcome.seconds:.0f} s.", "bold"), " Report with plots: ", (str(folder / "report.html"), "bold"))
    say("Explore the result (after 'source .venv/bin/activate'):")
    for command, what in (
        (f"{inside} console", "everything in a browser: champion, versions, decisions, drift, images"),
        (f"{inside} history {name}", "which version was live, when and why"),
        (f"{inside} decisions", "what the loop decided; 'openmlops why ID' shows the evidence"),
        (f"{inside} evaluate {name}@champion", "metrics of the champion per class"),
        (f"cd {folder} && mlflow ui --backend-store-uri sqlite:///.openmlops/mlflow.db", "runs, learning curves, versions"),
    ):
        say(f"  {command}    ", (f"# {what}", "dim"))
    return None


def option(name: str) -> str:
    """How a field of a TrainConfig is given to the command."""
    return f"--{name.replace('_', '-')}"


def print_outcome(outcome: "TrainingOutcome", use_case: str | None = None) -> None:
    """Print the result of a training."""
    from openmlops.core.gate.sample_size import sentences

    print_table(
        f"{outcome.model.name}/{outcome.model.version}",
        ("field", "value"),
        (
            *figures(outcome.evaluation),
            *_cross_validated(outcome),
            ("test split", sentences(outcome.holdout)[1]),
            ("data", f"{outcome.dataset.rows} images, version {outcome.dataset.fingerprint[:12]}"),
            ("run", outcome.run_id),
            ("verdict", outcome.verdict.outcome),
            *(("", reason) for reason in outcome.verdict.reasons),
            ("champion", f"{outcome.model.name}/{outcome.champion.version}" if outcome.champion.version else "none"),
        ),
    )
    name = outcome.model.name
    version = f"{name}@champion" if outcome.champion.version else f"{name}/{outcome.model.version}"
    say(f"Next: openmlops history {name}   openmlops evaluate {version}{repeated(use_case)}")


def _cross_validated(outcome: "TrainingOutcome") -> list[tuple[str, str]]:
    """The row of the out-of-fold score, and what it is of."""
    if (found := outcome.cross_validation) is None:
        return []
    score = percent(found.score.value, found.score.low, found.score.high)
    what = (
        f"{found.metric} {score} on {found.images} training and validation images, each predicted by a model trained without it"
    )
    return [(f"{found.folds} folds", what), ("", "The registered model is another: it was trained on the ordinary split")]
