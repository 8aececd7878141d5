"""ZenML's records of old runs go with their artifacts, those of others stay: in a real embedded store."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openmlops.errors import ServiceUnavailable
from openmlops.operations.workspace import Workspace
from openmlops.pipelines.run_records import prune_pipeline_runs
from openmlops.settings import Settings
from user_folder import SECONDS

SCRIPT = """
import json, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
sys.path.insert(0, ".")
from openmlops.pipelines.stack import open_workspace
workspace = open_workspace()
from zenml.client import Client
from openmlops.pipelines.run_records import prune_pipeline_runs
import small_pipelines

small_pipelines.monitoring_pipeline()
small_pipelines.somebody_elses()
client, now = Client(), datetime.now(UTC)


def known():
    runs = [run.pipeline.name for run in client.list_pipeline_runs().items]
    return [sorted(runs), client.list_artifact_versions().total]


later = now + timedelta(days=200)
found = [known(), prune_pipeline_runs(workspace, later, dry=True).deleted, known()]
found += [prune_pipeline_runs(workspace, now).deleted, prune_pipeline_runs(workspace, later).deleted, known()]
print(json.dumps(found))
"""
PIPELINES = """
from zenml import pipeline, step


@step(enable_cache=False)
def one() -> int:
    return 1


@step(enable_cache=False)
def other(value: int) -> int:
    return value + 1


@pipeline(dynamic=True, enable_cache=False)
def monitoring_pipeline() -> None:
    other(one())


@pipeline(dynamic=True, enable_cache=False)
def somebody_elses() -> None:
    one()
"""


@pytest.mark.slow
def test_old_runs_of_ours_go_with_their_artifacts(tmp_path: Path) -> None:
    (tmp_path / "small_pipelines.py").write_text(PIPELINES)
    (tmp_path / "script.py").write_text(SCRIPT)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("ZENML_")}
    environment = outside | {"OPENMLOPS_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    both = [["monitoring_pipeline", "somebody_elses"], 3]
    assert json.loads(done.stdout.splitlines()[-1]) == [both, 1, both, 0, 1, [["somebody_elses"], 1]]


def test_where_zenml_was_not_used_it_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.setitem(sys.modules, "zenml.client", None)
    found = prune_pipeline_runs(Workspace(Settings(openmlops_home=tmp_path)), datetime.now(UTC))
    assert (found.deleted, found.why) == (0, "ZenML was not used here")


def test_a_store_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zenml").mkdir()
    (tmp_path / "zenml" / "store.db").write_text("no database")
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.setitem(sys.modules, "zenml.client", None)
    with pytest.raises(ServiceUnavailable, match="ZenML's records could not be pruned"):
        prune_pipeline_runs(Workspace(Settings(openmlops_home=tmp_path)), datetime.now(UTC))
