"""`prune`: what is beyond its retention."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli.options import UseCaseName
from openmlops.cli.show import Json, print_json, print_table
from openmlops.operations.workspace import Workspace
from openmlops.terminal import fail, say, working

if TYPE_CHECKING:
    from openmlops.operations.retention.report import Pruned


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: openmlops prune --dry-run")(prune)


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    trust_clock: Annotated[
        bool, typer.Option("--trust-clock", help="Prune also if nothing was pruned or predicted for a month.")
    ] = False,
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Delete what is older than the RETENTION_ settings allow and needed by nothing. The watcher does it once a day.

    Old predictions remain as hourly totals. Champions, former champions, the latest versions and whatever they need stay.
    """
    from openmlops.operations.retention.prune import prune as run
    from openmlops.operations.retention.prune import require_sound_clock
    from openmlops.operations.retention.report import size
    from openmlops.pipelines.run_records import prune_pipeline_runs

    workspace, now = Workspace.open(), datetime.now(UTC)
    if not dry_run and not trust_clock:
        require_sound_clock(workspace, now)
    with working("Looking for what is beyond its retention" if dry_run else "Deleting what is beyond its retention"):
        found = run(workspace, now, dry_run, (prune_pipeline_runs,))
    if json:
        print_json(found)
    else:
        deleted = "would be deleted" if dry_run else "deleted"
        columns = ("what", deleted, "size", "oldest kept", "kept because")
        print_table("Retention", columns, map(_row, found.pruned))
        freed = f"about {size(found.bytes)}"
        say(f"{freed[0].upper()}{freed[1:]} would be freed; nothing was changed." if dry_run else f"Freed {freed}.")
    for problem in found.problems:
        fail(problem)
    if found.problems:
        raise typer.Exit(1)


def _row(each: "Pruned") -> tuple[object, ...]:
    from openmlops.operations.retention.report import size

    oldest = f"{each.oldest:%Y-%m-%d %H:%M}" if each.oldest else ""
    return each.what, each.deleted, "" if each.bytes is None else size(each.bytes), oldest, each.why
