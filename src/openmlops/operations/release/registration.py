"""Registers a sealed folder as a version in MLflow's registry, on the run of its training.

Not here: promotion (`promotion`)."""

from contextlib import suppress

from openmlops.core.quality import Evaluation
from openmlops.core.types import ExportRef, LedgerEntry, ModelRef, TrainedRef
from openmlops.errors import ModelNotFound
from openmlops.operations.release import exporting
from openmlops.operations.release.model_card import CARD_FILE
from openmlops.operations.run_leases import fails_its_run
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

ABOUT_ALL = """Models of the use case `{}`. The alias `champion` marks the live version, as recorded in OpenMLOps' ledger. \
Change it with `openmlops promote` and `openmlops rollback`; changes made on this page are reverted."""


@fails_its_run
def register(workspace: Workspace, exported: ExportRef, trained: TrainedRef, evaluation: Evaluation) -> ModelRef:
    """Register the sealed folder as a version on its run, and close the run. Idempotent per run. Raises RegistryError.

    A training that was given again after its verdict has the files of a version that the gate has judged: that one is returned,
    and nothing is registered.
    """
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
    entries = workspace.ledger.history(workspace.model_name)
    if twin := _judged_twin(workspace, exported, trained, entries):
        workspace.tracking.stop(trained.run_id, f"the same files as version {twin.version}, which the gate has judged")
        return twin
    folder = workspace.contents.local_folder(exported.content, exporting.place(workspace.home, exported.run_id))
    place = (workspace.model_name, trained.run_id, folder)
    taken = {entry.version: entry.model_sha256 for entry in entries}
    model = workspace.registry.register(*place, tags, about, ABOUT_ALL.format(workspace.use_case.name), taken)
    workspace.tracking.finish(trained.run_id)
    return model


def _judged_twin(
    workspace: Workspace, exported: ExportRef, trained: TrainedRef, entries: tuple[LedgerEntry, ...]
) -> ModelRef | None:
    """The version of another run with the same files, if the gate has judged it and MLflow still has it. Says so."""
    judged = [entry for entry in entries if entry.verdict and entry.model_sha256 == exported.sha256]
    if not judged:
        return None
    with suppress(ModelNotFound):
        found = workspace.registered.version(workspace.model_name, judged[-1].version)
        if found.run_id != trained.run_id:
            name, verdict = f"{found.name}/{found.version}", judged[-1].kind
            say(f"These are the files of {name} once more, which the gate has judged ({verdict}). Nothing was registered.")
            say(f"Train on other data, with another seed or for longer; to have it judged again: openmlops promote {name}")
            return found
    return None
