"""Promotion and rollback, by the pipeline and by hand.

The ledger is authoritative for the champion; the MLflow alias `champion` mirrors it and is repaired from it (`repair`) after
a process was killed between the two writes. Not here: what an act was decided on (`acts`), the evaluation (`gate`), and what is
displayed (`listing`).
"""

from contextlib import suppress
from datetime import UTC, datetime

from openmlops.adapters.fences import Lease
from openmlops.core.types import LedgerEntry, ModelRef, SplitsRef, Standing, Verdict, model_name
from openmlops.errors import GateError, GateRefusal, LedgerConflict, ModelCorrupt, ModelNotFound, RegistryError, one_line
from openmlops.operations.data import datasets
from openmlops.operations.release.acts import AGAIN, Tell, account, act_on, mirror, require_unchanged, standing
from openmlops.operations.release.aliases import STAGING, as_recorded, find_version, parsed, repair
from openmlops.operations.release.gate import run_gate
from openmlops.operations.release.witnesses import require_whole
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say


def decide(workspace: Workspace, model: ModelRef, splits: SplitsRef, fence: Lease | None = None) -> LedgerEntry:
    """Evaluate a newly registered version and apply the verdict, the last step of training. Idempotent: an existing verdict is
    returned, so that it can be retried after a kill or a commit of unknown outcome.

    If another process writes a verdict first, the version is evaluated again, against the new champion. Raises LeaseLost if
    another process has acquired the lease `fence` of the cycle that retrains.
    """
    require_whole(workspace, model.name)
    repair(workspace, model.name)
    while True:
        entries = workspace.ledger.history(model.name)
        if judged := [entry for entry in entries if _is_of(model, entry) and entry.verdict]:
            return _noted(workspace, judged[-1], fence)
        seen = entries[-1].sequence if entries else 0
        verdict = run_gate(workspace, model, splits)
        try:
            return _noted(workspace, apply(workspace, model, verdict, seen, fence=fence), fence)
        except LedgerConflict:
            continue


def verdict_under(workspace: Workspace, lease: Lease) -> int:
    """The ledger's row of the verdict that was written under a lease; 0 if there is none."""
    return workspace.progress.position(f"verdict/{lease.name}/{lease.term}")


def _noted(workspace: Workspace, entry: LedgerEntry, fence: Lease | None) -> LedgerEntry:
    """Note which row a retraining led to, for whoever concludes it."""
    if fence:
        workspace.progress.move(f"verdict/{fence.name}/{fence.term}", entry.sequence)
    return entry


def _is_of(model: ModelRef, entry: LedgerEntry) -> bool:
    return (entry.version, entry.model_sha256) == (model.version, model.sha256)


def apply(
    workspace: Workspace,
    model: ModelRef,
    verdict: Verdict,
    seen: int,
    reason: str = "",
    force: bool = False,
    actor: str = "",
    fence: Lease | None = None,
    tell: Tell = say,
) -> LedgerEntry:
    """Append a verdict to the ledger, whatever it is, and update the aliases.

    `seen` is the ledger's sequence number from before the evaluation; raises LedgerConflict if the ledger has moved on since.
    With `force`, an operator promotes the version against the verdict. `reason` is the operator's note. What fails once the row
    is written is told, and repaired by a later command. What goes into production has been fetched and verified before: raises
    ModelNotFound, ModelCorrupt.
    """
    if force or verdict.outcome == "promote":
        workspace.registry.fetch(model)  # the gate may have used predictions that it had kept
    workspace.registry.set_alias(model.name, STAGING, model.version)
    entry = workspace.ledger.append(
        model=model.name,
        expected_sequence=seen,
        kind="promote" if force else verdict.outcome,
        version=model.version,
        actor=actor or account(),
        reasons=_reasons(verdict, reason, force),
        dataset=model.dataset,
        model_sha256=model.sha256,
        verdict=verdict,
        at=datetime.now(UTC),
        fence=fence,
    )
    mirror(workspace, entry, tell)
    return entry


def _reasons(verdict: Verdict, reason: str, force: bool) -> tuple[str, ...]:
    if not reason:
        return verdict.reasons
    if verdict.outcome == "promote":
        return (f"Promoted manually: {reason}", *verdict.reasons)
    if force:
        return (f"Forced manually against the verdict '{verdict.outcome}': {reason}", *verdict.reasons)
    return (*verdict.reasons, f"Submitted manually: {reason}")


def promote(
    workspace: Workspace,
    version: str,
    reason: str | None = None,
    splits: SplitsRef | None = None,
    *,
    force: bool = False,
    expected: str | int | None = None,
    actor: str = "",
    tell: Tell = say,
) -> LedgerEntry:
    """Run the gate on `MODEL/VERSION` by hand, by default on the test split of the current data, and promote it if it passes.

    Otherwise the verdict is recorded and GateError raised. `reason` is a note for the ledger. With `force`, which needs a
    reason, the version is promoted anyway, and the ledger records that, the reason and the verdict. `expected` is the champion
    that the author saw (`standing`): raises LedgerConflict if another version has become champion since.
    """
    note = one_line(reason or "")
    if force and not note:
        raise GateError(f"{version[:80]} is to be promoted against the gate without a reason", "Pass --force with --reason WHY")
    require_whole(workspace, model_name(parsed(version)[0]))
    model = find_version(workspace, version)
    workspace.registered.version(model.name, model.version)  # one that only the ledger knows cannot go into production
    seen = standing(workspace, model.name, expected)
    verdict = run_gate(workspace, model, splits or _current_splits(workspace))

    def act(sequence: int) -> LedgerEntry:
        return apply(workspace, model, verdict, sequence, note, force, actor, tell=tell)

    entry = act_on(workspace, model.name, seen, act)
    if entry.kind != "promote":
        problem = f"The gate did not promote {model.name}/{model.version} ({verdict.outcome}): {' '.join(verdict.reasons)}"
        note_only = "; --reason alone is a note, and no longer forces" if note else ""
        remedy = f"Pass --force and --reason to promote it anyway: the ledger records the override{note_only}"
        raise GateRefusal(problem, remedy, entry)
    return entry


def rollback(
    workspace: Workspace,
    model: str,
    reason: str | None = None,
    *,
    seen: Standing | None = None,
    to: int | None = None,
    chosen: int | None = None,
    actor: str = "",
    fence: Lease | None = None,
    tell: Tell = say,
) -> LedgerEntry:
    """Restore the champion before the one that the author saw, by a new ledger entry. Further rollbacks go further back.

    `seen` is what the author saw, by default what is now; raises LedgerConflict, and changes nothing, if another version has
    become champion since, or if it would not restore `to`. `chosen`: the former champion to restore instead of the last one.
    Champions that were deleted from MLflow are passed over. Raises ModelNotFound if there is none to go back to, ModelCorrupt
    that names the next good one if the files of the version are lost or damaged, LeaseLost if another process has acquired the
    lease `fence`.
    """
    require_whole(workspace, model_name(model))
    seen = seen or standing(workspace, model_name(model))
    champions = champion_stack(workspace.ledger.history(model_name(model)))
    previous, deleted, passed = _to_restore(workspace, model, champions, chosen)
    require_unchanged(workspace, model, seen)
    if previous is None:
        who = f"version {champions[0]} was the first champion" if champions else "it has no champion"
        who = f"{_versions(deleted)} deleted from MLflow" if deleted else who
        raise ModelNotFound(f"The model '{model}' has nothing to roll back to: {who}", "Promote another version instead")
    if to is not None and to != previous.version:
        problem = f"A rollback of {model} would restore version {previous.version} now, not version {to}"
        raise LedgerConflict(problem, AGAIN)
    _require_servable(workspace, previous, champions)
    why = one_line(reason or "") or "no reason given"
    skipped = tuple(
        f"Passed over: {_versions(versions)} {how}"
        for versions, how in ((deleted, "deleted from MLflow"), (passed, "not chosen"))
        if versions
    )
    reasons = (f"Rolled back from version {champions[-1]} to version {previous.version}: {why}", *skipped)

    def act(sequence: int) -> LedgerEntry:
        return workspace.ledger.append(
            model=model,
            expected_sequence=sequence,
            kind="rollback",
            version=previous.version,
            actor=actor or account(),
            reasons=reasons,
            dataset=previous.dataset,
            model_sha256=previous.sha256,
            verdict=None,
            at=datetime.now(UTC),
            fence=fence,
        )

    entry = act_on(workspace, model, seen, act)
    mirror(workspace, entry, tell)
    return entry


def previous_champion(workspace: Workspace, model: str) -> int | None:
    """The version that a rollback would restore; None if there is none."""
    found, *_ = _to_restore(workspace, model, champion_stack(workspace.ledger.history(model)))
    return found.version if found else None


def _to_restore(
    workspace: Workspace, model: str, champions: list[int], chosen: int | None = None
) -> tuple[ModelRef | None, list[int], list[int]]:
    """The last champion before the current one that MLflow still has, or the one that was chosen; and the later ones, those
    that were deleted there and those that were not chosen. Raises ModelNotFound if the chosen one was never champion before."""
    deleted: list[int] = []
    passed: list[int] = []
    former = [version for version in dict.fromkeys(reversed(champions[:-1])) if version != champions[-1]]
    if chosen is not None and chosen not in former:
        known = f"one of {', '.join(map(str, former))}" if former else "another version with `openmlops promote`"
        raise ModelNotFound(f"Version {chosen} of {model} was not champion before the current one", f"Choose {known}")
    for version in former:
        try:
            found = as_recorded(workspace, workspace.registered.version(model, version))
        except ModelNotFound:
            deleted.append(version)
            continue
        if chosen in (None, version):
            return found, deleted, passed
        passed.append(version)
    return None, deleted, passed


def _require_servable(workspace: Workspace, model: ModelRef, champions: list[int]) -> None:
    """Fetch and verify the files of a version before it goes into production. Raises ModelCorrupt that names the next good
    one."""
    if not (why := _why_not_servable(workspace, model)):
        return
    former = list(dict.fromkeys(reversed(champions[:-1])))
    for version in former[former.index(model.version) + 1 :]:
        with suppress(ModelNotFound, RegistryError):
            found = as_recorded(workspace, workspace.registered.version(model.name, version))
            if version != champions[-1] and not _why_not_servable(workspace, found):
                remedy = f"Nothing was changed. The next good one: `openmlops rollback {model.name} --to {version}`"
                break
    else:
        remedy = "Nothing was changed, and no former champion before it is good. Restore its files, or train again"
    raise ModelCorrupt(f"Version {model.version} of {model.name} cannot serve: {why}", remedy)


def _why_not_servable(workspace: Workspace, model: ModelRef) -> str:
    """Why the version's files cannot be had; empty if they were fetched and verified."""
    try:
        workspace.registry.fetch(model)
    except (ModelNotFound, ModelCorrupt, RegistryError) as error:
        return error.problem
    return ""


def _versions(numbers: list[int]) -> str:
    return f"version {numbers[0]} was" if len(numbers) == 1 else f"versions {', '.join(map(str, numbers))} were"


def _current_splits(workspace: Workspace) -> SplitsRef:
    """Splits of the current data. The seed affects train and validation only: the test split is fixed by the data set."""
    return datasets.split(workspace, datasets.ingest(workspace), seed=0)


def champion_stack(entries: tuple[LedgerEntry, ...]) -> list[int]:
    """The stack of champions, the current one last: a promotion pushes, a rollback pops."""
    champions: list[int] = []
    for entry in entries:
        if entry.kind == "promote":
            champions.append(entry.version)
        elif entry.kind == "rollback":
            champions.pop()
            while champions[-1] != entry.version:  # passed over, deleted from MLflow
                champions.pop()
    return champions
