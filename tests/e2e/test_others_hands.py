"""A project whose ZenML store or DVC files others changed: what is read is shown; a training goes on or is refused at once.

The same for MLflow is claimed in `operations/release/test_deleted_in_mlflow.py`.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from owners_project import NAME, owners_folder
from user_folder import Folder

pytestmark = pytest.mark.slow

DELETE_RUNS = """
from zenml.client import Client
client = Client()
for run in client.list_pipeline_runs(size=100).items: client.delete_pipeline_run(run.id)
for pipeline in client.list_pipelines(size=100).items: client.delete_pipeline(pipeline.id)
"""


def store_of(project: Folder) -> Path:
    """The database of the embedded ZenML."""
    return next((project.path / ".openmlops" / "zenml").rglob("zenml.db"))


def delete_the_active_stack(project: Folder) -> None:
    active = yaml.safe_load((project.path / ".openmlops/zenml/config.yaml").read_text())["active_stack_id"].replace("-", "")
    with closing(sqlite3.connect(store_of(project))) as connection, connection:
        connection.execute("DELETE FROM stack_composition WHERE stack_id = ?", (active,))
        assert connection.execute("DELETE FROM stack WHERE id = ?", (active,)).rowcount == 1


def delete_runs_and_pipelines(project: Folder) -> None:
    environment = project.environment | {"ZENML_CONFIG_PATH": f"{project.path}/.openmlops/zenml"}
    subprocess.run([sys.executable, "-c", DELETE_RUNS], env=environment, cwd=project.path, check=True, capture_output=True)


def remove_the_zenml_store(project: Folder) -> None:
    shutil.rmtree(project.path / ".openmlops/zenml/local_stores")


def damage_the_zenml_store(project: Folder) -> None:
    store_of(project).write_text("no database")


def remove_the_cache(project: Folder) -> None:
    shutil.rmtree(project.path / ".openmlops/dvc-cache")


def remove_the_remote(project: Folder) -> None:
    shutil.rmtree(project.path / ".openmlops/dvc-remote")


def remove_both(project: Folder) -> None:
    remove_the_cache(project)
    remove_the_remote(project)


def damage_a_file_of_the_cache(project: Folder) -> None:
    file = next(path for path in (project.path / ".openmlops/dvc-cache").rglob("*") if path.is_file() and path.suffix != ".dir")
    file.chmod(0o644)
    file.write_bytes(b"x" * file.stat().st_size)
    next((project.path / "data/raw" / NAME).rglob("*.png")).unlink()


def remove_all_copies(project: Folder) -> None:
    remove_both(project)
    shutil.rmtree(project.path / "data/raw" / NAME)


REFUSED = {
    damage_the_zenml_store: (("monitor", "train"), "ZenML's store cannot be used", "Restore it, or move zenml.db away"),
    remove_all_copies: (("train",), "neither in the cache nor in the DVC remote", "run `openmlops data add` with a good copy"),
}
"""the commands that cannot go on, with what they say; all others do"""
DOCTOR = {
    delete_the_active_stack: ("zenml", "warning", "its active stack was deleted"),
    damage_the_zenml_store: ("zenml", "failed", "file is not a database"),
    remove_the_remote: ("data", "warning", "is gone from remote"),
    remove_both: ("data", "warning", "is gone from cache, remote"),
    remove_all_copies: ("data", "failed", "is gone from all of folder, cache, remote"),
}
"""what the doctor says; of the others, that all is well, because they are mended without a loss"""
DEEDS = (
    *(delete_the_active_stack, delete_runs_and_pipelines, remove_the_zenml_store, damage_the_zenml_store),
    *(remove_the_cache, remove_the_remote, remove_both, damage_a_file_of_the_cache, remove_all_copies),
)


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_what_is_read_is_shown_and_work_goes_on_or_is_refused_before_it_begins(
    deed: Callable[[Folder], None], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    project = owners_folder(tmp_path_factory, tmp_path / "owner").below(NAME)
    assert project.run("stack", "check").returncode == 0  # also makes the stores point here
    decision = project.json("monitor")["decision"]["id"]
    reading = (("history", NAME), ("decisions",), ("why", decision))
    before = [project.json(*words) for words in reading]
    deed(project)

    assert [project.json(*words) for words in reading] == before
    (row,) = project.json("models")["models"]
    assert (row["stands_as"], row["gone"]) == ("champion", "")
    findings = {each["service"]: each for each in _json_of(project, "doctor")["findings"]}
    service, status, says = DOCTOR.get(deed, ("data", "ok", ""))
    assert (findings[service]["status"], says in findings[service]["says"]) == (status, True)
    assert (findings["champion"]["status"], bool(findings[service]["remedy"])) == ("ok", status != "ok")

    refused, why, way = REFUSED.get(deed, ((), "", ""))
    for words in (("monitor",), ("train", "--epochs", "1", "--seed", "7")):
        if words[0] not in refused:
            project.json(*words)
            continue
        done = project.run(*words)
        (line,) = done.stderr.strip().splitlines()
        assert (done.returncode, why in line, way in line) == (1, True, True), line
    versions = [row["version"] for row in project.json("models")["models"]]
    assert versions == ([1] if "train" in refused else [1, 2])
    assert len(list((project.path / ".openmlops" / "trainings").iterdir())) == len(versions)
    if len(versions) == 2:
        if project.json("history", NAME)["entries"][-1]["champion"] == 1:
            assert project.json("promote", f"{NAME}/2", "--force", "--reason", "it is needed")["champion"] == 2
        assert project.json("rollback", NAME)["champion"] == 1


def _json_of(project: Folder, *words: str) -> dict:
    """What a command prints, also where it ends with 1."""
    return json.loads(project.run(*words, "--json").stdout)
