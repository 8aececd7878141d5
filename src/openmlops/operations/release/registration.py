"""Registers a sealed folder as a version in MLflow's registry, on the run of its training.

Not here: promotion (`promotion`)."""

from pathlib import Path

from openmlops.core.quality import Evaluation
from openmlops.core.types import ExportRef, ModelRef, TrainedRef
from openmlops.operations.release.model_card import CARD_FILE
from openmlops.operations.run_leases import fails_its_run
from openmlops.operations.workspace import Workspace

ABOUT_ALL = """Models of the use case `{}`. The alias `champion` marks the live version, as recorded in OpenMLOps' ledger. \
Change it with `openmlops promote` and `openmlops rollback`; changes made on this page are reverted."""


@fails_its_run
def register(workspace: Workspace, exported: ExportRef, trained: TrainedRef, evaluation: Evaluation) -> ModelRef:
    """Register the sealed folder as a version on its run, and close the run. Idempotent per run. Raises RegistryError."""
    from openmlops.adapters.registry import DATASET_TAG

    name, interval = evaluation.headline()
    tags = {
        DATASET_TAG: trained.splits.dataset.fingerprint,
        "openmlops.splits": trained.splits.fingerprint,
        "openmlops.use_case": workspace.use_case.name,
        f"openmlops.test_{name}": f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]",
    }
    rows, quality = f"{trained.splits.dataset.rows:,}", tags[f"openmlops.test_{name}"]
    about = (
        f"Test {name} {quality} on {evaluation.n:,} images; data version {trained.splits.dataset.fingerprint[:12]} "
        f"({rows} images). Classes, limits and lineage: `{CARD_FILE}` among the files of its run."
    )
    place = (workspace.model_name, trained.run_id, Path(exported.path))
    taken = {entry.version: entry.model_sha256 for entry in workspace.ledger.history(workspace.model_name)}
    model = workspace.registry.register(*place, tags, about, ABOUT_ALL.format(workspace.use_case.name), taken)
    workspace.tracking.finish(trained.run_id)
    return model
