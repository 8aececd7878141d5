"""The Python API: what the commands do, as functions. `import openmlops` gives all of them.

Each function reads the settings of the current folder, as a command does: `.env`, and the environment. `use_case` is
`--use-case`. Errors are those of `openmlops.errors`, whose text says what to do. Libraries are imported when they are needed.
"""

from typing import TYPE_CHECKING, Any

from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from openmlops.core.quality import TrainingOutcome
    from openmlops.core.types import LedgerEntry
    from openmlops.operations.monitoring.monitor import MonitoringOutcome
    from openmlops.operations.monitoring.windows import Source
    from openmlops.operations.release.loaded_model import LoadedModel


def train(*, use_case: str | None = None, folds: int = 0, **options: Any) -> "TrainingOutcome":
    """Train on the current data version, evaluate, export, register, and submit the new version to the gate.

    `options` are the fields of the use case's TrainConfig, such as `epochs=2, seed=1`; `budget` is in seconds. `folds`: so many
    further trainings for a cross-validation. Raises SettingsError for an unknown option or an invalid value.
    """
    from openmlops.pipelines.training_entry import config_of, run

    workspace = _chosen(use_case)
    workspace.upgrade()
    return run(workspace, config_of(workspace, options), folds)


def load(spec: str, *, use_case: str | None = None) -> "LoadedModel":
    """A version's exported model, its files verified: `MODEL@champion`, `MODEL/3`, or `MODEL` for its champion.

    Raises ModelNotFound, ModelCorrupt, and SettingsError for a model of another use case.
    """
    from openmlops.operations.release.loaded_model import open_model

    return open_model(_chosen(use_case), spec)


def monitor(window: int = 500, source: "Source" = "log", *, use_case: str | None = None) -> "MonitoringOutcome":
    """Evaluate the champion's latest `window` predictions for drift and accuracy, and decide what to do. Takes no action.

    `source`: `log`, or `test-set` for predictions on the frozen test split. Raises ModelNotFound if there is no champion.
    """
    from openmlops.settings import embed_zenml

    embed_zenml(_chosen(use_case).home)
    from openmlops.pipelines.monitoring_pipeline import run_monitoring

    return run_monitoring(window, source)


def promote(
    version: str, reason: str | None = None, *, force: bool = False, expect: str | None = None, use_case: str | None = None
) -> "LedgerEntry":
    """Submit `MODEL/VERSION` to the gate and promote it if it passes. Returns the new row of the ledger.

    `reason` is a note for the ledger. With `force`, which needs a reason, the version is promoted whatever the gate decides.
    Raises GateRefusal if it does not pass, LedgerConflict if `expect`, the champion you saw, no longer is.
    """
    from openmlops.operations.release.promotion import promote as run

    return run(_opened(use_case), version, reason, force=force, expected=expect)


def rollback(model: str, reason: str | None = None, *, to: int | None = None, expect: str | None = None) -> "LedgerEntry":
    """Restore the previous champion, or the former one `to`, once its files are verified. Returns the ledger's new row.

    Raises ModelNotFound if there is none, LedgerConflict if the newest change is a rollback already and neither `to` nor
    `expect`, the champion you see, is given.
    """
    from openmlops.core.types import model_name
    from openmlops.operations.release.acts import refuse_repetition, standing
    from openmlops.operations.release.promotion import rollback as run

    workspace, name = _opened(), model_name(model)
    if expect is None and to is None:
        refuse_repetition(workspace, name)
    return run(workspace, name, reason, seen=standing(workspace, name, expect), chosen=to)


def history(model: str | None = None) -> "pd.DataFrame":
    """The ledger, one row per entry, oldest first, its hash chain verified: sequence, at, kind, version, champion, actor,
    reasons. `model`: by default the one of the settings. Raises LedgerCorrupt."""
    from openmlops.operations.monitoring import frames

    return frames.ledger(_of(model))


def decisions(model: str | None = None, *, last: int = 1_000) -> "pd.DataFrame":
    """The `last` decisions, one row each, oldest first. Values that were not measured are missing, never 0."""
    from openmlops.operations.monitoring import frames

    return frames.decisions(_of(model), last)


def predictions(spec: str | None = None, *, last: int = 10_000, use_case: str | None = None) -> "pd.DataFrame":
    """The `last` predictions of a version, one row each, oldest first, in the layout of `openmlops predictions export`.

    `spec`: `MODEL@champion`, `MODEL/3` or `MODEL`; by default the champion of the settings' model.
    """
    from openmlops.operations.monitoring import frames
    from openmlops.operations.release.aliases import version_named

    workspace = _chosen(use_case)
    name, version = version_named(workspace, spec or workspace.model_name)
    return frames.predictions(_renamed(workspace, name), version, last)


def __getattr__(name: str) -> Any:
    if name != "LoadedModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openmlops.operations.release.loaded_model import LoadedModel

    return LoadedModel


def _chosen(use_case: str | None) -> Workspace:
    """The workspace. A use case is chosen for the whole process, because steps open a workspace of their own."""
    if use_case:
        from openmlops.settings import choose_use_case

        choose_use_case(use_case)
    return Workspace.open()


def _opened(use_case: str | None = None) -> Workspace:
    """The workspace, after closing runs of dead processes."""
    from openmlops.operations.run_leases import close_orphans

    workspace = _chosen(use_case)
    close_orphans(workspace)
    return workspace


def _of(model: str | None) -> Workspace:
    workspace = Workspace.open()
    return _renamed(workspace, model) if model else workspace


def _renamed(workspace: Workspace, model: str) -> Workspace:
    return Workspace(workspace.settings.model_copy(update={"model_name": model}))
