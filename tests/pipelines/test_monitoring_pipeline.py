"""The pipelines as ZenML runs them, in a process of their own: the champion of now, one turn, the commands."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import warm
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.release import listing
from openmlops.operations.workspace import Workspace
from small_loop import branch, fresh_images, label, send, train
from user_folder import PROGRAM, SECONDS


def environment(loop: Workspace, **settings: str) -> dict[str, str]:
    s = loop.settings
    own = {
        "OPENMLOPS_HOME": str(s.openmlops_home),
        "DATABASE_URL": s.database,
        "DATA_RAW_DIR": str(s.data_raw_dir),
        "ARTIFACTS_DIR": str(s.artifacts_dir),
        "MONITORING_DIR": str(s.monitoring_dir),
        "OMP_NUM_THREADS": "1",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZENML_")}
    return {**kept, **own, **{name.upper(): value for name, value in settings.items()}}


def run(loop: Workspace, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    loop.monitoring.mkdir(parents=True, exist_ok=True)
    return warm.run(words, PROGRAM, loop.monitoring.parent, environment(loop, **settings), SECONDS)


def begin(loop: Workspace, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same where Python begins anew: for so few commands that a warm process would cost more."""
    loop.monitoring.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"cwd": loop.monitoring.parent, "env": environment(loop, **settings), "timeout": SECONDS}
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, **given)


@pytest.mark.slow
def test_the_pipeline_watches_the_champion_of_now_and_not_the_one_of_its_last_run(loop: Workspace, tmp_path: Path):
    """Defect: a cached "load latest model" step. Twice the same pipeline in one store, a promotion in between."""
    second, trained = train(loop, seed=5, steps=60)
    script = f"""
from openmlops.pipelines.stack import open_workspace
workspace = open_workspace()
from openmlops.operations.release import promotion
from openmlops.pipelines.monitoring_pipeline import run_monitoring
before = run_monitoring()
promotion.promote(workspace, "{second.name}/{second.version}", "to see whether monitoring follows", force=True)
print(before.model.version, run_monitoring().model.version)
"""
    (tmp_path / "twice.py").write_text(script)
    command = [sys.executable, str(tmp_path / "twice.py")]
    found = subprocess.run(command, cwd=tmp_path, env=environment(loop), capture_output=True, text=True, timeout=SECONDS)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["1", str(second.version)]
    assert listing.history(loop, second.name)[-1].champion == second.version
    assert trained.splits.test == 700


@pytest.mark.slow
def test_monitor_prints_one_object_and_its_exit_code_says_what_there_is_to_do(loop: Workspace):
    send(loop, load_latest_model(loop), fresh_images(120, seed=60)[0], datetime.now(UTC))
    simulated = begin(loop, "monitor", "--json", "--exit-code", simulate_drift="1")
    assert simulated.returncode == 3, simulated.stderr
    found = json.loads(simulated.stdout)
    assert (found["n"], found["simulated"], found["drift"]["outcome"]) == (120, True, "drift")
    assert all(Path(file).exists() for file in found["files"])
    why = begin(loop, "why", found["decision"]["id"][:6], "--json")
    assert json.loads(why.stdout)["observation"]["drift"] == found["drift"]


@pytest.mark.slow
def test_a_turn_retrains_on_labelled_traffic_and_remembers_the_verdict(loop: Workspace, tmp_path: Path):
    eager = branch(loop, tmp_path / "eager")
    numbers = {"policy_alarmed_windows": "1", "policy_minimum_new_labels": "300"}
    images, labels = fresh_images(600, seed=61)
    ids = send(eager, load_latest_model(eager), images, datetime.now(UTC) - timedelta(minutes=20), ("brightness", 5))
    label(eager, ids, labels)
    turned = run(eager, "cycle", "--mode", "auto", "--json", **numbers)
    assert turned.returncode == 0, turned.stderr
    found = json.loads(turned.stdout)
    assert (found["act"], found["monitoring"]["decision"]["action"]) == ("retrain", "retrain")
    assert found["outcome"]["kind"] in ("promote", "reject", "inconclusive")
    assert any("On fresh" in reason for reason in found["outcome"]["reasons"])
    again = json.loads(run(eager, "cycle", "--mode", "auto", "--json", **numbers).stdout)
    assert again["act"] == "none"
    listed = json.loads(run(eager, "decisions", "--json").stdout)["decisions"]
    assert (listed[0]["action"], listed[0]["outcome"]) == ("retrain", found["outcome"])
