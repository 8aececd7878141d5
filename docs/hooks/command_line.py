"""The page of every command, from the typer application itself: what it does, its arguments and options, its example."""

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from openmlops.cli import app

PAGE = "reference/commands.md"
KINDS = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
HEAD = """# Command line

Every command with its arguments, its options and an example, made from the program itself. `-h` and `--help` show the same in a
terminal. `--json`, where it is listed, prints one JSON object and nothing else. A command ends with 0 when it did what was
asked, with 1 after one line that says what was wrong and what to do, with 130 after Ctrl-C; what else it may end with stands
below.

`openmlops --install-completion` lets the shell complete commands, options, models, versions, use cases and decisions.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([HEAD, *(_section(words, command) for words, command in commands())])


def commands() -> Iterator[tuple[list[str], Any]]:
    """Each command with the words that call it, in the order of `openmlops --help`."""
    yield from _below(typer.main.get_command(app), ["openmlops"])


def example(command: Any) -> str:
    """The example of a command's help as one types it, or several, one a line."""
    return re.sub(r"^Examples?: ", "", command.epilog or "").replace("; ", "\n")


def _below(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    if (subcommands := getattr(command, "commands", None)) is None:
        yield words, command
        return
    for name, subcommand in subcommands.items():
        yield from _below(subcommand, [*words, name])


def _section(words: list[str], command: Any) -> str:
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-")]
    usage = " ".join([*words, *(_metavar(argument) for argument in arguments), *(["[OPTIONS]"] if command.params else [])])
    lines = [f"## {' '.join(words)}", "", _text(command.help or ""), "", "```text", usage, "```", "", "Example:", ""]
    lines += ["```console", example(command), "```", ""]
    lines += _table("argument", [(_metavar(p), _text(p.help or ""), _default(p)) for p in arguments])
    return "\n".join(lines + _table("option", [(_option(p), _text(p.help or ""), _default(p)) for p in options]))


def _table(kind: str, rows: list[tuple[str, str, str]]) -> list[str]:
    if not rows:
        return []
    cells = [f"| `{name.replace('|', chr(92) + '|')}` | {what} | {default} |" for name, what, default in rows]
    return [f"| {kind} | meaning | default |", "|---|---|---|", *cells, ""]


def _metavar(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} {_value(parameter)}"


def _value(parameter: Any) -> str:
    """What an option takes: its metavar, its choices, or the kind of value."""
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(choice.value for choice in kind)
    return parameter.metavar or KINDS.get(kind, "TEXT")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    return "" if value is None or value is False or value == () else f"`{value}`"


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
