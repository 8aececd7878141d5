"""Evaluates challenger and champions on the same images, frozen test split and fresh slice, and applies the gate.

Here: gathering the evidence. Not here: the rules (`core.gate`), and applying a verdict (`promotion`).
"""

import numpy as np

from openmlops.core.gate.rules import Contender, decide
from openmlops.core.types import Comparison, ModelRef, SplitsRef, Verdict
from openmlops.errors import EvaluationError, GateError, ModelCorrupt, ModelNotFound
from openmlops.images.lazy import Images, sizes
from openmlops.operations.data.datasets import indices_of
from openmlops.operations.data.production_labels import held_out
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release.aliases import version_of
from openmlops.operations.release.cached_predictions import cached_predictions
from openmlops.operations.release.witnesses import require_whole
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

HOLDOUT = "holdout"


def run_gate(workspace: Workspace, challenger: ModelRef, splits: SplitsRef) -> Verdict:
    """The gate's verdict on a version, from predictions of its exported model, the champion's and the best former champion's.

    If the champion's files are gone, the verdict is `inconclusive`. Raises GateError if the challenger is the champion, or if
    there are no test images; ModelNotFound if the challenger's files are gone; ModelCorrupt if files are damaged; RegistryError
    if the registry's entry of a champion differs from the ledger.
    """
    holdout = _Holdout(workspace, splits)
    number = workspace.ledger.champion(challenger.name)
    if number is None:
        task = workspace.use_case.task
        return decide(holdout.contender(challenger), None, (), holdout.floor, floor_of=task.floor_of)
    champion = version_of(workspace, challenger.name, number)
    if challenger.version != champion.version and challenger.sha256 == champion.sha256:
        return _identical_model(challenger, champion)
    contender = holdout.contender(challenger)
    try:
        holdout.contender(champion)
    except ModelNotFound as error:
        return _without_champion(contender, number, error)
    best, notes = _best_former_champion(holdout, challenger, champion)
    comparisons = [holdout.compare(challenger, opponent) for opponent in (champion, *best)]
    if fresh := held_out(workspace, challenger.name, holdout.rows):
        evaluation_set = _EvaluationSet(workspace, "fresh", *fresh, holdout.rows.names)
        try:
            comparisons.append(evaluation_set.compare(challenger, champion))
        except EvaluationError as error:  # the labels contain no box
            notes = (*notes, f"The fresh images could not be evaluated: {error}")
    verdict = decide(contender, holdout.contender(champion), comparisons, holdout.floor)
    return verdict.model_copy(update={"reasons": (*verdict.reasons, *notes)})


def check_champion(workspace: Workspace) -> None:
    """Before a training: can the gate run the champion? If its files are gone, says on standard error what that means.

    Raises LedgerBehind, ModelCorrupt, RegistryError and ServiceUnavailable.
    """
    name = workspace.model_name
    require_whole(workspace, name)
    champion = workspace.ledger.champion(name)
    if champion is None:
        return
    try:
        workspace.registry.fetch(version_of(workspace, name, champion))
    except ModelNotFound as error:
        say(f"Warning: {error.problem}. The gate can compare no version with it: promote the new one with --force --reason.")


def _identical_model(challenger: ModelRef, champion: ModelRef) -> Verdict:
    """The verdict on a challenger that is bit-identical to the champion."""
    reason = f"Version {challenger.version} has exactly the same files as the champion, version {champion.version}"
    why = (f"{reason}. Train on other data, with another seed or for longer.",)
    return Verdict(outcome="reject", reasons=why, challenger=challenger.version, champion=champion.version)


def _without_champion(challenger: Contender, champion: int, error: ModelNotFound) -> Verdict:
    """The verdict on a challenger whose champion cannot be run any more."""
    score = f"Version {challenger.version} scores {100 * challenger.score.value:.2f} % on holdout"
    reasons = (
        f"The champion, version {champion}, could not be compared: {error.problem}.",
        f"{score}; `openmlops promote` with --force --reason puts it into production.",
    )
    return Verdict(outcome="inconclusive", reasons=reasons, challenger=challenger.version, champion=champion)


class _EvaluationSet:
    """Images and labels that models are evaluated on."""

    def __init__(self, workspace: Workspace, name: str, images: Images, labels: np.ndarray, names: tuple[str, ...]) -> None:
        self.workspace, self.name, self.images, self.labels, self.names = workspace, name, images, labels, names
        self.task = workspace.use_case.task

    def predictions(self, model: ModelRef) -> np.ndarray:
        """Predictions of the version's exported model."""
        return cached_predictions(self.workspace, model, self.images, len(self.names))

    def contender(self, model: ModelRef) -> Contender:
        score = self.task.score_of(self.labels, self.predictions(model), len(self.names))
        return Contender(version=model.version, sha256=model.sha256, score=score)

    def compare(self, challenger: ModelRef, opponent: ModelRef) -> Comparison:
        ours, theirs = self.predictions(challenger), self.predictions(opponent)
        return self.task.compare(self.name, self.labels, ours, theirs, opponent.version, self.name == HOLDOUT)


class _Holdout(_EvaluationSet):
    """The frozen test split."""

    def __init__(self, workspace: Workspace, splits: SplitsRef) -> None:
        rows, test = rows_of(workspace, splits.dataset), indices_of(workspace, splits)["test"]
        if len(test) == 0:
            version = f"{splits.dataset.name}, version {splits.dataset.fingerprint[:12]},"
            raise GateError(f"The test split of {version} has no images", "Add a test set to the data")
        super().__init__(workspace, HOLDOUT, rows.images[test], rows.labels[test], rows.names)
        self.rows = rows

    @property
    def floor(self) -> float:
        """The score of the best constant prediction."""
        return self.task.floor(sizes(self.images), self.labels, len(self.names))


def _best_former_champion(
    holdout: _Holdout, challenger: ModelRef, champion: ModelRef
) -> tuple[tuple[ModelRef, ...], tuple[str, ...]]:
    """The former champion with the best holdout score, if it beats the current one; and notes on versions that could not be
    evaluated."""
    best: tuple[ModelRef, ...] = ()
    highest, notes = holdout.contender(champion).score.value, []
    for version in holdout.workspace.ledger.champions(challenger.name):
        try:
            former = version_of(holdout.workspace, challenger.name, version)
            score = holdout.contender(former).score.value
        except (ModelNotFound, ModelCorrupt) as error:
            notes.append(f"Version {version} was champion and could not be compared: {error}")
            continue
        if score > highest and former.sha256 != challenger.sha256:
            best, highest = (former,), score
    return best, tuple(notes)
