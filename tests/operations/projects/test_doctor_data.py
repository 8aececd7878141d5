"""The doctor says which copies of the data are gone, what still works, and the command that restores them."""

import shutil
from pathlib import Path

import pytest

from openmlops.operations.data import datasets
from openmlops.operations.projects import doctor
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from operations.data.test_datasets import write_set


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(Settings())


def data(workspace: Workspace) -> tuple[str, str, str]:
    found = doctor._data(workspace)
    assert found is not None
    return found.status, found.says.partition(str(workspace.data_folder))[2], found.remedy


def test_every_copy_of_the_data_that_is_gone_is_told_with_what_restores_it(workspace: Workspace, tmp_path: Path) -> None:
    assert doctor._data(workspace) is None
    datasets.add(workspace, write_set(tmp_path / "first"))
    again = f"Run `openmlops data add {workspace.data_folder}`, which stores it again"
    assert data(workspace) == ("ok", "", "")
    shutil.rmtree(workspace.home / "dvc-remote")
    assert data(workspace) == ("warning", " is gone from remote", again)
    datasets.add(workspace, workspace.data_folder)
    shutil.rmtree(workspace.home / "dvc-cache")
    assert data(workspace) == ("ok", "", "")
    shutil.rmtree(workspace.data_folder)
    assert data(workspace) == ("warning", " is gone from folder, cache", "Run `openmlops data pull`")
    shutil.rmtree(workspace.home / "dvc-remote")
    status, says, remedy = data(workspace)
    assert (status, says) == ("failed", " is gone from all of folder, cache, remote")
    assert remedy == "Restore the DVC remote, or run `openmlops data add` with a good copy; trained versions stay"


@pytest.mark.parametrize(
    ("suffix", "content", "said"),
    [
        (".dvc", None, "No version of"),
        (".dvc", "{{{", "is not a readable DVC file"),
        (".manifest.json", None, "No manifest of"),
        (".manifest.json", "{}", "is not a readable manifest"),
    ],
)
def test_a_record_that_is_damaged_or_gone_in_part_is_a_failure_that_is_named(
    suffix: str, content: str | None, said: str, workspace: Workspace, tmp_path: Path
) -> None:
    datasets.add(workspace, write_set(tmp_path / "first"))
    record = Path(f"{workspace.data_folder}{suffix}")
    record.unlink() if content is None else record.write_text(content)
    (found,) = (each for each in doctor.examine(workspace, "http://127.0.0.1:1") if each.service == "data")
    assert (found.status, said in found.says, bool(found.remedy)) == ("failed", True, True), found
