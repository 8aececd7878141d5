"""`openmlops data ...`: the data set, its versions and validation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli import completion
from openmlops.cli.show import Json, print_json, print_table
from openmlops.operations.workspace import Workspace
from openmlops.terminal import bar, say

if TYPE_CHECKING:
    from openmlops.core.types import Value

app = typer.Typer(help="The data set: get it, version it, check it.", no_args_is_help=True)


def add_to(above: typer.Typer) -> None:
    """Hang these commands under `openmlops`."""
    above.add_typer(app, name="data")


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[cifar10|person]",
        help="Use case whose data is meant; default USE_CASE.",
        autocompletion=completion.use_cases,
    ),
]


@app.command(epilog="Example: openmlops data sample cifar10")
def sample(name: Name = None, json: Json = False) -> None:
    """Write a small data set in the official layout, offline, and version it."""
    from openmlops.operations.data.datasets import make_sample

    _print(make_sample(Workspace.open(name)), json)


@app.command(name="tiny-person", epilog="Example: openmlops data tiny-person ~/datasets/coco128 --train 40")
def tiny_person(
    coco128: Annotated[Path, typer.Argument(metavar="COCO128_FOLDER", help="The unpacked COCO128.")],
    train: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 40,
    validation: Annotated[int, typer.Option(min=1, help="Images that epochs and grids are chosen by.")] = 10,
    test: Annotated[int, typer.Option(min=1, help="Images that results are reported on.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw; the same seed draws the same images.")] = 0,
    json: Json = False,
) -> None:
    """Draw a small data set of people from COCO128 (some 60 of its images show any), and version it for the use case person."""
    from openmlops.operations.data.datasets import make_tiny_person

    _print(make_tiny_person(Workspace.open("person"), coco128, train, validation, test, seed), json)


@app.command(epilog="Example: openmlops data fetch cifar10")
def fetch(
    name: Name = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Not the data: the published weights that a training can start from.")
    ] = False,
    archive: Annotated[
        Path | None, typer.Option(help="Archive that is on this machine already; nothing is downloaded.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Mirror of the official archive; the checksum stays the official one.")
    ] = None,
    json: Json = False,
) -> None:
    """Download the official archive (goes on where it stopped), check its published checksum, and version it."""
    from openmlops.operations.data import datasets

    run = datasets.fetch_weights if weights else datasets.fetch
    with bar("Downloading") as show:
        found = run(Workspace.open(name), archive, url, lambda done, total: show(done, total or 0, f"{done / 1e6:.0f} MB"))
    _print(found, json)


@app.command(epilog="Example: openmlops data add /mnt/new/cifar-10-batches-py")
def add(
    folder: Annotated[Path, typer.Argument(help="Folder in the layout of the use case.")], name: Name = None, json: Json = False
) -> None:
    """Make FOLDER the new version of the data set, if it passes the checks."""
    from openmlops.operations.data.datasets import add as run

    _print(run(Workspace.open(name), folder), json)


@app.command(epilog="Example: openmlops data pull cifar10")
def pull(name: Name = None, json: Json = False) -> None:
    """Bring the recorded version from the DVC remote and check every file."""
    from openmlops.operations.data.datasets import ingest

    _print(ingest(Workspace.open(name)), json)


@app.command(epilog="Example: openmlops data status --json")
def status(name: Name = None, json: Json = False) -> None:
    """Say which version is here and whether its files are as recorded."""
    from openmlops.operations.data.datasets import status as read

    _print(read(Workspace.open(name)), json)


@app.command(epilog="Example: openmlops data check cifar10")
def check(name: Name = None, json: Json = False) -> None:
    """Look for everything that must not be trained on; exit code 1 when something blocks."""
    from openmlops.operations.data.datasets import check as run

    report = run(Workspace.open(name))
    if json:
        print_json(report)
    else:
        rows = [
            ("blocks" if p.blocking else "note", p.where, p.what, p.count, ", ".join(map(str, p.rows))) for p in report.problems
        ]
        print_table("Problems", ("", "where", "what", "count", "first rows"), rows)
        say("The data set passed." if report.passed else "The data set must not be trained on.")
    if not report.passed:
        raise typer.Exit(1)


def _print(value: "Value", json: bool) -> None:
    if json:
        return print_json(value)
    return print_table("Data set", ("what", "value"), value.model_dump(mode="json").items())
