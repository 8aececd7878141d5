"""Claims about searches: their limits, what is pruned, and that a kill or Ctrl-C at any moment loses no completed trial."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from openmlops.adapters.mlflow_client import connect
from openmlops.cli.search import setting
from openmlops.core.search_space import Choices, Range
from openmlops.core.types import TrainedRef
from openmlops.errors import SettingsError
from openmlops.files import write_text
from openmlops.operations.data import datasets
from openmlops.operations.training import grid_report, search
from openmlops.operations.training.grid import GridRef, within_noise
from openmlops.operations.training.grid_jobs import PARENT_TAG, RunResult, predictions_file, progress_file
from openmlops.operations.training.predictions import save_predictions
from openmlops.operations.training.search import Search, search_of
from openmlops.operations.workspace import Workspace
from small_loop import workspace
from small_people import clean_environment, environment

SPACE = {"lr": Range(low=0.01, high=1, log=True)}
SMALL = {"channels": "8-16", "stem_stride": 2, "batch_size": 100, "flip": False}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = workspace(tmp_path_factory.mktemp("search") / "home")
    datasets.make_sample(made)
    return made


class Job:
    """A trial that takes no time: it scores `1 - |lr - 0.1|`, or does what `acts` says of its number."""

    acts: ClassVar[dict[int, Callable[["Job"], RunResult]]] = {}
    ran: ClassVar[list[float]] = []
    ended = False

    def __init__(self, workspace: Workspace, splits: Any, preprocessing: Any, config: dict[str, Any], tests: bool) -> None:
        assert not tests, "the test split is for the selected trial"
        self.workspace, self.splits, self.config = workspace, splits, config
        self.key = f"{config['lr']:.17f}"
        self.shown = "one trial"

    def result_file(self, folder: Path) -> Path:
        return folder / f"{self.key}.json"

    def read(self, folder: Path) -> RunResult | None:
        path = self.result_file(folder)
        return RunResult.model_validate_json(path.read_bytes()) if path.exists() else None

    def run(self, folder: Path, parent: str, jobs: int, number: str) -> RunResult:
        self.folder = folder
        Job.ran.append(self.config["lr"])
        act = Job.acts.get(int(number.partition("/")[0]), Job.finish)
        return act(self)

    def finish(self) -> RunResult:
        rows = self.workspace.use_case.read(self.workspace.data_folder)
        labels = rows.labels[datasets.indices_of(self.workspace, self.splits)["validation"]]
        right = np.arange(len(labels)) < len(labels) * (1 - abs(self.config["lr"] - 0.1))
        predictions = np.eye(10, dtype=np.float32)[np.where(right, labels, (labels + 1) % 10)]
        evaluation = self.workspace.use_case.task.evaluate(labels, predictions, rows.names, "validation", "f")
        path = predictions_file(self.result_file(self.folder))
        save_predictions(self.workspace, path, predictions)
        trained = TrainedRef(
            run_id=self.key, splits=self.splits, config=self.config, epochs=1, seconds=1, ended_at=datetime.now(UTC)
        )
        kept = self.workspace.contents.keep("predictions", path)
        result = RunResult(config=self.config, run_id=self.key, trained=trained, validation=evaluation, predictions=kept)
        write_text(self.result_file(self.folder), result.model_dump_json())
        return result

    def fail(self) -> RunResult:
        return RunResult(config=self.config, reason="no disk")

    def linger(self) -> RunResult:
        """Go on until it is ended, at a tenth of the score that others have; that takes an hour."""
        Clock.ahead += 3600.0
        write_text(progress_file(self.result_file(self.folder)), json.dumps([[0.5, 0.01]]))
        while not self.ended:
            time.sleep(0.01)
        return RunResult(config=self.config, reason="interrupted")

    def end(self) -> None:
        self.ended = True

    def close(self, workspace: Workspace, result: RunResult, parent: str) -> RunResult:
        return result.model_copy(update={"run_id": "closed"})


class Clock:
    """The time by which a search goes, which a trial moves."""

    ahead = 0.0

    @classmethod
    def monotonic(cls) -> float:
        return time.monotonic() + cls.ahead


@pytest.fixture
def trials(found: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., search._Trials]:
    monkeypatch.setattr(search, "GridJob", Job)
    monkeypatch.setattr(search, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(search, "time", Clock)
    monkeypatch.setattr(Clock, "ahead", 0.0)
    monkeypatch.setattr(Job, "acts", {})
    monkeypatch.setattr(Job, "ran", [])
    splits = datasets.split(found, datasets.ingest(found), 0)

    def make(**limits: Any) -> search._Trials:
        return search._Trials(found, splits, None, Search(space=SPACE, **limits), tmp_path, "parent")

    return make


def states(of: search._Trials) -> list[str]:
    return [trial.state for trial in of.study.trials()]


def test_so_many_trials_are_run_and_given_again_with_more_only_the_others(trials) -> None:
    assert trials(trials=3).run() == 3
    assert trials(trials=3).run() == 0
    assert trials(trials=5).run() == 2
    assert len(Job.ran) == len(set(Job.ran)) == 5


def test_a_failed_trial_is_a_result_with_its_reason_and_the_others_go_on(trials) -> None:
    Job.acts[2] = Job.fail
    made = trials(trials=3)
    assert made.run() == 2
    assert [result.status for result in made.results()] == ["finished", "failed", "finished"]
    assert (made.results()[1].reason, made.results()[1].run_id) == ("no disk", "closed")


def test_a_hopeless_trial_is_ended_and_counts_as_pruned(trials) -> None:
    Job.acts[6] = Job.linger
    made = trials(trials=7, jobs=1)
    for number in range(1, 6):
        Job.acts[number] = lambda job: _seen(job, made)
    made.run()
    assert states(made) == ["complete"] * 5 + ["pruned", "complete"]
    result = made.results()[5]
    assert (result.status, result.reason) == ("pruned", search.PRUNED)
    assert made.study.trials()[5].notes["run_id"] == "closed"


def _seen(job: Job, by: search._Trials) -> RunResult:
    """Finish after the search has looked at the score halfway."""
    write_text(progress_file(job.result_file(job.folder)), json.dumps([[0.5, 0.5]]))
    while not any(running.step for running in list(by.active.values())):
        time.sleep(0.005)
    return job.finish()


def test_no_trial_is_begun_after_the_budget_and_one_that_runs_then_is_ended_and_goes_on_with_a_larger_one(trials) -> None:
    Job.acts[2] = Job.linger
    made = trials(trials=5, budget=1800.0)
    assert made.run() == 1
    assert states(made) == ["complete", "running"]
    assert made.study.seconds >= 1800.0
    again = trials(trials=5, budget=1800.0)
    assert (again.run(), states(again)) == (0, ["complete", "running"]), "the time of earlier calls counts"
    Job.acts.clear()
    more = trials(trials=3, budget=360_000.0)
    assert more.run() == 2
    assert states(more) == ["complete"] * 3
    assert Job.ran.count(Job.ran[1]) == 2, "the trial that was ended is resumed"


def test_a_budget_too_small_for_one_trial_still_completes_the_first(trials) -> None:
    Job.acts[1] = lambda job: time.sleep(0.2) or job.finish()
    made = trials(trials=5, budget=0.001)
    assert made.run() == 1


def test_ctrl_c_ends_with_what_is_known_and_loses_nothing(trials, capsys: pytest.CaptureFixture[str]) -> None:
    Job.acts[3] = _interrupt
    with pytest.raises(KeyboardInterrupt):
        trials(trials=4).run()
    said = capsys.readouterr().err
    assert "2 trials are completed; the same command goes on with the others." in said
    assert "The best so far, " in said
    Job.acts.clear()
    again = trials(trials=4)
    assert again.run() == 2
    assert states(again) == ["complete"] * 4


def _interrupt(job: Job) -> RunResult:
    raise KeyboardInterrupt


def test_after_a_kill_at_any_trial_the_same_settings_are_tried(trials, tmp_path: Path) -> None:
    """As a killed process leaves it: a trial is running that nobody runs."""
    whole = trials(trials=4)
    whole.run()
    tried = list(Job.ran)
    Job.ran.clear()
    (tmp_path / "study.db").unlink()
    trials(trials=2).run()
    trials(trials=3).study.ask()
    assert trials(trials=4).run() == 2
    assert Job.ran == tried


def test_the_first_trial_has_the_use_cases_own_settings(found: Workspace) -> None:
    made = search_of(found, {"lr": Choices(options=(0.1, 0.2)), "weight_decay": Range(low=1e-5, high=1e-2, log=True)})
    of = search._Trials.__new__(search._Trials)
    of.workspace, of.search = found, made
    assert of._defaults()["weight_decay"] == 5e-4
    assert "lr" not in of._defaults(), "none is the default, which the use case resolves"


def test_the_best_is_selected_on_validation_and_its_noise_told(trials, found: Workspace) -> None:
    made = trials(trials=6)
    made.run()
    splits = made.splits
    grid = GridRef(axes=("lr",), runs=made.results(), parent="p", trained=6, splits=splits)
    assert grid.best.score == max(run.score for run in grid.runs)
    assert abs(grid.best.config["lr"] - 0.1) == min(abs(run.config["lr"] - 0.1) for run in grid.runs)
    alike, second = within_noise(found, grid)
    assert alike >= 1
    assert second is not None
    assert second.difference >= 0
    text = grid_report._selected(found, grid)
    assert text.startswith("Selected by accuracy on the validation split")
    assert "Only the selected run was evaluated on the test split" in text


def test_what_a_use_case_declares_is_valid_for_it(found: Workspace) -> None:
    from openmlops.usecases.cifar10.recipe import TrainConfig as Small
    from openmlops.usecases.image_folder.recipe import TrainConfig as Own
    from openmlops.usecases.yolo_folder.recipe import TrainConfig as Detector

    for config in (Small, Own, Detector):
        for name, values in config.SEARCH.items():
            assert all(getattr(config(**{name: value}), name) == value for value in values.examples)


def test_a_search_leaves_out_what_does_nothing_with_the_backbone(monkeypatch: pytest.MonkeyPatch, found: Workspace) -> None:
    from openmlops.usecases.image_folder.recipe import TrainConfig as Own

    monkeypatch.setitem(vars(found), "use_case", replace(found.use_case, config=Own))
    assert set(search_of(found, {}, trials=2).space) == {"epochs", "flip"}
    assert {"lr", "width"} < set(search_of(found, {"backbone": "none"}, trials=2).space)


def test_settings_that_are_given_replace_what_is_declared(found: Workspace) -> None:
    made = search_of(found, {"lr": 0.1, "flip": Choices(options=(True,)), "steps": 5}, trials=2)
    assert made.base == {"lr": 0.1, "steps": 5}
    assert "lr" not in made.space
    assert "epochs" not in made.space, "steps are the length"
    assert made.space["flip"] == Choices(options=(True,))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"nonsense": 1}, "nonsense cannot be 1"),
        ({"lr": Range(low=-1, high=1)}, "lr cannot be -1"),
        ({"channels": Choices(options=("8-16", "a"))}, "channels cannot be 'a'"),
        ({"epochs": 2, "steps": 3}, "These fields cannot be combined|set one of epochs"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_runs(found: Workspace, given: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        search_of(found, given)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("none", "none"),
        ("8,16", Choices(options=(8, 16))),
        ("0.01..0.3", Range(low=0.01, high=0.3, log=True)),
        ("0.1..0.3", Range(low=0.1, high=0.3)),
        ("1..9", Range(low=1, high=9, whole=True)),
        ("0..1", Range(low=0, high=1, whole=True)),
        ("1e-5..1e-2", Range(low=1e-5, high=1e-2, log=True)),
    ],
)
def test_values_choices_and_ranges_are_read(text: str, value: Any) -> None:
    assert setting(text) == value


@pytest.mark.parametrize("text", ["3..1", "a..b", "1..", "..", "1,,2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        setting(text)


ASK = f"""
from openmlops.core.search_space import Range
from openmlops.operations.data import datasets
from openmlops.operations.training import search
from openmlops.operations.workspace import Workspace
workspace = Workspace.open()
splits = datasets.split(workspace, datasets.ingest(workspace), 0)
given = {SMALL!r} | dict.fromkeys(("label_smoothing", "weight_decay", "small_share"), 0.0)
given |= {{"epochs": Range(low=2, high=3, whole=True), "lr": Range(low=0.05, high=0.2)}}
found = search.search_all(workspace, splits, search.search_of(workspace, given, trials=3))
print(found.model_dump_json())
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["run 1/3  epoch   1", "run 2/3  epochs", "run 2/3  epoch   1"])
def test_killed_at_any_moment_it_ends_with_the_table_of_one_that_was_not(tmp_path: Path, moment: str) -> None:
    """Three trials of a small network: the same settings, bit-equal scores, one parent with a child each, one tested."""
    made = workspace(tmp_path / "home")
    datasets.make_sample(made)
    surroundings = clean_environment() | environment(made) | {"USE_CASE": "cifar10"}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", ASK],
            cwd=tmp_path,
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first = start()
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith(moment):
            break
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    killed = start()
    out, said = killed.communicate(timeout=600)
    assert killed.returncode == 0, said
    found = GridRef.model_validate_json(out)
    assert [run.status for run in found.runs] == ["finished"] * 3
    assert [run.test is not None for run in found.runs].count(True) == 1
    assert found.best.test is not None
    client = connect(made.settings.tracking_uri)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    children = {run.info.run_id for run in runs if run.data.tags.get(PARENT_TAG) == found.parent}
    assert children == {run.run_id for run in found.runs}
    assert {run.info.status for run in runs if run.info.run_id in children} == {"FINISHED"}
    whole = workspace(tmp_path / "whole")
    datasets.make_sample(whole)
    surroundings |= environment(whole) | {"USE_CASE": "cifar10"}
    out, said = start().communicate(timeout=600)
    other = GridRef.model_validate_json(out)
    assert [(run.config, run.score) for run in other.runs] == [(run.config, run.score) for run in found.runs]
