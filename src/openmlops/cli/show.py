"""Output of results: one JSON object with `--json`, otherwise a table. Nothing else is printed to standard output."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openmlops.errors import escaped
from openmlops.terminal import note_result, say

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.text import Text

    from openmlops.core.types import Account

Full = Annotated[bool, typer.Option("--full", help="Show all columns and reasons in a terminal too.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


STYLES = {
    **dict.fromkeys(("ok", "promote", "promoted", "no drift", "champion"), "green"),
    **dict.fromkeys(("failed", "reject", "drift", "blocks"), "bold red"),
    **dict.fromkeys(("warning", "inconclusive", "not measurable", "rollback", "rolled back", "collect labels"), "yellow"),
}
"""styles of status words; the word itself carries the meaning too"""


def print_json(value: "BaseModel | dict[str, Any]") -> None:
    """Print one JSON object to standard output."""
    content = value if isinstance(value, dict) else value.model_dump(mode="json")
    print(json.dumps(content, indent=2, default=str))
    note_result()


def say_account(account: "Account") -> None:
    """Say what became of the files of a folder, on standard error."""
    for line in account.lines():
        say(line)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to a terminal, tab-separated lines elsewhere, for `cut` and `awk`."""
    if not _is_terminal():
        for row in (columns, *rows):
            print("\t".join(escaped(str(cell)) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(styled(escaped(str(cell))) for cell in row))
    Console(highlight=False, markup=False, emoji=False).print(table)


def is_short(full: bool) -> bool:
    """Whether to leave out what does not fit a terminal; a pipe gets all columns."""
    return not full and _is_terminal()


def _is_terminal() -> bool:
    """Whether standard output is a terminal by rich's rules; rich is only imported if that is possible."""
    from openmlops.settings import forces_terminal

    if not (sys.stdout.isatty() or forces_terminal()):
        return False
    from rich.console import Console

    return Console().is_terminal


def print_line(*parts: "Text | str") -> None:
    """Print one line to standard output, styled only in a terminal."""
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text.assemble(*parts))


def styled(text: str) -> "Text":
    """A text with the style of STYLES, if it is a status word."""
    from rich.text import Text

    return Text(text, STYLES.get(text.strip().replace("_", " "), ""))


def minute(at: datetime) -> str:
    """`2026-11-30 19:39`, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """`81.3 %`, with its interval where there is one: `81.3 % (80.5 to 82.1)`."""
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * value:.1f} %{interval}"
