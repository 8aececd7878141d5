"""A trained project that was moved, or copied by another user, works where it is and touches nothing where it was."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from owners_project import NAME, owners_folder
from unprivileged import become_any_user
from user_folder import Folder

ODD = "déplacé #1 [là] {y} 50%20 👩\u200d🚀"
pytestmark = pytest.mark.slow


class AnotherUsers(Folder):
    """A folder of a user to whom the modes of files apply; Python begins anew for each command."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        given = {"cwd": self.path, "env": self.environment, "preexec_fn": become_any_user}
        return subprocess.run([self.program, *words], capture_output=True, text=True, **given)


def require_whole_loop(project: Folder) -> None:
    """A new version is trained, put into production and taken out of it again; all places that are told lie in the project."""
    assert [row["gone"] for row in project.json("models")["models"]] == [""]
    trained = project.json("train", "--epochs", "1", "--seed", "5")
    assert trained["model"]["version"] == 2
    if trained["champion"]["version"] == 1:
        assert project.json("promote", f"{NAME}/2", "--force", "--reason", "it is needed")["champion"] == 2
    assert all(file.startswith(f"{project.path}/") for file in project.json("monitor")["files"])
    assert project.json("rollback", NAME)["champion"] == 1
    assert [row["gone"] for row in project.json("models")["models"]] == ["", ""]
    assert project.json("evaluate", f"{NAME}/1")["accuracy"] > 0

    checked = project.run("stack", "check")
    assert checked.returncode == 0, checked.stdout
    store = project.path / ".openmlops" / "zenml-artifacts"
    assert f"{store} stored and returned a test file" in checked.stdout
    assert any(path.is_file() for path in store.rglob("*"))


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_moved_project_goes_on_and_makes_nothing_where_it_was(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = owners_folder(tmp_path_factory, tmp_path / "owner")
    os.rename(folder.path / NAME, folder.path / ODD)
    require_whole_loop(folder.below(ODD))
    assert sorted(path.name for path in folder.path.iterdir()) == sorted([ODD, "own", "user"])


def test_another_users_copy_goes_on_without_a_look_at_its_origin(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    origin = owners_folder(tmp_path_factory, tmp_path / "owner").path
    shutil.copytree(origin, tmp_path / "other", symlinks=True)
    before = state_of(origin)
    origin.chmod(0o000)
    try:
        require_whole_loop(AnotherUsers(tmp_path / "other").below(NAME))
    finally:
        origin.chmod(0o755)
    assert state_of(origin) == before
