"""Judgement: let challenger and champions answer the same images, frozen test split and fresh slice, and ask the gate.

What is here: gathering. What is not: the rules (`core.gate`), and what follows from a verdict (`promotion`).
"""

from pathlib import Path

import numpy as np

from openmlops.core.gate import Contender, compare, decide
from openmlops.core.metrics import wilson
from openmlops.core.types import Comparison, ModelRef, SplitsRef, Verdict
from openmlops.errors import GateError, ModelCorrupt, ModelNotFound
from openmlops.operations.answers import predicted_classes
from openmlops.operations.data import indices_of
from openmlops.operations.production_images import held_out
from openmlops.operations.workspace import Workspace


def judge(workspace: Workspace, challenger: ModelRef, splits: SplitsRef) -> Verdict:
    """The gate's verdict on a version, from the answers of its exported file, the champion's and the best champion's ever.

    Raises GateError if the challenger is the champion, or if there are no test images; ModelNotFound or ModelCorrupt if one of
    the two cannot answer.
    """
    holdout = _Holdout(workspace, splits)
    number = workspace.ledger.champion(challenger.name)
    if number is None:
        return decide(holdout.contender(challenger), None, (), holdout.floor)
    champion = workspace.registry.version(challenger.name, number)
    if challenger.version != champion.version and challenger.sha256 == champion.sha256:
        return _trained_again(challenger, champion)
    best, notes = _best_former(holdout, challenger, champion)
    comparisons = [holdout.compare(challenger, opponent) for opponent in (champion, *best)]
    if fresh := held_out(workspace, challenger.name, holdout.rows):
        comparisons.append(_compare_fresh(workspace, challenger, champion, *fresh))
    verdict = decide(holdout.contender(challenger), holdout.contender(champion), comparisons, holdout.floor)
    return verdict.model_copy(update={"reasons": (*verdict.reasons, *notes)})


def _trained_again(challenger: ModelRef, champion: ModelRef) -> Verdict:
    """The same training as the champion's came out as the same model, to the bit: there is nothing to compare."""
    reason = f"Version {challenger.version} is the same model as the champion, version {champion.version}, file by file"
    why = (f"{reason}. Train on other data, with another seed or for longer.",)
    return Verdict(outcome="reject", reasons=why, challenger=challenger.version, champion=champion.version)


class _Holdout:
    """The test images with their labels, and who answers which of them right."""

    def __init__(self, workspace: Workspace, splits: SplitsRef) -> None:
        rows, test = workspace.use_case.read(Path(splits.dataset.path)), indices_of(splits)["test"]
        if len(test) == 0:
            raise GateError(f"The test split of {splits.dataset.path} has no images", "Add a test set to the data")
        self.workspace, self.rows, self.images, self.labels = workspace, rows, rows.images[test], rows.labels[test]

    @property
    def floor(self) -> float:
        """The accuracy of always answering the commonest class."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def correct(self, model: ModelRef) -> np.ndarray:
        """bool (n,): which images the version's exported file answers right."""
        return predicted_classes(self.workspace, model, self.images) == self.labels

    def contender(self, model: ModelRef) -> Contender:
        correct = self.correct(model)
        return Contender(version=model.version, sha256=model.sha256, score=wilson(int(correct.sum()), len(correct)))

    def compare(self, challenger: ModelRef, opponent: ModelRef) -> Comparison:
        return compare("holdout", self.correct(challenger), self.correct(opponent), opponent.version, holdout=True)


def _compare_fresh(
    workspace: Workspace, challenger: ModelRef, champion: ModelRef, images: np.ndarray, labels: np.ndarray
) -> Comparison:
    """On labelled production images that neither was trained on: the world of now."""
    ours, theirs = (predicted_classes(workspace, model, images) == labels for model in (challenger, champion))
    return compare("fresh", ours, theirs, champion.version, holdout=False)


def _best_former(holdout: _Holdout, challenger: ModelRef, champion: ModelRef) -> tuple[tuple[ModelRef, ...], tuple[str, ...]]:
    """The former champion that scores best on the holdout, if it beats the one of now; and who could not be asked, in words."""
    best: tuple[ModelRef, ...] = ()
    highest, notes = int(holdout.correct(champion).sum()), []
    for version in holdout.workspace.ledger.champions(challenger.name):
        try:
            former = holdout.workspace.registry.version(challenger.name, version)
            score = int(holdout.correct(former).sum())
        except (ModelNotFound, ModelCorrupt) as error:
            notes.append(f"Version {version} was champion and could not be compared with: {error}")
            continue
        if score > highest and former.sha256 != challenger.sha256:
            best, highest = (former,), score
    return best, tuple(notes)
