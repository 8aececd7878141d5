"""`openmlops ledger ...`: whether the ledger is the whole and newest one, and what to do where it is not."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli import completion
from openmlops.cli.show import Json, print_json, print_table
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

if TYPE_CHECKING:
    from openmlops.operations.release.witnesses import Testimony

app = typer.Typer(help="Check, restore, sign, export and verify the ledger of a model.", no_args_is_help=True)
Model = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="Registered model. Default: that of USE_CASE.", autocompletion=completion.models),
]


def add_to(above: typer.Typer) -> None:
    """Hang these commands under `openmlops`."""
    above.add_typer(app, name="ledger")


@app.command(epilog="Example: openmlops ledger check cifar10_cnn")
def check(model: Model = None, json: Json = False) -> None:
    """Verify the hash chain, and compare its end with what MLflow, the object store and the server know. Exit code 1 if rows
    are lost."""
    from openmlops.operations.release.witnesses import behind, testimony

    workspace = Workspace.open()
    found = testimony(workspace, _name(workspace, model))
    if json:
        print_json(found)
    else:
        print_table(f"Ledger of {found.model}", ("place", "rows", "hash", "champion", "says"), _rows(found))
    if found.against:
        raise behind(found)


@app.command(epilog="Example: openmlops ledger restore cifar10_cnn")
def restore(
    model: Model = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A database file to take the rows from, instead of the copy.")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Go on with the rows that are here, on purpose; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why the ledger starts anew.")] = "",
    json: Json = False,
) -> None:
    """Get the lost rows of a ledger back. Rows that were written without them are appended as records."""
    from openmlops.errors import SettingsError
    from openmlops.operations.release import ledger_restore

    workspace, now = Workspace.open(), datetime.now(UTC)
    name = _name(workspace, model)
    if anew and source:
        raise SettingsError("--anew takes no rows, and --from names some", "Pass one of both")
    found = (
        ledger_restore.begin_anew(workspace, name, reason, now)
        if anew
        else ledger_restore.restore(workspace, name, now, source)
    )
    if json:
        return print_json(found)
    champion = f"champion: version {found.champion}" if found.champion else "no champion"
    done = f"{found.restored} restored, {found.merged} merged as records" if not anew else "declared to be the whole ledger"
    say(f"The ledger of {name} has {found.rows} rows ({champion}): {done}.")
    if found.kept:
        say(f"What was there before is in {found.kept}.")
    return None


@app.command(epilog="Example: openmlops ledger key ~/ledger-key.pem")
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to put it; the public key goes to FILE.pub.")],
    json: Json = False,
) -> None:
    """Make a key that signs the ledger after each row (LEDGER_SIGNING_KEY). Keep it where nobody who writes the database can
    read it."""
    from openmlops.adapters import ed25519

    made, public = ed25519.identity(ed25519.make(file)), ed25519.public_path(file)
    if json:
        return print_json({"key": made, "private": str(file), "public": str(public)})
    say(f"Made the key {made} in {file}, and its public key in {public}.")
    say(f"Set LEDGER_SIGNING_KEY={file} to sign the ledger with it.")
    return None


@app.command(epilog="Example: openmlops ledger export cifar10_cnn --to ledger.jsonl")
def export(
    model: Model = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. Default: standard output.")] = None,
) -> None:
    """Write all rows as they are stored, and the signed heads, as JSON lines that anybody can verify (docs/ledger.md)."""
    from openmlops.files import write_text
    from openmlops.operations.release import ledger_evidence, witnesses

    workspace = Workspace.open()
    name = _name(workspace, model)
    text = ledger_evidence.lines(workspace.ledger.rows(name), witnesses.signed_heads(workspace, name))
    if to is None:
        return typer.echo(text, nl=False)
    say(f"Wrote {len(text.splitlines())} lines to {write_text(to, text)}.")
    return None


@app.command(epilog="Example: openmlops ledger verify ledger.jsonl --key ledger-key.pem.pub")
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An export.")],
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The public key that signed the heads.")] = None,
    json: Json = False,
) -> None:
    """Say what an export proves and what not. Exit code 1 if a row was changed, or differs from what was signed."""
    from openmlops.adapters import ed25519
    from openmlops.files import content_of, readable
    from openmlops.operations.release import ledger_evidence

    text = readable(file, content_of).decode(errors="replace")
    found = ledger_evidence.verify(text, str(file), ed25519.public_key(key) if key else None)
    if json:
        return print_json(found)
    say(f"{found.model}: {found.says}.")
    return None


def _name(workspace: Workspace, model: str | None) -> str:
    from openmlops.core.types import model_name

    return model_name(model) if model else workspace.model_name


def _rows(found: "Testimony") -> list[tuple[object, ...]]:
    own = ("the database", found.row, found.hash[:12], found.champion or "none", "chain verified" if found.row else "empty")
    others = ((each.place, each.row, each.hash[:12], each.champion or "none", each.says) for each in found.witnesses)
    return [own, *others]
