"""Claims about the study of a search: all on disk, the same draws after a kill, and no hopeless trial to its end."""

from pathlib import Path

import pytest

from openmlops.adapters.optuna_study import COMPARED, WARMUP, Study
from openmlops.core.search_space import Choices, Range

SPACE = {"lr": Range(low=0.01, high=1, log=True), "epochs": Range(low=1, high=9, whole=True), "width": Choices(options=(4, 8))}


def study(folder: Path, seed: int = 0) -> Study:
    return Study(folder / "study.db", SPACE, seed)


def settings_of(folder: Path, trials: int, seed: int = 0, reopened: bool = False) -> list[dict]:
    found = study(folder, seed)
    for _ in range(trials):
        trial = found.ask()
        found.complete(trial.number, trial.settings["lr"])
        found = study(folder, seed) if reopened else found
    return [trial.settings for trial in found.trials()]


def test_a_process_that_goes_on_draws_what_the_first_would_have_drawn(tmp_path: Path) -> None:
    """Beyond the trials that are drawn at random, too."""
    assert settings_of(tmp_path / "a", 10) == settings_of(tmp_path / "b", 10, reopened=True)
    assert settings_of(tmp_path / "a", 0)[0] != settings_of(tmp_path / "c", 1, seed=1)[0]


def test_settings_are_in_their_ranges_and_of_their_types(tmp_path: Path) -> None:
    for settings in settings_of(tmp_path, 4):
        assert all(SPACE[name].holds(value) for name, value in settings.items())
        assert type(settings["epochs"]) is type(settings["width"]) is int


def test_what_was_running_is_running_after_a_kill_and_can_be_ended(tmp_path: Path) -> None:
    before = study(tmp_path).ask()
    found = study(tmp_path)
    (after,) = found.trials()
    assert (after, after.state) == (before, "running")
    found.report(after.number, 0.5, 1)
    found.note(after.number, "run_id", "7")
    found.complete(after.number, 0.5)
    assert [(trial.state, trial.notes) for trial in study(tmp_path).trials()] == [("complete", {"run_id": "7"})]


def test_a_suggestion_is_the_next_trial_once(tmp_path: Path) -> None:
    study(tmp_path).suggest({"lr": 0.5})
    found = study(tmp_path)
    found.suggest({"lr": 0.5})
    assert found.ask().settings["lr"] == 0.5
    study(tmp_path).suggest({"lr": 0.5})
    assert found.ask().settings["lr"] != 0.5
    assert len(found.trials()) == 2


def test_a_trial_below_the_median_is_hopeless_but_not_before_the_warm_up_and_not_without_enough_others(tmp_path: Path) -> None:
    found, late = study(tmp_path), WARMUP + 1
    for score in range(COMPARED):
        trial = found.ask()
        assert not found.report(trial.number, -1.0, late), "nothing to compare with"
        found.complete(trial.number, score)
    better, early, worse = (found.ask().number for _ in range(3))
    assert not found.report(early, -5.0, WARMUP - 1)
    assert not found.report(better, 0.0, late)
    assert found.report(worse, -2.0, late)
    found.prune(worse)
    assert found.trials()[worse].state == "pruned"


def test_the_time_spent_is_kept(tmp_path: Path) -> None:
    assert study(tmp_path).seconds == 0
    study(tmp_path).seconds = 12.5
    assert study(tmp_path).seconds == 12.5


@pytest.mark.parametrize("low", [0, -1])
def test_a_logarithmic_range_is_above_zero(low: float) -> None:
    with pytest.raises(ValueError, match="is not a range"):
        Range(low=low, high=1, log=True)
