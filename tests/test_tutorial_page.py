"""docs/tutorial.md, typed: every command is given, in its order, and what it says is compared with the page's example.

Compared in form: numbers and identifiers may be others, and what the page leaves out (`...`) anything. The commands of a
folder run in one process, as a shell would run them but for the time that importing takes; the server is a process of its own.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ports import free_port
from processes import is_healthy, process
from shapes import folders
from user_folder import PROGRAM, Folder

PAGE = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text()
STEP = re.compile(r"```sh\n(.*?)```(?:\s*```text\n(.*?)```)?", re.DOTALL)
DRIVER = """
import json, sys
from openmlops.cli import app
from openmlops.terminal import exit_code
for line in sys.stdin:
    words = json.loads(line)
    code = exit_code(lambda: app(words, standalone_mode=False))
    sys.stdout.flush()
    print(f"\\nended {code}", flush=True)
"""
"""Gives commands one after the other, as `openmlops` does."""


def steps() -> list[tuple[str, str]]:
    """Each command of the page with its example, which is empty where there is none."""
    found = []
    for commands, example in STEP.findall(PAGE):
        *before, last = commands.strip().splitlines()
        found += [(command, "") for command in before] + [(last, example)]
    return found


class Shell:
    """The commands of the page, given in a folder."""

    def __init__(self, folder: Folder, port: int, stack: ExitStack) -> None:
        self.folder, self.port, self.stack, self.place = folder, port, stack, folder.path
        self.driver = self._driver()

    def _driver(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            cwd=self.place,
            env=self.folder.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, command: str) -> str:
        """Give one command; what it said. Fails if it ended badly."""
        if appended := re.fullmatch(r"echo (\S+) >> (\S+)", command):
            with (self.place / appended[2]).open("a") as file:
                file.write(f"{appended[1]}\n")
            return ""
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        if words[0] == "cd":
            self.place = self.place / words[1]
            narrow(self.place / "my_shapes.py")
            self.close()
            self.driver = self._driver()
            return ""
        if words[:2] == ["openmlops", "serve"]:
            return self._serve()
        return self._give([*words[words[0] == "openmlops" :], *(["--url", self._url] if words[1] == "traffic" else [])])

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> str:
        log, command = self.folder.path / "serve.log", [PROGRAM, "serve", "--port", str(self.port)]
        ready = is_healthy(f"{self._url}/health/ready")
        self.stack.enter_context(process(command, log, ready, self.folder.environment, folder=self.place))
        return log.read_text()

    def _give(self, words: list[str]) -> str:
        assert self.driver.stdin is not None
        assert self.driver.stdout is not None
        self.driver.stdin.write(json.dumps(words) + "\n")
        self.driver.stdin.flush()
        said = []
        for line in self.driver.stdout:
            if ended := re.fullmatch(r"ended (\d+)\n", line):
                assert ended[1] == "0", f"{words}: {''.join(said)}"
                return "".join(said)
            said.append(line)
        raise AssertionError(f"{words} ended the process: {''.join(said)}")

    def close(self) -> None:
        """No more commands."""
        assert self.driver.stdin is not None
        self.driver.stdin.close()
        self.driver.wait(120)


def narrow(module: Path) -> None:
    """A network of half the width, as the file invites to: a quarter of the work, and half the columns to watch."""
    text = module.read_text()
    line = "    flip: bool = Field(True,"
    assert line in text
    module.write_text(text.replace(line, f"    width: int = Field(8, ge=4)\n{line}"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Where the page begins: a folder with the pictures that it speaks of."""
    folder = Folder(tmp_path / "home")
    folders(folder.path / "pictures", 200, 0)
    folders(folder.path / "new", 150, 1)
    with ExitStack() as stack:
        found = Shell(folder, free_port(), stack)
        stack.callback(found.close)
        yield found


def first_unlike(example: str, said: str) -> str:
    """The first line of the example that does not come, in its order, in what was said; empty if all do."""
    lines = iter([_words(line) for line in said.splitlines()])
    for line in example.strip().splitlines():
        if line.strip() != "..." and not any(re.fullmatch(_form(line), found) for found in lines):
            return line
    return ""


def _words(line: str) -> str:
    return " ".join(line.split())


def _form(line: str) -> str:
    """A pattern for lines that differ in numbers and identifiers only."""
    identifier, number = r"[0-9a-f]{12,32}", r"\d[\d,.:]*"
    parts = re.split(rf"({identifier}|{number}|\.\.\.)", _words(line))
    forms = {"...": ".*"}
    return "".join(
        re.escape(part) if index % 2 == 0 else forms.get(part, identifier if re.fullmatch(identifier, part) else number)
        for index, part in enumerate(parts)
    )


def test_a_line_of_an_example_is_found_whatever_its_numbers_and_not_with_other_words() -> None:
    example = "accuracy 98.3 % (94.1 to 99.5)\n...\nversion 375f5c44e8c1"
    assert first_unlike(example, "accuracy\t7 % (1.0 to 9.9)\nmore\nversion 0123456789ab") == ""
    assert first_unlike(example, "accuracy 7 % (1.0 to 9.9)\nversion unknown") == "version 375f5c44e8c1"
    assert first_unlike(example, "version 0123456789ab\naccuracy 7 % (1.0 to 9.9)") == "version 375f5c44e8c1"


@pytest.mark.wheel
@pytest.mark.slow
def test_every_step_of_the_page_works_and_says_what_the_page_says(shell: Shell) -> None:
    assert {command.split()[1] for command, _ in steps() if command.startswith("openmlops")} >= {
        *("init", "train", "history", "serve", "traffic", "monitor", "cycle", "promote"),
    }
    for command, example in steps():
        said = shell.type(command)
        assert first_unlike(example, said) == "", f"{command} said:\n{said}"
    (last,) = [json.loads(shell._give(["history", "my_shapes", "--json"]))["entries"][-1]]
    assert last["champion"] == 2
