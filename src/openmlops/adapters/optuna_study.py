"""Optuna: which settings a search tries next, and which trials are hopeless. One study in one SQLite file.

One process at a time uses a study; its caller holds a lock. All that is told to it is on disk when the call returns, so that a
killed search goes on where it was: the trials that were running then are running still. What is not here: the trainings.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from openmlops.core.search_space import Choices, Range, Setting, Space
from openmlops.core.types import Value

STARTUP = 8
"""trials that are drawn at random before the sampler learns from them"""
COMPARED = 4
"""completed trials before the first may be pruned, and how many must have been measured at the same point of their training"""
WARMUP = 3
"""steps of a training before which no trial is pruned"""

State = Literal["waiting", "running", "complete", "pruned", "failed"]

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


class Trial(Value):
    """One trial: its number, its settings, its state, and what was noted about it."""

    number: int
    settings: dict[str, Setting]
    state: State
    notes: dict[str, Any]


class Study:
    """The trials of one search, higher scores better. `seed`: of the settings that are drawn."""

    def __init__(self, path: Path, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
        pruner = optuna.pruners.MedianPruner(n_startup_trials=COMPARED, n_warmup_steps=WARMUP, n_min_trials=COMPARED)
        self._study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True, pruner=pruner
        )
        self._space, self._seed = {name: _distribution(each) for name, each in space.items()}, seed

    def trials(self) -> tuple[Trial, ...]:
        """All trials that were begun, oldest first."""
        return tuple(_trial(found) for found in self._found() if found.state != TrialState.WAITING)

    def suggest(self, settings: Mapping[str, Setting]) -> None:
        """Let the next trial have these settings, the others drawn; nothing if a trial had them already."""
        if settings:
            self._study.enqueue_trial(dict(settings), skip_if_exists=True)

    def ask(self) -> Trial:
        """Begin a trial. What is drawn depends on the seed and the trials so far alone."""
        seed = self._seed * 100_003 + len(self.trials())
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
        number = self._study.ask(self._space).number
        return _trial(self._found()[number])

    def report(self, number: int, score: float, step: int) -> bool:
        """Note the score of a running trial at a step of its training; whether it is hopeless: below the median there."""
        trial = self._resumed(number)
        trial.report(score, step)
        return trial.should_prune()

    def note(self, number: int, name: str, value: Any) -> None:
        """Note something about a trial, in JSON's types."""
        self._study._storage.set_trial_user_attr(self._found()[number]._trial_id, name, value)

    def complete(self, number: int, score: float) -> None:
        """End a trial with its score."""
        self._study.tell(number, score)

    def prune(self, number: int) -> None:
        """End a hopeless trial."""
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int) -> None:
        """End a trial that could not be trained."""
        self._study.tell(number, state=TrialState.FAIL)

    @property
    def seconds(self) -> float:
        """Time spent on the search so far."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._study.set_user_attr("seconds", value)

    def _found(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _resumed(self, number: int) -> optuna.Trial:
        """A running trial, also of a process that was killed."""
        return optuna.Trial(self._study, self._found()[number]._trial_id)


def _distribution(setting: Range | Choices) -> BaseDistribution:
    if isinstance(setting, Choices):
        return CategoricalDistribution(setting.options)
    if setting.whole:
        return IntDistribution(int(setting.low), int(setting.high), log=setting.log)
    return FloatDistribution(setting.low, setting.high, log=setting.log)


def _trial(found: FrozenTrial) -> Trial:
    return Trial(number=found.number, settings=found.params, state=_STATES[found.state], notes=found.user_attrs)
