"""`openmlops data ...`: the data set, its versions and validation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openmlops.cli import completion
from openmlops.cli.options import GroupedBy, Grouping, OnBadLabel, OnLeftOut, StopOrSkip, Strict, moment, skips
from openmlops.cli.show import Json, print_json, print_line, print_table, say_account
from openmlops.operations.workspace import Workspace
from openmlops.terminal import bar, counting, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openmlops.core.types import DatasetRef

app = typer.Typer(help="Get, version and check data sets.", no_args_is_help=True)


def add_to(above: typer.Typer) -> None:
    """Hang these commands under `openmlops`."""
    above.add_typer(app, name="data")


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[cifar10|person]",
        help="Use case of the data set. Default: USE_CASE.",
        autocompletion=completion.use_cases,
    ),
]


@app.command(epilog="Example: openmlops data sample cifar10")
def sample(name: Name = None, json: Json = False) -> None:
    """Generate a small data set in the official layout, offline, and version it."""
    from openmlops.operations.data.datasets import make_sample

    workspace = Workspace.open(name)
    _print(_placed(workspace, make_sample(workspace)), json)


@app.command(name="tiny-person", epilog="Example: openmlops data tiny-person ~/datasets/coco128 --train 40")
def tiny_person(
    coco128: Annotated[Path, typer.Argument(metavar="COCO128_FOLDER", help="Folder of the unpacked COCO128 archive.")],
    train: Annotated[int, typer.Option(min=1, help="Number of training images.")] = 40,
    validation: Annotated[int, typer.Option(min=1, help="Number of validation images, for model selection.")] = 10,
    test: Annotated[int, typer.Option(min=1, help="Number of test images.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed for sampling; the same seed selects the same images.")] = 0,
    json: Json = False,
) -> None:
    """Sample a small data set from the COCO128 images that show people (about 60), and version it for the use case person."""
    from openmlops.operations.data.datasets import make_tiny_person

    workspace = Workspace.open("person")
    _print(_placed(workspace, make_tiny_person(workspace, coco128, train, validation, test, seed)), json)


@app.command(epilog="Example: openmlops data fetch cifar10")
def fetch(
    name: Name = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Fetch the published pretrained weights instead of the data.")
    ] = False,
    archive: Annotated[Path | None, typer.Option(help="Local copy of the archive; nothing is downloaded.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Mirror of the official archive; the official checksum still applies.")
    ] = None,
    json: Json = False,
) -> None:
    """Download the official archive (resumable), verify its published checksum, and version it."""
    from openmlops.operations.data import datasets

    workspace = Workspace.open(name)
    with bar("Downloading") as show:
        given = (workspace, archive, url, lambda done, total: show(done, total or 0, f"{done / 1e6:.0f} MB"))
        if weights:
            found = datasets.fetch_weights(*given).model_dump(mode="json")
        else:
            found = _placed(workspace, datasets.fetch(*given))
    _print(found, json)


@app.command(epilog="Example: openmlops data add /mnt/new/cifar-10-batches-py")
def add(
    folder: Annotated[Path, typer.Argument(help="Folder in the layout of the use case, or in one that init reads.")],
    name: Name = None,
    on_bad_label: OnBadLabel = StopOrSkip.stop,
    on_left_out: OnLeftOut = StopOrSkip.stop,
    group_by: GroupedBy = Grouping.auto,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Add FOLDER as the new version of the data set, if it passes the checks."""
    from openmlops.operations.data.datasets import add_with_notes

    workspace, skip = Workspace.open(name), skips(on_left_out, strict)
    with counting("Reading the images") as show:
        added = add_with_notes(workspace, folder, on_bad_label.value, strict, skip, on_progress=show, group_by=group_by.value)
    notes = [note.model_dump(mode="json") for note in added.notes]
    more = {"account": added.account.model_dump(mode="json"), "notes": notes}
    _print(_placed(workspace, added.dataset) | (more if json else {}), json)
    say_account(added.account)
    for note in added.notes:
        say(f"- {note}")


@app.command(
    epilog="Examples: openmlops data remove train/cat/blurred.jpg; openmlops data remove --decision 1f37d9a2720c --dry-run"
)
def remove(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Images, folders or patterns below the data set's folder.")
    ] = None,
    listed: Annotated[Path | None, typer.Option("--list", help="Text file with more paths, one a line.")] = None,
    decision: Annotated[str | None, typer.Option(help="Production images that the retraining of this decision added.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Production images sent since then, such as 2026-11-30 or 2026-11-30T08:00; UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Production images sent before then.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name the images.")] = False,
    json: Json = False,
) -> None:
    """Take images out of the data set, as a new version. Earlier versions keep them, and no retraining brings them back."""
    from openmlops.operations.data import removal

    workspace = Workspace.open()
    names = (*(paths or ()), *(removal.read_list(listed) if listed else ()))
    which = removal.Which(paths=names, decision=decision, since=moment("--since", since), until=moment("--until", until))
    found = removal.remove(workspace, which, dry_run)
    if json:
        return print_json(found)
    if found.dataset is None:
        for path in found.images:
            print_line(path)
        return say(f"{_images(found.images)}. Nothing was changed.")
    _print(_placed(workspace, found.dataset), json)
    return say(f"{_images(found.images)} removed. Train on what is left: openmlops train")


@app.command(epilog="Example: openmlops data pull cifar10")
def pull(name: Name = None, json: Json = False) -> None:
    """Pull the recorded version from the DVC remote and verify every file."""
    from openmlops.operations.data.datasets import ingest

    workspace = Workspace.open(name)
    _print(_placed(workspace, ingest(workspace)), json)


@app.command(epilog="Example: openmlops data status --json")
def status(name: Name = None, json: Json = False) -> None:
    """Show the local version and whether its files match the record."""
    from openmlops.operations.data.datasets import status as read

    _print(read(Workspace.open(name)).model_dump(mode="json"), json)


@app.command(epilog="Example: openmlops data check cifar10")
def check(name: Name = None, on_left_out: OnLeftOut = StopOrSkip.stop, strict: Strict = False, json: Json = False) -> None:
    """Check the data set for problems; exit code 1 if one blocks training."""
    from openmlops.operations.data.datasets import check as run

    workspace = Workspace.open(name)
    with counting("Reading the images") as show:
        report = run(workspace, strict, skips(on_left_out, strict), show)
    if json:
        print_json(report.model_dump(mode="json") | {"dataset": _placed(workspace, report.dataset)})
    else:
        rows = [
            ("blocks" if p.blocking else "note", p.where, p.what, p.count, ", ".join(map(str, p.rows))) for p in report.problems
        ]
        print_table("Problems", ("severity", "where", "problem", "count", "first rows"), rows)
        say("The data set passed the checks." if report.passed else "The data set did not pass: training is blocked.")
    if report.account is not None:
        say_account(report.account)
    if not report.passed:
        raise typer.Exit(1)


def _images(paths: "Sequence[str]") -> str:
    return f"{len(paths)} image{'' if len(paths) == 1 else 's'}"


def _placed(workspace: Workspace, version: "DatasetRef") -> dict[str, Any]:
    """A version as it is printed, with the folder in which it lies here."""
    found = version.model_dump(mode="json", exclude={"index"})
    return {"name": found.pop("name"), "path": str(workspace.data_folder), **found}


def _print(value: dict[str, Any], json: bool) -> None:
    if json:
        return print_json(value)
    return print_table("Data set", ("field", "value"), value.items())
