"""Promotion and rollback, by the pipeline and by hand.

The ledger is authoritative for the champion; the MLflow alias `champion` mirrors it and is repaired from it (`repair`) after
a process was killed between the two writes. Not here: the evaluation (`gate`), and
what is displayed (`listing`).
"""

import getpass
import os
from datetime import UTC, datetime

from openmlops.core.types import LedgerEntry, ModelRef, SplitsRef, Verdict, model_name
from openmlops.errors import GateError, LedgerConflict, ModelNotFound, one_line
from openmlops.operations.data import datasets
from openmlops.operations.release.aliases import STAGING, as_recorded, find_version, repair
from openmlops.operations.release.gate import run_gate
from openmlops.operations.workspace import Workspace


def decide(workspace: Workspace, model: ModelRef, splits: SplitsRef) -> LedgerEntry:
    """Evaluate a newly registered version and apply the verdict, the last step of training. Idempotent: an existing verdict is
    returned, so that it can be retried after a kill or a commit of unknown outcome.

    If another process writes a verdict first, the version is evaluated again, against the new champion.
    """
    repair(workspace, model.name)
    while True:
        entries = workspace.ledger.history(model.name)
        if judged := [entry for entry in entries if _is_of(model, entry) and entry.verdict]:
            return judged[-1]
        seen = entries[-1].sequence if entries else 0
        verdict = run_gate(workspace, model, splits)
        try:
            return apply(workspace, model, verdict, seen)
        except LedgerConflict:
            continue


def _is_of(model: ModelRef, entry: LedgerEntry) -> bool:
    return (entry.version, entry.model_sha256) == (model.version, model.sha256)


def apply(workspace: Workspace, model: ModelRef, verdict: Verdict, seen: int, reason: str = "") -> LedgerEntry:
    """Append a verdict to the ledger, whatever it is, and update the aliases.

    `seen` is the ledger's sequence number from before the evaluation; raises LedgerConflict if the ledger has moved on since.
    With `reason`, an operator promotes the version against the verdict.
    """
    how = "Promoted manually" if verdict.outcome == "promote" else f"Forced manually against the verdict '{verdict.outcome}'"
    workspace.registry.set_alias(model.name, STAGING, model.version)
    entry = workspace.ledger.append(
        model=model.name,
        expected_sequence=seen,
        kind="promote" if reason else verdict.outcome,
        version=model.version,
        actor=_actor(),
        reasons=(f"{how}: {reason}", *verdict.reasons) if reason else verdict.reasons,
        dataset=model.dataset,
        model_sha256=model.sha256,
        verdict=verdict,
        at=datetime.now(UTC),
    )
    repair(workspace, model.name)
    return entry


def promote(workspace: Workspace, version: str, reason: str | None = None, splits: SplitsRef | None = None) -> LedgerEntry:
    """Run the gate on `MODEL/VERSION` by hand, by default on the test split of the current data, and promote it if it passes.

    Otherwise the verdict is recorded and GateError raised. With a `reason`, the version is promoted anyway, and the ledger
    records that, the reason and the verdict.
    """
    model = find_version(workspace, version)
    workspace.registered.version(model.name, model.version)  # one that only the ledger knows cannot go into production
    seen = _sequence(workspace, model.name)
    verdict = run_gate(workspace, model, splits or _current_splits(workspace))
    entry = apply(workspace, model, verdict, seen, one_line(reason or ""))
    if entry.kind != "promote":
        problem = f"The gate did not promote {model.name}/{model.version} ({verdict.outcome}): {' '.join(verdict.reasons)}"
        raise GateError(problem, "Pass --reason to promote it anyway; the ledger records the override")
    return entry


def rollback(workspace: Workspace, model: str, reason: str | None = None) -> LedgerEntry:
    """Restore the previous champion by a new ledger entry. Repeated rollbacks go further back.

    Champions that were deleted from MLflow are passed over. Raises ModelNotFound if there is none to go back to.
    """
    entries = workspace.ledger.history(model_name(model))
    champions = _champions(entries)
    previous, deleted = _to_restore(workspace, model, champions)
    if previous is None:
        who = f"version {champions[0]} was the first champion" if champions else "it has no champion"
        who = f"{_versions(deleted)} deleted from MLflow" if deleted else who
        raise ModelNotFound(f"The model '{model}' has nothing to roll back to: {who}", "Promote another version instead")
    why = one_line(reason or "") or "no reason given"
    skipped = (f"Passed over: {_versions(deleted)} deleted from MLflow",) if deleted else ()
    entry = workspace.ledger.append(
        model=model,
        expected_sequence=entries[-1].sequence,
        kind="rollback",
        version=previous.version,
        actor=_actor(),
        reasons=(f"Rolled back from version {champions[-1]} to version {previous.version}: {why}", *skipped),
        dataset=previous.dataset,
        model_sha256=previous.sha256,
        verdict=None,
        at=datetime.now(UTC),
    )
    repair(workspace, model)
    return entry


def previous_champion(workspace: Workspace, model: str) -> int | None:
    """The version that a rollback would restore; None if there is none."""
    found, _ = _to_restore(workspace, model, _champions(workspace.ledger.history(model)))
    return found.version if found else None


def _to_restore(workspace: Workspace, model: str, champions: list[int]) -> tuple[ModelRef | None, list[int]]:
    """The last champion before the current one that MLflow still has, and the later ones, which were deleted there."""
    deleted: list[int] = []
    for version in dict.fromkeys(reversed(champions[:-1])):
        try:
            if version != champions[-1]:
                return as_recorded(workspace, workspace.registered.version(model, version)), deleted
        except ModelNotFound:
            deleted.append(version)
    return None, deleted


def _versions(numbers: list[int]) -> str:
    return f"version {numbers[0]} was" if len(numbers) == 1 else f"versions {', '.join(map(str, numbers))} were"


def _current_splits(workspace: Workspace) -> SplitsRef:
    """Splits of the current data. The seed affects train and validation only: the test split is fixed by the data set."""
    return datasets.split(workspace, datasets.ingest(workspace), seed=0)


def _champions(entries: tuple[LedgerEntry, ...]) -> list[int]:
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


def _sequence(workspace: Workspace, model: str) -> int:
    head = workspace.ledger.head(model)
    return head.sequence if head else 0


def _actor() -> str:
    """The user name of this process; its uid if it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
