"""Evaluates challenger and champions on the same images, frozen test split and fresh slice, and applies the gate.

Here: gathering the evidence. Not here: the rules (`core.gate`), and applying a verdict (`promotion`).
"""

from contextlib import suppress

from openmlops.core.gate.rules import Contender, decide
from openmlops.core.types import Comparison, ModelRef, SplitsRef, Verdict
from openmlops.errors import EvaluationError, GateError, ModelCorrupt, ModelNotFound
from openmlops.operations.data.production_labels import held_out
from openmlops.operations.release.aliases import version_of
from openmlops.operations.release.cached_predictions import sealed_classes
from openmlops.operations.release.class_changes import NEW_CLASSES, ClassChanges
from openmlops.operations.release.evaluation_sets import EvaluationSet, Holdout
from openmlops.operations.release.witnesses import require_whole
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say


def run_gate(workspace: Workspace, challenger: ModelRef, splits: SplitsRef) -> Verdict:
    """The gate's verdict on a version, from predictions of its exported model, the champion's and the best former champion's.

    If the champion's files are gone, the verdict is `inconclusive`. Raises GateError if the challenger is the champion, or if
    there are no test images; ModelNotFound if the challenger's files are gone; ModelCorrupt if files are damaged; RegistryError
    if the registry's entry of a champion differs from the ledger.
    """
    number = workspace.ledger.champion(challenger.name)
    champion = None if number is None else version_of(workspace, challenger.name, number)
    if champion and challenger.version != champion.version and challenger.sha256 == champion.sha256:
        return _identical_model(challenger, champion)
    holdout = Holdout(workspace, splits, _contenders(workspace, challenger))
    if number is None or champion is None:
        task = workspace.use_case.task
        return decide(holdout.contender(challenger), None, (), holdout.floor, floor_of=task.floor_of)
    try:
        changes = ClassChanges.of(holdout, champion, sealed_classes(workspace, challenger))
        holdout.contender(champion)
    except ModelNotFound as error:
        return _without_champion(holdout.contender(challenger), number, error)
    if changes.judged.is_empty:
        return _without_common_class(holdout.contender(challenger), changes)
    judged = changes.judged
    best, notes = _best_former_champion(judged, challenger, champion)
    comparisons = [judged.compare(challenger, champion), *best]
    if changes.new:
        comparisons.append(holdout.of_classes(changes.new, NEW_CLASSES).compare(challenger, champion))
    if fresh := held_out(workspace, challenger.name, holdout.data):
        notes = (*notes, *fresh.notes)
        evaluation_set = EvaluationSet(workspace, "fresh", fresh.images, fresh.labels, holdout.names).known_to(
            changes.champion_classes
        )
        try:
            comparisons.append(evaluation_set.compare(challenger, champion))
        except (EvaluationError, GateError) as error:  # the labels contain no box, or are all of new classes
            notes = (*notes, f"The fresh images could not be evaluated: {error}")
    verdict = decide(judged.contender(challenger), judged.contender(champion), comparisons, holdout.floor)
    return verdict.model_copy(update={"reasons": (*verdict.reasons, *changes.notes(), *holdout.notes, *notes)})


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


def _without_common_class(challenger: Contender, changes: ClassChanges) -> Verdict:
    """The verdict on a challenger whose champion knows no class of the test images."""
    score = f"Version {challenger.version} scores {100 * challenger.score.value:.2f} % on holdout"
    reasons = (
        f"The champion, version {changes.champion}, knows no class of the test images, so nothing can be compared.",
        *changes.notes(),
        f"{score}; `openmlops promote` with --force --reason puts it into production.",
    )
    return Verdict(outcome="inconclusive", reasons=reasons, challenger=challenger.version, champion=changes.champion)


def _contenders(workspace: Workspace, challenger: ModelRef) -> list[ModelRef]:
    """The challenger and all champions, which can all be the bar."""
    found = [challenger]
    for version in workspace.ledger.champions(challenger.name):
        with suppress(ModelNotFound, ModelCorrupt):
            found.append(version_of(workspace, challenger.name, version))
    return found


def _best_former_champion(
    judged: EvaluationSet, challenger: ModelRef, champion: ModelRef
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """The comparison with the former champion that leads the current one by most, if one does; and notes on versions that could
    not be evaluated. Each is judged on what both champions can know."""
    best: tuple[Comparison, ...] = ()
    highest, notes = 0.0, []
    for version in judged.workspace.ledger.champions(challenger.name):
        try:
            former = version_of(judged.workspace, challenger.name, version)
            common = judged.known_to(sealed_classes(judged.workspace, former))
            if common.is_empty:
                notes.append(f"Version {version} was champion and knows no class of the test images")
                continue
            lead = common.contender(former).score.value - common.contender(champion).score.value
        except (ModelNotFound, ModelCorrupt) as error:
            notes.append(f"Version {version} was champion and could not be compared: {error}")
            continue
        if lead > highest and former.sha256 != challenger.sha256:
            best, highest = (common.compare(challenger, former),), lead
    return best, tuple(notes)
