"""`search`: trials of settings that Optuna samples; the best model is staged."""

import re
from typing import Annotated, Any

import typer

from openmlops.cli.grid import print_experiment
from openmlops.cli.options import UseCaseName, assignments, seconds, values
from openmlops.cli.show import Json, print_json
from openmlops.errors import SettingsError
from openmlops.operations.workspace import Workspace

EVEN = 10
"""factor between the ends of a positive range from which on it is searched on a logarithmic scale"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: openmlops search --trials 30 --budget 1h --jobs 2 --set lr=0.01..0.3")(search)


def search(
    use_case: UseCaseName = None,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Number of trials, those of earlier calls included.")] = 20,
    budget: Annotated[str | None, typer.Option(help="Time of the search, such as 10m or 2h, earlier calls included.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Trials to train in parallel; they share the CPU cores.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the settings that are drawn.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUES",
            help="Value, choices (a,b) or range (1..9) of a setting; repeatable.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Try settings that the use case declares, select on validation, report on test, alias the best as staging, gate it.

    Given again, it goes on where it was interrupted; with more trials or a larger budget it goes on further.
    """
    from openmlops.operations.training.search import search_of

    workspace = Workspace.open()
    given = {name: setting(text) for name, text in assignments(set_).items()}
    limits = {"trials": trials, "budget": seconds(budget) if budget else None, "jobs": jobs, "seed": seed}
    found = _run(workspace, search_of(workspace, given, **limits))
    print_json(found) if json else print_experiment(found, use_case)


def setting(text: str) -> Any:
    """`0.1` -> 0.1; `8,16` -> choices; `0.01..0.3` -> a range. Raises SettingsError."""
    from openmlops.core.search_space import Choices, Range

    if not (ends := re.fullmatch(r"([^.,]*\.?[^.,]*)\.\.([^.,]*\.?[^.,]*)", text)):
        found = values(text)
        return found[0] if len(found) == 1 else Choices(options=found)
    low, high = (found for end in ends.groups() for found in values(end))
    if not (type(low) in (int, float) and type(high) in (int, float) and low < high):
        raise SettingsError(f"'{text}' is not a range", "Write it as LOW..HIGH, as in lr=0.01..0.3")
    return Range(low=low, high=high, log=low > 0 and high >= EVEN * low, whole=type(low) is type(high) is int)


def _run(workspace: Workspace, search: Any) -> Any:
    from openmlops.settings import embed_zenml

    embed_zenml(workspace.home)
    from openmlops.pipelines.search_pipeline import run_search

    return run_search(search)
