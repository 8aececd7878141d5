"""`selftest`: the promises about faults, tried on this machine."""

from typing import Annotated

import typer

from openmlops.cli.show import Json, print_json, print_table
from openmlops.terminal import counting, say


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: openmlops selftest --faults")(selftest)


def selftest(
    faults: Annotated[bool, typer.Option("--faults", help="Kill processes, fill disks, damage and take away files.")] = False,
    json: Json = False,
) -> None:
    """Inject faults into processes of its own, in a temporary folder, and check what docs/reliability.md promises. Touches no
    project; takes a minute or two. Exit code 1 if a promise does not hold."""
    from openmlops.errors import OpenMLOpsError, SettingsError
    from openmlops.selftest.run import run_faults
    from openmlops.settings import quiet_libraries

    if not faults:
        raise SettingsError("openmlops selftest was not told what to test", "Pass --faults")
    quiet_libraries()
    with counting("Injecting faults") as done:
        card = run_faults(done)
    if json:
        print_json(card)
    else:
        rows = [(r.promise, r.fault, "ok" if r.holds else "failed", r.figure, f"{r.seconds:.1f} s") for r in card.rows]
        print_table(f"Faults on {card.machine}", ("promise", "fault", "result", "figure", "time"), rows)
        say(f"{len(card.rows) - len(card.broken)} of {len(card.rows)} promises held, in {card.seconds:.0f} s.")
    if card.broken:
        names = ", ".join(row.promise for row in card.broken)
        problem = f"{len(card.broken)} of {len(card.rows)} promises did not hold: {names}"
        raise OpenMLOpsError(problem, "See the table, and docs/reliability.md")
