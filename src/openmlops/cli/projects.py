"""`init`: a project for your own data, or the `.env` of a server stack."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli.options import GroupedBy, Grouping, OnBadLabel, OnLeftOut, StopOrSkip, Strict, skips
from openmlops.cli.show import Json, print_json, print_table, say_account
from openmlops.errors import DataInvalid, SettingsError
from openmlops.terminal import counting, say

if TYPE_CHECKING:
    from openmlops.operations.projects.create import NewProject

MAX_SHOWN = 20


class StackName(StrEnum):
    """A set of servers that ships with the project."""

    compose = "compose"


class KindName(StrEnum):
    """What a model says of an image."""

    classification = "classification"
    detection = "detection"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: openmlops init flowers --kind classification --data ~/pictures/flowers")(init)


def init(
    context: typer.Context,
    project: Annotated[
        Path | None, typer.Argument(metavar="[PROJECT]", help="Folder of the new project, such as my-project.")
    ] = None,
    kind: Annotated[
        KindName | None, typer.Option(help="classification: one folder per class. detection: images and labels in YOLO format.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of your images; its files are copied.")] = None,
    servers: Annotated[
        StackName | None,
        typer.Option("--stack", help="Configure servers instead of creating a project; compose: those in deploy/compose.yml."),
    ] = None,
    on_bad_label: OnBadLabel = StopOrSkip.stop,
    on_left_out: OnLeftOut = StopOrSkip.stop,
    group_by: GroupedBy = Grouping.auto,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Create a project from your own images; or, with --stack, write the servers' .env file.

    A project is a folder with a use case of a few lines and your data as its first version: train, serve and all other commands
    work in it. The .env of a stack gets the address of each server and a new secret wherever one is needed. Values in it stay.
    """
    if servers is not None:
        _refuse_beside_stack(context)
        return _init_stack(json)
    if project is None or kind is None or data is None:
        given = {"PROJECT": project, "--kind": kind, "--data": data}
        problem = f"A project requires {' and '.join(name for name, value in given.items() if value is None)}"
        remedy = "Write it as openmlops init my-project --kind classification --data FOLDER; for servers: --stack compose"
        raise SettingsError(problem, remedy)
    return _init_project(project, kind, data, on_bad_label, strict, skips(on_left_out, strict), group_by, json)


def _refuse_beside_stack(context: typer.Context) -> None:
    """Raises SettingsError if anything else but --json is given with --stack."""
    others = {each.name or "": each for each in context.command.params if each.name not in ("servers", "json")}
    given = [each for name, each in others.items() if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if names := ["PROJECT" if each.param_type_name == "argument" else each.opts[0] for each in given]:
        problem = f"--stack creates no project, and {' and '.join(names)} {'is' if len(names) == 1 else 'are'} for a project"
        raise SettingsError(problem, "Run two commands: one for the project, one with --stack alone")


def _init_stack(json: bool) -> None:
    from openmlops.operations.projects.env_file import prepare_compose

    found = prepare_compose(Path.cwd())
    if json:
        return print_json(found)
    say(f"{found.path}: {len(found.added)} variables added, {len(found.kept)} kept. It contains secrets; only you can read it.")
    return say("Next: docker compose up -d --build --wait   then: openmlops doctor")


def _init_project(
    project: Path,
    kind: KindName,
    data: Path,
    on_bad_label: StopOrSkip,
    strict: bool,
    skip: bool,
    group_by: Grouping,
    json: bool,
) -> None:
    from openmlops.operations.projects.create import create

    try:
        with counting("Reading the images") as show:
            made = create(project, kind.value, data, on_bad_label.value, strict, skip, show, group_by.value)
    except DataInvalid as error:
        for problem in error.problems[:MAX_SHOWN] if len(error.problems) > 1 else ():
            say(f"- {problem}")
        raise
    print_json(made) if json else _print(made, project)


def _print(made: "NewProject", project: Path) -> None:
    from openmlops.core.gate.sample_size import sentences

    looked_at = [("model input", f"{made.side}x{made.side} pixels")] if made.side else []
    rows = [
        ("classes", ", ".join(made.classes[:20]) + (", ..." if len(made.classes) > 20 else "")),
        ("images", f"{made.train} training, {made.validation} validation, {made.test} test"),
        *looked_at,
        ("data version", made.fingerprint[:12]),
    ]
    print_table(f"Project {made.name}", ("what", "value"), rows)
    say_account(made.account)
    for note in (*(sentences(made.holdout) if made.holdout else ()), *made.notes):
        say(f"- {note}")
    say(f"Next: cd {project} && openmlops train")
