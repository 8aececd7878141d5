"""Commands as a user gives them: in processes of their own (`warm`), in an empty folder, with a home that is empty too."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import warm
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

PROGRAM = Path(sys.executable).parent / "openmlops"
SECONDS = 800
"""limit of a command"""
SEVERAL = """
import contextlib, io, json, sys
from openmlops.cli import main
found = []
for words in json.loads(sys.argv[1]):
    sys.argv, out, err = ["openmlops", *words], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


class Folder:
    """An empty folder with a user's home in it, and the commands that are given there."""

    def __init__(self, path: Path, program: Path = PROGRAM) -> None:
        self.path, self.program = path, program
        outside = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
        self.environment = {**outside, "HOME": str(path / "user"), "XDG_CONFIG_HOME": str(path / "user" / ".config")}
        self.environment.pop("ZENML_CONFIG_PATH", None)
        (path / "user").mkdir(parents=True, exist_ok=True)

    def below(self, name: str) -> Self:
        """The same user in a folder below."""
        found = copy.copy(self)
        found.path = self.path / name
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end. Python begins anew for a `program` that is not this environment's."""
        if self.program == PROGRAM:
            return warm.run(words, PROGRAM, self.path, self.environment, SECONDS)
        return subprocess.run(
            [self.program, *words], cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=SECONDS
        )

    def json(self, *words: str) -> dict[str, Any]:
        """The one object that a command prints. Fails with what it said if it did not end well."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, commands: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        """The one line that each of several commands says; all must fail with exit code 1 and print nothing.

        They are given to one process, in turn: libraries are loaded once.
        """
        given = list(commands)
        arguments = [sys.executable, "-c", SEVERAL, json.dumps(given)]
        done = subprocess.run(arguments, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        said = {}
        for words, (code, out, err) in zip(given, json.loads(done.stdout), strict=True):
            assert (code, out) == (1, ""), words
            (said[words],) = err.strip().splitlines()
        return said

    @property
    def workspace(self) -> Workspace:
        """What the commands work on."""
        return Workspace(Settings(openmlops_home=self.path / ".openmlops", data_raw_dir=self.path / "data" / "raw"))
