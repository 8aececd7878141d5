"""Names of versions, and the MLflow aliases among them: `champion` mirrors the ledger and is repaired from it, `staging` is the
version that came to the gate last, whatever came of it.

A process killed between the ledger's row and its alias leaves a wrong alias; whoever asks next repairs it. What is not here:
any decision about who is champion.
"""

from openmlops.core.types import ModelRef
from openmlops.errors import ModelNotFound
from openmlops.operations.workspace import Workspace

CHAMPION, STAGING = "champion", "staging"


def find_version(workspace: Workspace, spec: str) -> ModelRef:
    """The version that `MODEL@ALIAS` or `MODEL/VERSION` names, aliases repaired first. Raises ModelNotFound."""
    name, mark, which = spec.partition("@") if "@" in spec else spec.rpartition("/")
    if not (name and mark and which):
        raise ModelNotFound(f"'{spec}' names no version", "Write it as MODEL@champion or MODEL/3")
    repair(workspace, name)
    return workspace.registry.resolve(name, which)


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
