"""Commands as a user gives them: in processes of their own, in an empty folder, with a home that is empty too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

PROGRAM = Path(sys.executable).parent / "openmlops"


class Folder:
    """An empty folder with a user's home in it, and the commands that are given there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        outside = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
        self.environment = {**outside, "HOME": str(path / "user"), "XDG_CONFIG_HOME": str(path / "user" / ".config")}
        self.environment.pop("ZENML_CONFIG_PATH", None)
        (path / "user").mkdir(parents=True)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            [PROGRAM, *words], cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=280
        )

    def json(self, *words: str) -> dict[str, Any]:
        """The one object that a command prints. Fails with what it said if it did not end well."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def workspace(self) -> Workspace:
        """What the commands work on."""
        return Workspace(Settings(openmlops_home=self.path / ".openmlops", data_raw_dir=self.path / "data" / "raw"))
