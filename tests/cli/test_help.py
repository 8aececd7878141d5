"""Every command explains itself, with an example that can be typed, and the help is there at once."""

import re
import subprocess
import sys

import pytest

from commands import every_command, unknown

HEAVY = (
    "torch",
    "mlflow",
    "zenml",
    "dvc",
    "pandas",
    "numpy",
    "sqlalchemy",
    "evidently",
    "pydantic",
    "onnxruntime",
    "matplotlib",
)
"""what the help does without; the last import of these alone doubles its time"""
EXAMPLE = re.compile(r"(?:[A-Z_]+=\S+ )*openmlops (.+)")


COMMANDS = every_command()


def test_the_commands_are_found_also_those_of_groups() -> None:
    assert {("train",), ("data", "add"), ("stack", "check")} <= {words for words, _ in COMMANDS}


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda one: " ".join(one) if isinstance(one, tuple) else "")
def test_a_command_says_what_it_does_and_shows_an_example_that_can_be_typed(words, command) -> None:
    assert re.match(r"[A-Z].*[.;:]", command.help or "", re.DOTALL), "no sentence"
    assert all(parameter.help for parameter in command.params), "an option or argument without a help"
    head, _, examples = (command.epilog or "").partition(": ")
    assert head in ("Example", "Examples"), f"no example: {command.epilog!r}"
    for example in examples.split("; "):
        found = EXAMPLE.fullmatch(example)
        assert found, example
        typed = found[1].split()
        assert tuple(typed[: len(words)]) == words
        assert unknown(typed) == []


def test_the_help_imports_nothing_heavy() -> None:
    code = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); from openmlops.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert "Usage: " in done.stdout, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert "openmlops.cli.monitoring" in imported
    assert imported & set(HEAVY) == set()
