"""What a training left in the home folder is found where the home is now, whatever its files say."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openmlops.console.cycles import CycleRuns
from openmlops.core.types import DatasetRef, Preprocessing, SplitsRef, TrainedRef
from openmlops.operations.training import train
from openmlops.operations.training.grid_jobs import GridJob, RunResult, predictions_file
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

MODEL = "toy"


def trained_in(home: Path) -> TrainedRef:
    """As a training there noted it."""
    data = DatasetRef(name="set", path=f"{home.parent}/data/set", fingerprint="f", rows=3)
    splits = SplitsRef(dataset=data, path=f"{home}/splits/s.npz", fingerprint="s", seed=0, train=1, validation=1, test=1)
    return TrainedRef(
        path=f"{home}/weights/7.safetensors",
        run_id="7",
        splits=splits,
        config={},
        epochs=1,
        seconds=1,
        ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def moved(tmp_path: Path) -> Workspace:
    """A home that is not where its files were written."""
    return Workspace(Settings(openmlops_home=tmp_path / "now" / ".openmlops", use_case="person"))


def test_weights_and_splits_are_those_of_the_home_that_is_opened(moved: Workspace, tmp_path: Path) -> None:
    splits = trained_in(moved.home).splits
    found = train.located(moved, trained_in(tmp_path / "before" / ".openmlops"), splits)
    assert found == trained_in(moved.home)


def test_a_run_of_a_grid_is_read_with_the_places_of_its_files_now(moved: Workspace, tmp_path: Path) -> None:
    job = GridJob(moved, trained_in(moved.home).splits, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)), {"epochs": 1})
    grid, before = moved.home / "grids" / "g", tmp_path / "before" / ".openmlops"
    told = RunResult(config={"epochs": 1}, run_id="7", trained=trained_in(before), predictions=f"{before}/grids/g/1.answers")
    grid.mkdir(parents=True)
    job.result_file(grid).write_text(told.model_dump_json())
    assert job.read(grid) is None, "its weights are gone"
    (weights := Path(trained_in(moved.home).path)).parent.mkdir()
    weights.touch()
    found = job.read(grid)
    assert found is not None
    assert (found.trained, found.predictions) == (trained_in(moved.home), str(predictions_file(job.result_file(grid))))
    assert str(before) not in found.model_dump_json()


def test_the_log_of_a_cycle_is_read_where_the_home_is_now(moved: Workspace, tmp_path: Path) -> None:
    console = moved.home / "console"
    console.mkdir(parents=True)
    (console / "toy-1.log").write_text("decided: none\n")
    state = {"model": MODEL, "mode": "auto", "started": "2026-01-01T00:00:00Z", "log": f"{tmp_path}/before/console/toy-1.log"}
    (console / f"{MODEL}.json").write_text(json.dumps(state | {"code": 0}))
    found = CycleRuns(moved.home).last(MODEL)
    assert found is not None
    assert (found.log, found.lines) == (str(console / "toy-1.log"), ("decided: none",))
