"""Names of versions, and the MLflow aliases among them: `champion` mirrors the ledger and is repaired from it, `staging` is the
version that came to the gate last, whatever came of it.

A process killed between the ledger's row and its alias leaves a wrong alias; whoever asks next repairs it. What is not here:
any decision about who is champion.
"""

from openmlops.core.types import ModelRef, model_name
from openmlops.errors import ModelNotFound, RegistryError
from openmlops.operations.workspace import Workspace

CHAMPION, STAGING = "champion", "staging"


def find_version(workspace: Workspace, spec: str) -> ModelRef:
    """The version that `MODEL@ALIAS` or `MODEL/VERSION` names, aliases repaired first. Raises ModelNotFound."""
    name, mark, which = spec.partition("@") if "@" in spec else spec.rpartition("/")
    if not (name and mark and which):
        raise ModelNotFound(f"'{spec[:80]}' names no version", "Write it as MODEL@champion or MODEL/3")
    repair(workspace, model_name(name))
    return as_recorded(workspace, workspace.registry.resolve(name, which))


def version_of(workspace: Workspace, name: str, version: int) -> ModelRef:
    """A version that the ledger names. Raises ModelNotFound if it was deleted from the registry, RegistryError if changed."""
    return as_recorded(workspace, workspace.registry.version(name, version))


def as_recorded(workspace: Workspace, model: ModelRef) -> ModelRef:
    """`model`, as MLflow shows it, if that is what the ledger recorded of it. Raises RegistryError for an edited registry,
    LedgerCorrupt for an edited ledger. Of a version that never came to the gate the ledger knows nothing."""
    for entry in workspace.ledger.history(model.name):
        if entry.version == model.version and (entry.model_sha256, entry.dataset) != (model.sha256, model.dataset):
            shown = f"the files {model.sha256[:12] or 'none'} and the data {model.dataset[:12] or 'none'}"
            recorded = f"{entry.model_sha256[:12]} and {entry.dataset[:12]}"
            problem = f"The registry gives {model.name}/{model.version} {shown}, the ledger recorded {recorded}"
            raise RegistryError(problem, "Restore MLflow's database from a backup; until then this version is not used")
    return model


def repair(workspace: Workspace, model: str) -> tuple[str, ...]:
    """Make the MLflow alias `champion` of a model say what its ledger says; what was repaired, one sentence each.

    Every command about models starts with it. Raises ModelNotFound if the champion was deleted from the registry.
    """
    registry, repaired = workspace.registry, []
    while (champion := workspace.ledger.champion(model)) != (shown := registry.alias(model, CHAMPION)):
        if champion is None:
            registry.delete_alias(model, CHAMPION)
        else:
            registry.set_alias(model, CHAMPION, champion)
        repaired.append(f"The alias champion of {model} stood for {_named(shown)}; the ledger says {_named(champion)}")
    return tuple(repaired)


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
