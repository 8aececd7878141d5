"""ZenML's records of old runs of our pipelines, with their artifacts: RETENTION_RECORDS_DAYS.

What a version consists of is in MLflow, and what was decided in the ledger: these records say only how the steps went. On a
ZenML server only those of its user's runs go. Not here: everything else that is pruned (`operations.retention`), which may not
import ZenML.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmlops.errors import ServiceUnavailable
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.retention.versions import NEVER
from openmlops.operations.workspace import Workspace
from openmlops.settings import embed_zenml, zenml_folder

if TYPE_CHECKING:
    from zenml.client import Client

WHAT = "pipeline runs"
OURS = ("training_pipeline", "monitoring_pipeline", "cycle_pipeline", "search_pipeline", "person_baseline", "person_grid")
PAGE = 100


def prune_pipeline_runs(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete the records of runs that began before the limit and have ended. Safe to kill and to repeat. Raises
    ServiceUnavailable."""
    days = workspace.settings.retention_records_days
    before = limit(now, days)
    if before is None:
        return Pruned(what=WHAT, deleted=0, bytes=None, oldest=None, why=NEVER.format("RETENTION_RECORDS_DAYS"))
    if not _is_used(workspace):
        return Pruned(what=WHAT, deleted=0, bytes=None, oldest=None, why="ZenML was not used here")
    try:
        deleted, oldest = _prune(before, dry)
    except Exception as error:
        problem = f"ZenML's records could not be pruned ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise ServiceUnavailable(problem, "See `openmlops doctor`") from error
    why = f"younger than {days:g} days, still running, or not of our pipelines"
    return Pruned(what=WHAT, deleted=deleted, bytes=None, oldest=oldest, why=why)


def _is_used(workspace: Workspace) -> bool:
    """Whether there is a store: ZenML would make one, which takes seconds."""
    if workspace.settings.zenml_store_url:
        return True
    embed_zenml(workspace.home)
    folder = zenml_folder()
    return folder is None or any(Path(folder).rglob("*.db")) or "url: http" in _text(folder / "config.yaml")


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _prune(before: datetime, dry: bool) -> tuple[int, datetime | None]:
    """How many runs were deleted, and when the oldest began that stays."""
    from zenml.client import Client

    client = Client()
    its: dict[str, Any] = {"user": client.active_user.id, "in_progress": False}
    until = f"lt:{before:%Y-%m-%d %H:%M:%S}"
    deleted = 0
    for name in OURS:
        if dry:
            deleted += client.list_pipeline_runs(pipeline_name=name, created=until, size=1, **its).total
            continue
        while runs := client.list_pipeline_runs(
            pipeline_name=name, created=until, size=PAGE, sort_by="asc:created", **its
        ).items:
            for run in runs:
                _delete(client, run.id)
            deleted += len(runs)
    first = client.list_pipeline_runs(size=1, sort_by="asc:created", user=client.active_user.id).items
    return deleted, first[0].created if first else None


def _delete(client: "Client", run: Any) -> None:
    """Delete a run, and the artifacts that its steps made and no other run uses."""
    steps = client.get_pipeline_run(run).steps.values()
    made = {artifact.id for step in steps for artifacts in step.outputs.values() for artifact in artifacts}
    client.delete_pipeline_run(run)
    for artifact in made:
        found = client.list_artifact_versions(id=artifact, only_unused=True, size=1).items
        if found:
            client.delete_artifact_version(artifact, delete_metadata=True, delete_from_artifact_store=True)
