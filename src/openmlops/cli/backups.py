"""`backup`, `restore`: one file with everything of a project that cannot be made again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from openmlops.cli.show import Json, print_json
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say, working


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: openmlops backup project.tar")(backup)
    app.command(epilog="Example: openmlops restore project.tar")(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="File to write, such as project.tar or project.tar.gz.")],
    keys: Annotated[bool, typer.Option("--keys", help="Also back up the key that signs the console's sessions.")] = False,
    json: Json = False,
) -> None:
    """Back up database, MLflow, data versions, inputs and pipeline runs while they are in use, and check the file.

    For a project without servers. Passwords and tokens of .env are not in it.
    """
    from openmlops.operations.projects.backup import back_up

    with working("Copying and checking"):
        found = back_up(Workspace.open(), file, keys)
    if json:
        return print_json(found)
    return say(f"{found.path}: {found.files} files, {found.bytes / 1024**2:.1f} MiB, checked.")


def restore(
    file: Annotated[Path, typer.Argument(help="A file made by openmlops backup.")],
    json: Json = False,
) -> None:
    """Restore a backup into OPENMLOPS_HOME. A running server notices and goes on with it.

    The previous databases are kept under OPENMLOPS_HOME/replaced. Files are added to those that are there.
    """
    from openmlops.operations.projects.restore import restore as run

    with working("Checking and restoring"):
        found = run(Workspace.open(), file, datetime.now(UTC))
    if json:
        return print_json(found)
    say(f"Restored {found.files} files of {found.at:%Y-%m-%d %H:%M} UTC.")
    if found.kept:
        lost = f"{found.predictions} predictions and {found.ledger_rows} ledger rows that the backup lacks"
        say(f"The database of before is {found.kept}. It has {lost}.")
    return None
