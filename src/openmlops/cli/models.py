"""`evaluate`, `models`, `history`, `promote`, `rollback`, `settings`: registered models and the champion."""

from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli import completion
from openmlops.cli.evaluations import figures, print_evaluation
from openmlops.cli.options import Expect, UseCaseName
from openmlops.cli.show import Full, Json, is_short, minute, percent, print_json, print_table
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say, working

if TYPE_CHECKING:
    from openmlops.core.types import LedgerEntry
    from openmlops.operations.release.listing import ModelRow

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Name of a registered model, such as cifar10_cnn.", autocompletion=completion.models),
]
Version = Annotated[
    str,
    typer.Argument(metavar="MODEL/VERSION", help="Model version, such as cifar10_cnn/3.", autocompletion=completion.versions),
]
Spec = Annotated[
    str,
    typer.Argument(
        metavar="MODEL@ALIAS|MODEL/VERSION",
        help="Model version, such as cifar10_cnn@champion or cifar10_cnn/3.",
        autocompletion=completion.versions_and_aliases,
    ),
]
MOST_OF_AN_ACTOR = 20
"""characters in a short table"""
Reason = Annotated[str | None, typer.Option(help="A note for the ledger.")]
Force = Annotated[bool, typer.Option("--force", help="Promote whatever the gate decides; needs --reason.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: openmlops evaluate cifar10_cnn@champion --json")(evaluate)
    app.command(epilog="Example: openmlops models")(models)
    app.command(epilog="Example: openmlops history cifar10_cnn")(history)
    app.command(epilog="Example: openmlops promote cifar10_cnn/3")(promote)
    app.command(epilog="Example: openmlops rollback cifar10_cnn --reason 'complaints from site 4'")(rollback)
    app.command(epilog="Example: SIMULATE_DRIFT=1 openmlops settings")(settings)


def evaluate(model: Spec, use_case: UseCaseName = None, json: Json = False) -> None:
    """Evaluate a version's exported model on the test split of the current data."""
    from openmlops.operations.release.scoring import evaluate_version

    with working(f"Running {model} on the test split"):
        found = evaluate_version(_opened(), model)
    if json:
        return print_json(found)
    print_evaluation(model, found)
    return say("   ".join(f"{name}: {value}" for name, value in figures(found)))


def models(full: Full = False, json: Json = False) -> None:
    """List registered models, their versions and the current champions."""
    from openmlops.operations.release.listing import overview

    found = overview(_opened())
    if json:
        return print_json({"models": [row.model_dump(mode="json") for row in found]})
    rows = [
        (f"{r.name}/{r.version}", _status(r), percent(r.score) if r.score is not None else "", r.dataset[:12], r.run_id)
        for r in found
    ]
    if not is_short(full):
        return print_table("Registered versions", ("version", "status", "test score", "data", "run"), rows)
    return print_table("Registered versions", ("version", "status", "test score", "data"), [row[:-1] for row in rows])


def history(model: Model, full: Full = False, json: Json = False) -> None:
    """Show which version was in production, when and why: the ledger, with its hash chain verified."""
    from openmlops.operations.release.listing import history as read

    entries = read(Workspace.open(), model)
    if json:
        return print_json({"model": model, "entries": [entry.model_dump(mode="json") for entry in entries]})
    if not is_short(full):
        columns = ("#", "time", "event", "version", "champion", "by", "reasons")
        return print_table(f"Ledger of {model}", columns, map(_row, entries))
    rows = [(e.sequence, minute(e.at), e.kind, e.version, e.champion or "none", e.actor[:MOST_OF_AN_ACTOR]) for e in entries]
    print_table(f"Ledger of {model}", ("#", "time (UTC)", "event", "version", "champion", "by"), rows)
    return say(f"Reasons: openmlops history {model} --full")


def promote(
    version: Version,
    reason: Reason = None,
    force: Force = False,
    expect: Expect = None,
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Submit a version to the gate and promote it if it passes. With --force, promote it whatever the gate decides."""
    from openmlops import api

    with working(f"Comparing {version} with the champions"):
        entry = api.promote(version, reason, force=force, expect=expect)
    _print_entry(entry, json)


def rollback(
    model: Model,
    reason: Reason = None,
    to: Annotated[
        int | None, typer.Option(min=1, metavar="VERSION", help="A former champion to restore instead of the last.")
    ] = None,
    expect: Expect = None,
    json: Json = False,
) -> None:
    """Restore the previous champion, once its files are verified. Adds a row to the ledger; nothing is rewritten. To go back
    further, pass --expect or --to."""
    from openmlops import api

    _print_entry(api.rollback(model, reason, to=to, expect=expect), json)


def settings(json: Json = False) -> None:
    """Show the effective settings and the source of each; secrets are hidden."""
    from openmlops.settings import Settings

    values, sources = Settings.load().masked(), Settings.sources()
    if json:
        return print_json({name: {"value": value, "source": sources[name.lower()]} for name, value in values.items()})
    rows = [
        (name, value, sources[name.lower()], Settings.model_fields[name.lower()].description) for name, value in values.items()
    ]
    return print_table("Settings", ("variable", "value", "source", "description"), rows)


def _status(row: "ModelRow") -> str:
    return f"{row.stands_as} ({row.gone})".strip() if row.gone else row.stands_as


def _opened() -> Workspace:
    """The workspace, after closing runs of dead processes."""
    from openmlops.operations.run_leases import close_orphans

    workspace = Workspace.open()
    close_orphans(workspace)
    return workspace


def _row(entry: "LedgerEntry") -> tuple[object, ...]:
    at = entry.at.isoformat(sep=" ", timespec="seconds")
    return entry.sequence, at, entry.kind, entry.version, entry.champion or "none", entry.actor, "; ".join(entry.reasons)


def _print_entry(entry: "LedgerEntry", json: bool) -> None:
    if json:
        return print_json(entry)
    return print_table(
        f"Ledger of {entry.model}", ("#", "time", "event", "version", "champion", "by", "reasons"), [_row(entry)]
    )
