"""What a training left in the home folder is found where the home is now, whatever its files say."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from openmlops.console.cycles import CycleRuns
from openmlops.core.types import DatasetRef, Preprocessing, SplitsRef, TrainedRef
from openmlops.operations.data import weights
from openmlops.operations.training.grid_jobs import GridJob, predictions_file
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

MODEL = "toy"


SPLITS = SplitsRef(
    dataset=DatasetRef(name="set", fingerprint="f", rows=3), fingerprint="0" * 64, seed=0, train=1, validation=1, test=1
)


def trained_in(home: Path) -> dict[str, Any]:
    """As a training of an earlier release noted it, which named places."""
    splits = SPLITS.model_dump(mode="json") | {"path": f"{home}/splits/s.npz"}
    splits["dataset"]["path"] = f"{home.parent}/data/set"
    times = {"epochs": 1, "seconds": 1, "ended_at": "2026-01-01T00:00:00Z"}
    return {"path": f"{home}/weights/7.safetensors", "run_id": "7", "splits": splits, "config": {}, **times}


@pytest.fixture
def moved(tmp_path: Path) -> Workspace:
    """A home that is not where its files were written."""
    return Workspace(Settings(openmlops_home=tmp_path / "now" / ".openmlops", use_case="person"))


def test_a_reference_of_an_earlier_release_is_read_without_its_places(moved: Workspace, tmp_path: Path) -> None:
    found = TrainedRef.model_validate(trained_in(tmp_path / "before"))
    assert (found.splits, found.weights) == (SPLITS, None)
    assert str(tmp_path) not in found.model_dump_json()
    with pytest.raises(AttributeError, match="DatasetRef has no path any more, because it names content"):
        found.splits.dataset.path  # noqa: B018
    with pytest.raises(ValidationError, match="unknown"):
        DatasetRef.model_validate({**SPLITS.dataset.model_dump(), "unknown": 1})


def test_a_run_of_a_grid_of_an_earlier_release_is_read_where_its_files_are_now(moved: Workspace, tmp_path: Path) -> None:
    job = GridJob(moved, SPLITS, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)), {"epochs": 1})
    grid, before = moved.home / "grids" / "g", tmp_path / "before" / ".openmlops"
    told = {"config": {"epochs": 1}, "run_id": "7", "trained": trained_in(before), "predictions": f"{before}/grids/g/1.answers"}
    grid.mkdir(parents=True)
    job.result_file(grid).write_text(json.dumps(told))
    predictions_file(job.result_file(grid)).write_text("[]")
    assert job.read(grid) is None, "its weights are gone"
    (file := weights.place(moved.home, "7")).parent.mkdir()
    file.touch()
    found = job.read(grid)
    assert found is not None
    assert found.trained is not None
    assert found.trained.weights == weights.named(file)
    assert found.predictions is not None
    assert moved.contents.has(found.predictions)
    assert str(tmp_path) not in found.model_dump_json()


def test_the_log_of_a_cycle_is_read_where_the_home_is_now(moved: Workspace, tmp_path: Path) -> None:
    console = moved.home / "console"
    console.mkdir(parents=True)
    (console / "toy-1.log").write_text("decided: none\n")
    state = {"model": MODEL, "mode": "auto", "started": "2026-01-01T00:00:00Z", "log": f"{tmp_path}/before/console/toy-1.log"}
    (console / f"{MODEL}.json").write_text(json.dumps(state | {"code": 0}))
    found = CycleRuns(moved.home).last(MODEL)
    assert found is not None
    assert (found.log, found.lines) == (str(console / "toy-1.log"), ("decided: none",))
