"""Version names, and what MLflow shows of the ledger: the alias `champion` and each version's state as a tag mirror it and are
repaired from it; the alias `staging` is the version that the gate evaluated last, whatever the verdict.

A process killed between writing the ledger and the alias leaves a stale alias; the next command repairs it. Not here: the
decision about the champion.
"""

import re
from collections.abc import Sequence
from contextlib import suppress

from openmlops.adapters.mlflow_tables import DATASET_TAG, SHA256_TAG, STATE_TAG
from openmlops.core.gate.states import state_of
from openmlops.core.types import LedgerEntry, ModelRef, model_name
from openmlops.errors import ModelNotFound, RegistryError
from openmlops.files import damage
from openmlops.operations.release.witnesses import is_known_elsewhere
from openmlops.operations.workspace import Workspace

CHAMPION, STAGING = "champion", "staging"

_NUMBER = re.compile(r"[0-9]{1,9}")


def find_version(workspace: Workspace, spec: str) -> ModelRef:
    """Resolve `MODEL@ALIAS` or `MODEL/VERSION`, after repairing aliases. Raises ModelNotFound, RegistryError."""
    name, which = parsed(spec)
    repair(workspace, model_name(name))
    champion = workspace.ledger.champion(name) if which == CHAMPION else None
    if champion is not None or _NUMBER.fullmatch(which):
        return version_of(workspace, name, champion or int(which))
    return as_recorded(workspace, workspace.registry.resolve(name, which))


def parsed(spec: str) -> tuple[str, str]:
    """The model's name and the alias or version of `MODEL@ALIAS` or `MODEL/VERSION`. Raises ModelNotFound."""
    name, mark, which = spec.partition("@") if "@" in spec else spec.rpartition("/")
    if not (name and mark and which):
        raise ModelNotFound(f"'{spec[:80]}' does not name a version", "Write it as MODEL@champion or MODEL/3")
    return name, which


def full_spec(spec: str) -> str:
    """`MODEL` -> `MODEL@champion`; `MODEL@ALIAS` and `MODEL/VERSION` as they are."""
    return spec if "@" in spec or "/" in spec else f"{spec}@{CHAMPION}"


def version_named(workspace: Workspace, spec: str) -> tuple[str, int]:
    """Name and number of `MODEL@champion`, `MODEL/VERSION` or `MODEL`; whether MLflow has the version is not looked up, because
    the log outlives it. Raises ModelNotFound if there is no champion."""
    name, which = parsed(full_spec(spec))
    if which == CHAMPION and (champion := workspace.ledger.champion(model_name(name))) is not None:
        return name, champion
    if _NUMBER.fullmatch(which):
        return model_name(name), int(which)
    found = find_version(workspace, full_spec(spec))
    return found.name, found.version


def version_of(workspace: Workspace, name: str, version: int) -> ModelRef:
    """A version by number, checked against the ledger. Raises ModelNotFound, and RegistryError if it was changed in MLflow.

    A version that was deleted from MLflow is the one that the ledger recorded, without a run: its verified local copy is used.
    """
    try:
        return as_recorded(workspace, workspace.registered.version(name, version))
    except ModelNotFound:
        entries = [entry for entry in workspace.ledger.history(name) if entry.version == version]
        if not entries:
            raise
        return recorded_only(entries[-1])


def recorded_only(entry: LedgerEntry) -> ModelRef:
    """The version of a ledger entry, as far as the ledger knows it."""
    uri = f"models:/{entry.model}/{entry.version}"
    return ModelRef(
        name=entry.model, version=entry.version, uri=uri, run_id="", dataset=entry.dataset, sha256=entry.model_sha256
    )


def as_recorded(workspace: Workspace, model: ModelRef) -> ModelRef:
    """`model` as read from MLflow, if its SHA-256 and data version match the ledger, which fills in what was deleted there.

    Raises RegistryError if the registry was edited, LedgerCorrupt if the ledger was. A version that the gate has not evaluated
    has no ledger entry to check.
    """
    for entry in workspace.ledger.history(model.name):
        if entry.version == model.version:
            known = {"sha256": model.sha256 or entry.model_sha256, "dataset": model.dataset or entry.dataset}
            model = model.model_copy(update=known)
            if (entry.model_sha256, entry.dataset) != (model.sha256, model.dataset):
                shown = f"the files {model.sha256[:12]} and the data {model.dataset[:12]}"
                recorded = f"{entry.model_sha256[:12]} and {entry.dataset[:12]}"
                problem = f"The registry has {shown} for {model.name}/{model.version}; the ledger recorded {recorded}"
                tags = f"{SHA256_TAG}={entry.model_sha256} and {DATASET_TAG}={entry.dataset}"
                remedy = f"Set its tags {tags} in MLflow, or restore MLflow's database; until then this version is not used"
                raise RegistryError(problem, remedy)
    return model


def repair(workspace: Workspace, model: str) -> tuple[str, ...]:
    """Set the MLflow alias `champion` of a model to the champion of its ledger. Returns one sentence per repair.

    Call it before reading or setting an alias. If the champion was deleted from MLflow, no version has the alias. Models that
    other tools registered are left as they are, and those of which MLflow knows more than the ledger (`witnesses`).
    """
    repaired = []
    while (champion := _champion_to_show(workspace, model)) != (shown := workspace.registered.alias(model, CHAMPION)):
        if is_known_elsewhere(workspace, model) or (champion is None and not _is_ours(workspace, model, shown)):
            break
        if champion is None:
            workspace.registry.delete_alias(model, CHAMPION)
        else:
            with suppress(ModelNotFound):  # deleted since: looked up again
                workspace.registry.set_alias(model, CHAMPION, champion)
        repaired.append(
            f"The alias champion of {model} was set to {_named(shown)}; reset to {_named(champion)}, as in the ledger"
        )
    return tuple(repaired)


def show_states(workspace: Workspace, model: str, entries: Sequence[LedgerEntry]) -> None:
    """Tag each version that the ledger knows in MLflow with its state, where the tag says another one."""
    known = {entry.version for entry in entries}
    for version, shown in workspace.registered.version_tags(model, STATE_TAG).items() if known else ():
        if version in known and shown != (state := state_of(entries, version)):
            with suppress(ModelNotFound):  # deleted since
                workspace.registry.tag_version(model, version, STATE_TAG, state)


def _champion_to_show(workspace: Workspace, model: str) -> int | None:
    """The champion, if MLflow has it."""
    champion = workspace.ledger.champion(model)
    try:
        return None if champion is None else workspace.registered.version(model, champion).version
    except ModelNotFound:
        return None


def _is_ours(workspace: Workspace, model: str, shown: int | None) -> bool:
    """Whether the ledger knows the model, or we registered the version that has its alias."""
    return bool(workspace.ledger.head(model) or (shown is not None and workspace.registered.version(model, shown).sha256))


def what_is_gone(workspace: Workspace, model: ModelRef) -> str:
    """What somebody deleted of a version in MLflow, and whether it can be used further here; empty if nothing."""
    registered = workspace.registered
    try:
        registered.version(model.name, model.version)
        if not model.run_id or registered.has_run(model.run_id):
            return ""
        lost = "its run was deleted from MLflow"
    except ModelNotFound:
        lost = "deleted from MLflow"
    return f"{lost}, {'its files are kept here' if is_kept(workspace, model) else 'no copy of its files is here'}"


def is_kept(workspace: Workspace, model: ModelRef) -> bool:
    """Whether an intact copy of the version's files is on this machine."""
    return not damage(workspace.home / "models" / model.sha256, model.sha256)


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
