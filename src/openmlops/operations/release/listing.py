"""Listing of models: their ledger, and all registered versions with their status. Read-only, except for repairing aliases.

The ledger is in our own database, so MLflow is not imported to read it. Not here: promotion (`promotion`).
"""

from openmlops.core.gate.states import state_of
from openmlops.core.types import LedgerEntry, ModelRef, Value, model_name
from openmlops.errors import ModelNotFound, RegistryError
from openmlops.operations.release.aliases import CHAMPION, recorded_only, repair, show_states, what_is_gone
from openmlops.operations.workspace import Workspace


class ModelRow(Value):
    """One version in a listing. `score` is the recorded one; `stands_as` is its state (`core.gate.states`).

    `gone` says what was deleted of it in MLflow, and whether it can be used further; empty if nothing was.
    """

    name: str
    version: int
    stands_as: str
    score: float | None
    dataset: str
    run_id: str
    gone: str = ""


def history(workspace: Workspace, model: str) -> tuple[LedgerEntry, ...]:
    """The model's ledger, oldest first, its hash chain verified. Raises LedgerCorrupt, and ModelNotFound for no such model."""
    entries = workspace.ledger.history(model_name(model))
    if not entries and model not in workspace.registered.models():
        raise ModelNotFound(f"There is no model '{model}'", "List the models with `openmlops models`")
    return entries


def overview(workspace: Workspace) -> tuple[ModelRow, ...]:
    """All versions of all models, those in MLflow and those that only the ledger knows any more, after repairing aliases."""
    names = sorted({*workspace.registered.models(), *workspace.ledger.models()})
    return tuple(row for name in names for row in _rows(workspace, name))


def _rows(workspace: Workspace, name: str) -> list[ModelRow]:
    repair(workspace, name)
    registered, entries = workspace.registered, workspace.ledger.history(name)
    show_states(workspace, name, entries)
    theirs = None if entries else registered.alias(name, CHAMPION)  # of a model that other tools registered
    versions = {entry.version: recorded_only(entry) for entry in entries} | {r.version: r for r in registered.versions(name)}
    return [
        ModelRow(
            name=name,
            version=ref.version,
            stands_as=CHAMPION if ref.version == theirs else state_of(entries, ref.version),
            score=_recorded_score(workspace, ref),
            dataset=ref.dataset,
            run_id=ref.run_id,
            gone=what_is_gone(workspace, ref),
        )
        for _, ref in sorted(versions.items())
    ]


def _recorded_score(workspace: Workspace, ref: ModelRef) -> float | None:
    """The score recorded on the version's run, for display only; None if there is none."""
    try:
        metrics = workspace.registered.run_metrics(ref.run_id)
    except RegistryError:  # the run was deleted, or the version was registered without one
        return None
    return next((metrics[name] for name in scores() if name in metrics), None)


def scores() -> tuple[str, ...]:
    """Recorded metrics, of which a listing displays the one that a version has."""
    from openmlops.core.classification.task import CLASSIFICATION
    from openmlops.core.detection.task import DETECTION

    return tuple(f"test_{task.score}" for task in (CLASSIFICATION, DETECTION))
