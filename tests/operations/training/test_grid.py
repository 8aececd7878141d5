"""Claims about grids: each run its own, nothing trained twice, no failure unread, no kill that shows in the numbers."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from mlflow.entities import Run
from mlflow.utils.validation import _validate_metric_name

from openmlops.adapters.mlflow_client import connect
from openmlops.adapters.tracking import FAILURE_TAG
from openmlops.core.images.boxes import objects
from openmlops.core.types import LedgerEntry, ModelRef, SplitsRef, TrainedRef
from openmlops.errors import ServiceUnavailable, SettingsError, TrainingError
from openmlops.operations.data.datasets import indices_of
from openmlops.operations.release.aliases import STAGING
from openmlops.operations.run_leases import close_orphans
from openmlops.operations.training import grid_jobs, grid_run
from openmlops.operations.training.grid import Grid, GridRef, grid_of, stage, train_all, within_noise
from openmlops.operations.training.grid_jobs import PARENT_TAG, RunResult
from openmlops.operations.training.grid_report import FILE, Experiment, summarize_grid
from openmlops.operations.training.predictions import save_predictions
from openmlops.operations.workspace import Workspace
from small_people import clean_environment, conclude, environment, inside, other_process, people_workspace, splits_of

BASE = {"pretrained": "none", "device": "cpu"}
AXES = {"epochs": (1, 2), "imgsz": (64,)}
SLOWER_FIRST = {"epochs": (2, 1), "imgsz": (64,)}
"""the same two"""
ASK = f"""
from openmlops.operations.data import datasets
from openmlops.operations.training import grid
from openmlops.operations.workspace import Workspace
workspace = Workspace.open()
splits = datasets.split(workspace, datasets.ingest(workspace), 0)
grid.train_all(workspace, splits, grid.grid_of(workspace, {SLOWER_FIRST!r}, {BASE!r}, 1))
"""
SOON = 300


@dataclass(frozen=True)
class Done:
    """A grid that was run and concluded in a workspace."""

    workspace: Workspace
    splits: SplitsRef
    grid: GridRef
    experiment: Experiment
    model: ModelRef
    decision: LedgerEntry

    def run(self, run_id: str) -> Run:
        return mlflow_run(self.workspace, run_id)

    def runs(self) -> int:
        return len(all_runs(self.workspace))


def mlflow_run(workspace: Workspace, run_id: str) -> Run:
    return connect(workspace.settings.tracking_uri).get_run(run_id)


def all_runs(workspace: Workspace) -> list[Run]:
    client = connect(workspace.settings.tracking_uri)
    return list(client.search_runs([found.experiment_id for found in client.search_experiments()]))


def give(workspace: Workspace, splits: SplitsRef, axes: dict[str, tuple], jobs: int = 1, **base: Any) -> GridRef:
    """Run a grid in this workspace."""
    with inside(workspace):
        return train_all(workspace, splits, grid_of(workspace, axes, BASE | base, jobs))


def until(what: Callable[[], Any], process: Callable[[], bool] = lambda: True) -> Any:
    """What `what` returns as soon as that is something; fails if `process` ends before, or after `SOON` seconds."""
    deadline = time.monotonic() + SOON
    while not (found := what()):
        assert process() or what(), "it ended too early"
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.002)
    return found


class Here:
    """In place of the process of a run: the run itself, in this process, which has imported what it needs."""

    def __init__(self) -> None:
        self.stdin, self.stderr = io.StringIO(), io.StringIO()

    def wait(self) -> int:
        request = json.loads(self.stdin.getvalue())
        grid_run.run(Workspace.open(request["use_case"]), request)
        return 0


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A grid of two, never interrupted."""
    workspace = people_workspace(tmp_path_factory.mktemp("whole"))
    splits = splits_of(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_jobs, "_running", lambda command: nullcontext(Here()))
        grid = give(workspace, splits, AXES)
    return Done(workspace, splits, grid, *conclude(workspace, grid))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The same in processes of their own, both at a time."""
    workspace = people_workspace(tmp_path_factory.mktemp("alone"))
    splits = splits_of(workspace)
    grid = give(workspace, splits, AXES, jobs=2)
    return Done(workspace, splits, grid, *conclude(workspace, grid))


def test_each_run_of_a_grid_is_a_finished_run_of_its_own_below_one_parent_with_its_metrics(done: Done) -> None:
    client = connect(done.workspace.settings.tracking_uri)
    assert len({run.run_id for run in done.grid.runs}) == 2
    for asked, result in zip(grid_of(done.workspace, AXES, BASE, 1).configs(), done.grid.runs, strict=True):
        run = done.run(result.run_id)
        assert result.config == asked
        assert (run.info.status, run.data.tags[PARENT_TAG]) == ("FINISHED", done.grid.parent)
        assert (run.data.params["epochs"], run.data.params["imgsz"]) == (str(asked["epochs"]), str(asked["imgsz"]))
        for name in ("loss", "validation_map50"):
            history = client.get_metric_history(result.run_id, name)
            assert [point.step for point in history] == list(range(1, asked["epochs"] + 1)), name
        assert result.test is not None
        assert run.data.metrics["test_map50"] == result.test.map50.value
        assert {"test_precision", "test_recall", "test_map50_low", "test_images", "selection_map50"} <= run.data.metrics.keys()


def test_metric_names_that_mlflow_refuses_are_in_no_run(done: Done) -> None:
    """Defect 9. Every name is one that MLflow takes from a client of any kind, and none has YOLO's parentheses."""
    names = {name for run in all_runs(done.workspace) for name in run.data.metrics}
    assert len(names) > 20
    for name in names:
        _validate_metric_name(name)
        assert not set(name) & set("()@"), name


def test_the_parent_is_finished_and_has_the_table_that_lies_in_artifacts_dir(done: Done) -> None:
    parent = done.run(done.grid.parent)
    assert (parent.info.status, parent.data.tags["openmlops.kind"]) == ("FINISHED", "grid")
    assert (parent.data.params["grid.epochs"], parent.data.params["grid.imgsz"]) == ("1,2", "64")
    best = done.grid.best.test
    assert best is not None
    assert parent.data.metrics["best_test_map50"] == best.map50.value
    table = (done.workspace.artifacts / FILE).read_bytes()
    assert done.workspace.tracking.read_files(done.grid.parent, "")[FILE] == table
    assert Path(done.experiment.table).read_bytes() == table


def test_the_table_has_a_row_a_run_under_the_heads_that_users_expect(done: Done) -> None:
    lines = [line for line in (done.workspace.artifacts / FILE).read_text().splitlines() if line.startswith("|")]
    heads, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert heads == ["ID", "Epochs", "Imgsz", "mAP@50", "Precision", "Recall", "Status"]
    assert len(rule) == len(heads)
    assert [row[:3] for row in rows] == [
        [run.run_id[:8], str(run.config["epochs"]), str(run.config["imgsz"])] for run in done.grid.runs
    ]
    assert sorted(row[-1] for row in rows) == ["finished", "finished, staging"]


def test_the_outcome_says_what_every_run_came_to_and_the_winner_is_staged(done: Done) -> None:
    found = done.experiment
    assert (found.trained, len(found.runs)) == (2, 2)
    for run, result in zip(found.runs, done.grid.runs, strict=True):
        assert result.test is not None
        assert (run.id, run.status, run.reason) == (result.run_id, "finished", "")
        assert run.config.items() >= result.config.items()
        assert (run.map50, run.precision, run.recall) == (
            result.test.map50.value,
            result.test.precision.value,
            result.test.recall.value,
        )
    assert found.best == done.model.run_id == done.grid.best.run_id
    assert found.staging.version == done.workspace.registry.alias(done.model.name, STAGING) == done.model.version == 1
    assert found.verdict == done.decision.verdict


def test_a_grid_given_again_trains_nothing_and_says_the_same(done: Done) -> None:
    runs, entries = done.runs(), done.workspace.ledger.history(done.model.name)
    for jobs in (1, 3):
        again = give(done.workspace, done.splits, AXES, jobs)
        assert again == done.grid.model_copy(update={"trained": 0})
    experiment, model, _ = conclude(done.workspace, again)
    assert experiment == done.experiment.model_copy(update={"trained": 0})
    assert model.version == done.model.version
    assert (done.workspace.artifacts / FILE).read_text().count("| finished") == 2
    assert done.runs() == runs
    assert done.workspace.ledger.history(done.model.name) == entries


def test_a_run_whose_process_was_killed_after_its_result_is_finished_by_the_next_call(done: Done) -> None:
    client, killed = connect(done.workspace.settings.tracking_uri), done.grid.runs[1].run_id
    client.update_run(killed, status="RUNNING")
    assert give(done.workspace, done.splits, AXES).trained == 0
    assert done.run(killed).info.status == "FINISHED"


def test_a_grid_given_again_stages_its_winner_again(done: Done) -> None:
    registry, name = done.workspace.registry, done.model.name
    registry.delete_alias(name, STAGING)
    assert stage(done.workspace, done.model, done.splits) == done.decision
    assert registry.alias(name, STAGING) == done.model.version


def test_a_run_whose_code_was_changed_since_it_was_asked_for_is_not_trained(done: Done, tmp_path: Path) -> None:
    """Its result would be kept as that of the code before."""
    asked = {"config": BASE, "splits": done.splits.model_dump(), "key": "of other code", "parent": "", "jobs": 1, "result": ""}
    runs = done.runs()
    with pytest.raises(TrainingError, match="changed while the grid was running"):
        grid_run.run(done.workspace, asked)
    assert done.runs() == runs


def test_two_combinations_that_are_one_training_are_refused(done: Done) -> None:
    with pytest.raises(SettingsError, match="2 combinations of threads are the same run"):
        give(done.workspace, done.splits, {"threads": (1, 2)})


def test_a_run_that_a_service_stayed_away_from_is_no_failed_row_and_can_go_on(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {run.info.run_id for run in all_runs(done.workspace)}
    monkeypatch.setattr(sys, "executable", other_process("echo 'error: MLflow is away.' >&2; exit 75", tmp_path))
    with pytest.raises(ServiceUnavailable, match="MLflow is away"):
        give(done.workspace, done.splits, {"epochs": (1, 2)}, 2, imgsz=64, seed=4242)
    (parent,) = [run for run in all_runs(done.workspace) if run.info.run_id not in before]
    assert (parent.info.status, FAILURE_TAG in parent.data.tags) == ("RUNNING", False)
    done.workspace.tracking.finish(parent.info.run_id)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("exit 7", "its process ended with exit code 7"),
        ("kill -9 $$", "its process ended with exit code -9"),
        ("exit 0", "its process ended with exit code 0"),
        ("echo 'a warning' >&2; echo 'error: no disk.' >&2; exit 1", "no disk."),
    ],
)
def test_a_trainer_started_as_a_subprocess_whose_exit_code_nobody_reads(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    """Defect 7. A process that ends without a result, however it ends, is a failed run with the reason, here and in MLflow."""
    monkeypatch.setattr(sys, "executable", other_process(does, tmp_path))
    before = {run.info.run_id for run in all_runs(done.workspace)}
    seed = sum(map(ord, does))
    with pytest.raises(TrainingError) as raised:
        give(done.workspace, done.splits, {"epochs": (1, 2)}, 2, imgsz=64, seed=seed)
    assert f"All 2 runs of the grid failed; the first: {reason}".rstrip(".") in str(raised.value)
    new = [run for run in all_runs(done.workspace) if run.info.run_id not in before]
    parents = [run for run in new if run.data.tags.get("openmlops.kind") == "grid"]
    assert len(parents) == 1
    assert len(new) == 3
    assert {run.info.status for run in new} == {"FAILED"}
    assert {run.data.tags[FAILURE_TAG] for run in new} == {reason}
    assert {run.data.tags[PARENT_TAG] for run in new if run not in parents} == {parents[0].info.run_id}


def test_a_grid_that_failed_altogether_has_a_new_parent_when_it_is_given_again_and_the_old_one_is_left_alone(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", other_process("exit 7", tmp_path))
    closed = []
    for _ in range(2):
        before = {run.info.run_id for run in all_runs(done.workspace)}
        with pytest.raises(TrainingError, match="exit code 7"):
            give(done.workspace, done.splits, {"epochs": (1,)}, imgsz=64, seed=77)
        closed.append([run for run in all_runs(done.workspace) if run.info.run_id not in before])
    assert [len(runs) for runs in closed] == [2, 2]
    assert {run.info.status for runs in closed for run in runs} == {"FAILED"}
    for run in closed[0]:
        assert done.run(run.info.run_id).to_dictionary() == run.to_dictionary()


def test_the_run_of_somebody_else_who_trains_the_same_is_not_closed(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "executable", other_process("echo 'error: Another process is running this training' >&2; exit 1", tmp_path)
    )
    known = set((done.workspace.home / "trainings").glob("*/run_id"))
    for _ in range(2):
        with pytest.raises(TrainingError, match="is running this training"):
            give(done.workspace, done.splits, {"epochs": (1,)}, imgsz=64, seed=78)
        (note,) = set((done.workspace.home / "trainings").glob("*/run_id")) - known
        theirs = done.workspace.tracking.start(done.workspace.model_name, {}, {})
        note.write_text(theirs)
    with pytest.raises(TrainingError, match="is running this training"):
        give(done.workspace, done.splits, {"epochs": (1,)}, imgsz=64, seed=78)
    assert done.workspace.tracking.run_is_open(theirs)
    assert note.read_text() == theirs
    done.workspace.tracking.finish(theirs)


@pytest.mark.slow
def test_an_interrupted_grid_ends_at_once_with_its_processes_and_leaves_their_runs_open(done: Done, tmp_path: Path) -> None:
    program = other_process("exec sleep 100", tmp_path)
    code = f"import sys; sys.executable = {program!r}\nfrom openmlops.terminal import exit_code\n"
    asked = ASK.replace("(64,)", "(64, 32)").replace(", 1))", ", 2))")
    code += f"def ask():\n    exec({asked!r}, globals())\nsys.exit(exit_code(ask))"
    surroundings = clean_environment() | environment(done.workspace)
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=surroundings, stderr=subprocess.DEVNULL) as asking:
        us = psutil.Process(asking.pid)
        until(lambda: len(us.children()) == 2, lambda: asking.poll() is None)
        children = us.children()
        asking.send_signal(signal.SIGTERM)
        assert asking.wait(SOON) == 130
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    (parent,) = [run for run in all_runs(done.workspace) if run.data.params.get("grid.imgsz") == "64,32"]
    assert parent.info.status == "RUNNING"
    assert not [run for run in all_runs(done.workspace) if run.data.tags.get(PARENT_TAG) == parent.info.run_id]


@dataclass(frozen=True)
class Interrupted:
    """A grid of two whose asking process was killed in the first run's second epoch, and whose second run was killed after."""

    workspace: Workspace
    refusal: str
    open_run: str
    closed: tuple[str, ...]
    killed: GridRef
    whole: GridRef


@pytest.fixture(scope="module")
def interrupted(alone: Done, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """The sequence of kills; `alone` comes first, for two cores. The run of a grid that was killed ends by itself."""
    workspace = people_workspace(tmp_path_factory.mktemp("interrupted"))
    splits, trainings = splits_of(workspace), workspace.home / "trainings"
    surroundings = clean_environment() | environment(workspace)
    with subprocess.Popen([sys.executable, "-c", ASK], cwd=workspace.home.parent, env=surroundings) as asking:

        def alive() -> bool:
            return asking.poll() is None

        (note,) = until(lambda: list(trainings.glob("*/run_id")), alive)
        (orphan,) = psutil.Process(asking.pid).children()
        with pytest.raises(TrainingError) as refused:
            give(workspace, splits, SLOWER_FIRST)
        until(lambda: list(trainings.glob("*/*.pt")), alive)
        asking.send_signal(signal.SIGKILL)
    orphan.wait(SOON)
    open_run = until(note.read_text)
    assert workspace.tracking.run_is_open(open_run)
    closed = close_orphans(workspace)
    assert not workspace.tracking.run_is_open(open_run)
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(give, workspace, splits, SLOWER_FIRST)
        until(lambda: len(list(trainings.glob("*/run_id"))) == 2, lambda: not going_on.done())
        (second,) = [
            child for child in psutil.Process().children() if "openmlops.operations.training.grid_run" in child.cmdline()
        ]
        second.send_signal(signal.SIGKILL)
        killed = going_on.result(SOON)
    whole = give(workspace, splits, SLOWER_FIRST, jobs=2)
    return Interrupted(workspace, str(refused.value), open_run, closed, killed, whole)


@pytest.mark.slow
def test_the_very_same_grid_is_refused_while_a_process_runs_it(interrupted: Interrupted) -> None:
    assert interrupted.refusal.startswith("Another process is running this grid (lock ")
    assert "\n" not in interrupted.refusal


@pytest.mark.slow
def test_the_runs_of_a_killed_grid_are_closed_as_orphans_and_gone_on_with(interrupted: Interrupted) -> None:
    workspace = interrupted.workspace
    assert set(interrupted.closed) == {interrupted.open_run, interrupted.killed.parent}
    assert not any(FAILURE_TAG in workspace.tracking.tags(run_id) for run_id in interrupted.closed)


@pytest.mark.slow
def test_a_run_killed_with_its_asker_goes_on_in_its_mlflow_run_and_only_the_other_one_fails(interrupted: Interrupted) -> None:
    first, second = interrupted.killed.runs
    assert first.trained is not None
    assert first.trained.resumed
    assert first.run_id == interrupted.open_run
    assert (interrupted.killed.trained, second.trained) == (1, None)


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_a_failed_row_and_its_mlflow_run_is_closed_with_the_reason(
    interrupted: Interrupted,
) -> None:
    """Defect 7, with a real trainer."""
    failed = interrupted.killed.runs[1]
    run = mlflow_run(interrupted.workspace, failed.run_id)
    assert failed.reason == "its process ended with exit code -9"
    assert (run.info.status, run.data.tags[FAILURE_TAG]) == ("FAILED", failed.reason)
    assert run.data.tags[PARENT_TAG] == interrupted.killed.parent


@pytest.mark.slow
def test_given_again_only_what_failed_is_tried_again(interrupted: Interrupted) -> None:
    assert interrupted.whole.trained == 1
    assert interrupted.whole.runs[0] == interrupted.killed.runs[0]
    assert interrupted.whole.runs[1].trained is not None
    assert interrupted.whole.parent == interrupted.killed.parent


@pytest.mark.slow
def test_a_grid_that_was_killed_ends_with_the_numbers_and_weights_of_one_left_alone(
    interrupted: Interrupted, alone: Done
) -> None:
    others = {str(run.config): run for run in alone.grid.runs}
    rows = {run.id: run for run in (*alone.experiment.runs, *conclude(interrupted.workspace, interrupted.whole)[0].runs)}
    for run in interrupted.whole.runs:
        other = others[str(run.config)]
        assert (run.validation, run.test) == (other.validation, other.test)
        assert run.predictions == other.predictions
        assert run.trained is not None
        assert other.trained is not None
        assert run.trained.weights == other.trained.weights
        assert rows[run.run_id].model_dump(exclude={"id"}) == rows[other.run_id].model_dump(exclude={"id"})
        ours, theirs = (
            mlflow_run(w, r.run_id).data.metrics for w, r in ((interrupted.workspace, run), (alone.workspace, other))
        )
        assert {k: v for k, v in ours.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


def answers_missing(labels: np.ndarray, missing: set[int]) -> np.ndarray:
    """Every true box, found exactly, but for the images `missing`, in which a wrong box is answered."""
    wrong = np.array([[0, 0, 2, 2, 0.9, 0]], np.float32)
    right = [np.insert(boxes, 4, 0.9, axis=1).astype(np.float32) for boxes in labels]
    return objects([wrong if number in missing else found for number, found in enumerate(right)])


@dataclass(frozen=True)
class ByHand:
    """Runs whose answers are made up: for each the images that are missed on validation, and on test."""

    done: Done
    folder: Path

    def grid(self, *missing: tuple[set[int], set[int]]) -> GridRef:
        workspace, splits = self.done.workspace, self.done.splits
        parent = workspace.tracking.start("by hand", {}, {})
        runs = tuple(self._run(number, *images) for number, images in enumerate(missing))
        return GridRef(axes=("seed",), runs=runs, parent=parent, trained=len(runs), splits=splits)

    def _run(self, number: int, validation: set[int], test: set[int]) -> RunResult:
        workspace, splits = self.done.workspace, self.done.splits
        rows, indices = workspace.use_case.read(workspace.data_folder), indices_of(workspace, splits)
        made = {}
        for split, missing in (("validation", validation), ("test", test)):
            labels = rows.labels[indices[split]]
            predictions = answers_missing(labels, missing)
            made[split] = workspace.use_case.task.evaluate(labels, predictions, rows.names, split, splits.fingerprint)
            save_predictions(workspace, self.folder / f"{number}.{split}", predictions)
        trained = TrainedRef(
            run_id=f"run{number}",
            splits=splits,
            config={"seed": number},
            epochs=1,
            seconds=1,
            ended_at=datetime.now(UTC),
        )
        kept = workspace.contents.keep("predictions", self.folder / f"{number}.validation")
        return RunResult(config={"seed": number}, run_id=f"run{number}", trained=trained, predictions=kept, **made)

    def table(self, grid: GridRef) -> tuple[Experiment, str]:
        places = self.done.workspace.settings.model_copy(update={"artifacts_dir": self.folder})
        found = summarize_grid(Workspace(places), grid, self.done.model, self.done.decision)
        return found, (self.folder / FILE).read_text()


@pytest.fixture
def by_hand(done: Done, tmp_path: Path) -> ByHand:
    return ByHand(done, tmp_path)


def test_best_of_a_grid_chosen_on_10_validation_images_and_published_as_the_result(by_hand: ByHand) -> None:
    """Defect 10. The best of validation is chosen, and what is published is its test split, with interval and both counts."""
    grid = by_hand.grid(({0, 1, 2, 3}, set()), (set(), {0, 1, 2}), ({0}, {0}))
    best = grid.best
    assert best.run_id == "run1"
    assert best.validation is not None
    assert best.test is not None
    assert best.validation.map50.value > 0.99
    assert best.test.map50.value < 0.9
    found, text = by_hand.table(grid)
    shown = next(line for line in text.splitlines() if line.startswith("| run1"))
    interval = best.test.map50
    assert rf"| {interval.value:.3f} \[{interval.low:.3f}, {interval.high:.3f}\] |" in shown
    assert shown.endswith("| finished, staging |")
    assert (found.runs[1].map50, found.runs[1].validation) == (interval.value, best.validation.map50)
    assert f"Selected by mAP@50 on the validation split (8 images): {best.validation.map50.value:.3f}" in text
    assert "The table shows the test split (8 images), unused in selection." in text


def test_runs_that_validation_cannot_tell_apart_are_said_to_be_within_noise(by_hand: ByHand) -> None:
    """The first two miss an image each, the third seven of eight."""
    grid = by_hand.grid(({0}, set()), ({1}, set()), (set(range(7)), set()))
    alike, second = within_noise(by_hand.done.workspace, grid)
    assert alike == 2
    assert second is not None
    assert second.low <= 0 <= second.difference
    assert "The best 2 runs are within noise of each other on the 8 validation images" in by_hand.table(grid)[1]


def test_a_run_that_validation_does_tell_apart_is_not_said_to_be_within_noise(by_hand: ByHand) -> None:
    grid = by_hand.grid((set(range(7)), set()), (set(), set()))
    alike, second = within_noise(by_hand.done.workspace, grid)
    assert alike == 1
    assert second is not None
    assert second.low > 0
    text = by_hand.table(grid)[1]
    assert "within noise" not in text
    assert f"the best leads the second by {100 * second.difference:.1f} points" in text


def test_a_failed_run_is_a_row_with_its_reason_and_is_never_the_best(by_hand: ByHand) -> None:
    made = by_hand.grid((set(range(8)), set()))
    failed = RunResult(config={"seed": 9}, run_id="broken", reason="no disk")
    found, text = by_hand.table(made.model_copy(update={"runs": (failed, *made.runs)}))
    assert (found.best, found.runs[0].status, found.runs[0].map50) == ("run0", "failed", None)
    assert "| broken |  |  | 9 |  |  |  | failed |" in text
    assert "- broken failed: no disk" in text
    assert "There is no second run to compare with the best." in text


def test_the_last_axis_changes_fastest_and_what_varies_has_a_column() -> None:
    configs = Grid(axes={"epochs": (1, 2), "lr": (0.1, 0.2)}, base={"seed": 3}).configs()
    assert [(config["epochs"], config["lr"]) for config in configs] == [(1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)]
    assert {config["seed"] for config in configs} == {3}


def test_nothing_of_these_tests_is_left_running(done: Done) -> None:
    assert not [child for child in psutil.Process(os.getpid()).children() if "grid_run" in " ".join(child.cmdline())]
