"""Version names and MLflow aliases: `champion` mirrors the ledger and is repaired from it, `staging` is the version that the
gate evaluated last, whatever the verdict.

A process killed between writing the ledger and the alias leaves a stale alias; the next command repairs it. Not here: the
decision about the champion.
"""

from openmlops.core.types import ModelRef, model_name
from openmlops.errors import ModelNotFound, RegistryError
from openmlops.operations.workspace import Workspace

CHAMPION, STAGING = "champion", "staging"


def find_version(workspace: Workspace, spec: str) -> ModelRef:
    """Resolve `MODEL@ALIAS` or `MODEL/VERSION`, after repairing aliases. Raises ModelNotFound, RegistryError."""
    name, mark, which = spec.partition("@") if "@" in spec else spec.rpartition("/")
    if not (name and mark and which):
        raise ModelNotFound(f"'{spec[:80]}' does not name a version", "Write it as MODEL@champion or MODEL/3")
    repair(workspace, model_name(name))
    return as_recorded(workspace, workspace.registry.resolve(name, which))


def version_of(workspace: Workspace, name: str, version: int) -> ModelRef:
    """A version by number, checked against the ledger. Raises ModelNotFound if it was deleted from the registry, RegistryError
    if it was changed there."""
    return as_recorded(workspace, workspace.registered.version(name, version))


def as_recorded(workspace: Workspace, model: ModelRef) -> ModelRef:
    """`model` as read from MLflow, if its SHA-256 and data version match the ledger. Raises RegistryError if the registry was
    edited, LedgerCorrupt if the ledger was. A version that the gate has not evaluated has no ledger entry to check."""
    for entry in workspace.ledger.history(model.name):
        if entry.version == model.version and (entry.model_sha256, entry.dataset) != (model.sha256, model.dataset):
            shown = f"the files {model.sha256[:12] or 'none'} and the data {model.dataset[:12] or 'none'}"
            recorded = f"{entry.model_sha256[:12]} and {entry.dataset[:12]}"
            problem = f"The registry has {shown} for {model.name}/{model.version}; the ledger recorded {recorded}"
            raise RegistryError(problem, "Restore MLflow's database from a backup; until then this version is not used")
    return model


def repair(workspace: Workspace, model: str) -> tuple[str, ...]:
    """Set the MLflow alias `champion` of a model to the champion of its ledger. Returns one sentence per repair.

    Call it before reading or setting an alias. Raises ModelNotFound if the champion was deleted from the registry.
    """
    repaired = []
    while (champion := workspace.ledger.champion(model)) != (shown := workspace.registered.alias(model, CHAMPION)):
        if champion is None:
            workspace.registry.delete_alias(model, CHAMPION)
        else:
            workspace.registry.set_alias(model, CHAMPION, champion)
        repaired.append(
            f"The alias champion of {model} was set to {_named(shown)}; reset to {_named(champion)}, as in the ledger"
        )
    return tuple(repaired)


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
