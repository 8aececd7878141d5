"""`predictions export`: the inference log as a file for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from openmlops.cli import completion
from openmlops.cli.options import UseCaseName
from openmlops.cli.show import Json, print_json
from openmlops.operations.workspace import Workspace
from openmlops.terminal import bar, say

app = typer.Typer(help="Production predictions, with their labels.", no_args_is_help=True)


def add_to(above: typer.Typer) -> None:
    """Hang these commands under `openmlops`."""
    above.add_typer(app, name="predictions")


@app.callback()
def _group() -> None:
    """Production predictions, with their labels."""


@app.command(epilog="Example: openmlops predictions export cifar10_cnn@champion predictions.parquet")
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL@champion|MODEL/VERSION",
            help="Model version, such as cifar10_cnn/3.",
            autocompletion=completion.versions_and_aliases,
        ),
    ],
    file: Annotated[Path, typer.Argument(help="File to write, by its suffix Parquet (.parquet) or CSV (.csv).")],
    last: Annotated[int | None, typer.Option(min=1, help="Only so many latest predictions. Default: all in the log.")] = None,
    features: Annotated[bool, typer.Option(help="Whether to write the features that drift is measured on.")] = True,
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Write a version's predictions, labels, latency and features to a file. docs/predictions.md describes the columns."""
    from openmlops.operations.monitoring.prediction_export import export as write

    with bar("Writing") as show:
        done = write(Workspace.open(), model, file, last, features, lambda rows: show(rows, 0, f"{rows} predictions"))
    if json:
        return print_json(done)
    say(f"{done.rows} predictions of {done.model}/{done.version} in {done.file}")
    if done.left_out:
        say(f"{done.left_out} predictions have other classes or features, from before the use case was changed: left out")
    return None
