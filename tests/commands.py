"""Whether what a document or a script tells a person to type exists: `openmlops` commands with their options, make targets."""

import re
from pathlib import Path
from typing import Any

import typer

from openmlops.cli import app

ROOT = Path(__file__).parent.parent


def unknown(words: list[str]) -> list[str]:
    """The words after `openmlops` that name no command, group or option. Values are not looked at."""
    command, rest = typer.main.get_command(app), list(words)
    while commands := getattr(command, "commands", None):
        if rest and rest[0].startswith("-"):
            break
        if not rest or rest[0] not in commands:
            return rest[:1]
        command = commands[rest.pop(0)]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in rest if word.startswith("-") and word.split("=")[0] not in options | {"-h", "--help"}]


def every_command() -> list[tuple[tuple[str, ...], Any]]:
    """Each command with its name as words, those of groups too."""
    return _below(typer.main.get_command(app), ())


def _below(command: Any, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if (subcommands := getattr(command, "commands", None)) is None:
        return [(words, command)]
    return [found for name, one in subcommands.items() for found in _below(one, (*words, name))]


def make_targets() -> set[str]:
    """Every target of the Makefile."""
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
