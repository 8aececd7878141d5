"""Another user's project, by a really different user id: what he may not write is named in one line, his copy is his own."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mlflow_tables import with_tables
from openmlops.adapters import database
from unprivileged import OTHER, as_another_user
from user_folder import PROGRAM

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that others may enter, as they may not enter pytest's."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Gives commands as the other user."""
    if not (given := as_another_user(tmp_path)):
        pytest.skip("only root can be another user, with setpriv")

    def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": os.environ["PATH"], "HOME": str(place), "LANG": "C.UTF-8"}
        program = [*given, str(PROGRAM), *words]
        return subprocess.run(program, cwd=place, env=variables, capture_output=True, text=True, timeout=300)

    return command


def project(place: Path) -> Path:
    """A project of root with a ledger, which others may read."""
    database.connect(f"sqlite:///{place}/.openmlops/openmlops.db").dispose()
    (place / ".env").write_text("USE_CASE=cifar10\nMODEL_NAME=m\n")
    return place


def test_what_another_user_may_not_write_is_named(open_place: Path, run: Run) -> None:
    done = run(project(open_place / "project"), "history", "m")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert "openmlops.db cannot be used" in line
    assert "Give yourself the permission to write it and its folder, or work in a copy." in line


def test_a_copy_of_another_user_is_his_own(open_place: Path, run: Run) -> None:
    shutil.copytree(project(open_place / "project"), open_place / "copy")
    with_tables(open_place / "copy" / ".openmlops" / "mlflow.db")
    for path in (open_place / "copy", *(open_place / "copy").rglob("*")):
        os.chown(path, OTHER, OTHER)
    done = run(open_place / "copy", "models")
    assert done.returncode == 0, done.stderr
