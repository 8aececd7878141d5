"""How results look: one JSON object with `--json`, else a table for a person. Standard output holds nothing else."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One object on standard output."""
    content = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    print(json.dumps(content, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table in a terminal; tab-separated lines elsewhere, so that `cut` and `awk` can read it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        for row in (columns, *rows):
            print("\t".join(str(cell) for cell in row))
        return
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell).replace("[", "\\[") for cell in row))
    console.print(table)


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """`81.3 %`, with its interval where there is one: `81.3 % (80.5 to 82.1)`."""
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f} %{interval}"
