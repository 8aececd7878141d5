"""Deletion of versions, runs and files from MLflow, and what one must know to decide about it.

A run that we delete is marked first, then loses its files, then is deleted: `finish` completes what a killed process began. In
an embedded store a deleted run is gone; a server keeps its row, marked as deleted, until somebody runs `mlflow gc` there.

What is not here: which of them are deleted (`operations.retention.versions`). Runs that a person deleted are left as they are.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from openmlops.adapters.mlflow_client import EMBEDDED, connect, translating_errors
from openmlops.adapters.mlflow_tables import SHA256_TAG
from openmlops.adapters.mlflow_values import ABANDONED_TAG, START_TAG
from openmlops.core.types import Value

PRUNED_TAG = "openmlops.pruned"
RUN_DATASET_TAG = "openmlops.dataset"
PARENT_TAG = "mlflow.parentRunId"
PAGE = 1000


class StoredVersion(Value):
    """A registered version, of whatever model. `sha256` is empty for one that another tool registered."""

    name: str
    version: int
    run_id: str
    sha256: str
    aliases: tuple[str, ...]


class StoredRun(Value):
    """A run that openmlops started and nobody deleted. `can_go_on`: it `is_open`, or was abandoned and can be resumed. `ended`
    is its end, or its start if it has none; `dataset` the fingerprint of its data version, `parent` the run of its grid."""

    id: str
    name: str
    ended: datetime
    is_open: bool
    can_go_on: bool
    start: str
    dataset: str
    parent: str


class Disposal:
    """The store at `uri`, and the runs of one experiment."""

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri, self._experiment = uri, experiment

    @property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    @property
    def _is_empty(self) -> bool:
        """Whether it is an embedded store that nobody made yet, and that reading must not make."""
        return self._uri.startswith(EMBEDDED) and not Path(self._uri.removeprefix(EMBEDDED)).exists()

    def versions(self) -> tuple[StoredVersion, ...]:
        """All versions of all models."""
        if self._is_empty:
            return ()
        with translating_errors(self._uri):
            aliases: dict[tuple[str, int], list[str]] = {}
            for model in self._all_models():
                for alias, number in model.aliases.items():
                    aliases.setdefault((model.name, int(number)), []).append(alias)
            return tuple(_version(found, aliases) for found in self._all_versions())

    def runs(self) -> tuple[StoredRun, ...]:
        """The runs of the experiment that openmlops started, oldest first."""
        if self._is_empty:
            return ()
        with translating_errors(self._uri):
            found = [_run(run) for run in self._all_runs(ViewType.ACTIVE_ONLY) if START_TAG in run.data.tags]
        return tuple(sorted(found, key=lambda run: run.ended))

    def delete_version(self, found: StoredVersion) -> None:
        """Delete a version; its run and its files stay."""
        with translating_errors(self._uri):
            self._client.delete_model_version(found.name, str(found.version))

    def size(self, run_id: str, path: str | None = None) -> int:
        """Bytes of a run's files, or of those below `path`."""
        with translating_errors(self._uri):
            return self._size(run_id, path)

    def delete_run(self, run_id: str) -> None:
        """Delete a run with its files."""
        with translating_errors(self._uri):
            self._client.set_tag(run_id, PRUNED_TAG, "true")
            self._client.delete_run(run_id)
            self._dispose(run_id)

    def finish(self) -> None:
        """Complete the deletion of runs that a killed process began."""
        if self._is_empty:
            return
        with translating_errors(self._uri):
            for run in self._all_runs(ViewType.ALL, f"tags.`{PRUNED_TAG}` = 'true'"):
                if run.info.lifecycle_stage == "active":
                    self._client.delete_run(run.info.run_id)
                if self._uri.startswith(EMBEDDED) or self._client.list_artifacts(run.info.run_id):
                    self._dispose(run.info.run_id)

    def folders(self, run_id: str, path: str) -> tuple[str, ...]:
        """Names of the folders directly below `path` in a run's files."""
        with translating_errors(self._uri):
            found = self._client.list_artifacts(run_id, path)
        return tuple(each.path.rpartition("/")[2] for each in found if each.is_dir)

    def delete_folder(self, run_id: str, path: str) -> None:
        """Delete a folder of a run's files."""
        with translating_errors(self._uri):
            self._files(run_id).delete_artifacts(path)

    def _dispose(self, run_id: str) -> None:
        files = self._files(run_id)
        for each in files.list_artifacts(None):
            files.delete_artifacts(each.path)
        if self._uri.startswith(EMBEDDED):
            place = urlsplit(self._client.get_run(run_id).info.artifact_uri)
            self._client._tracking_client.store._hard_delete_run(run_id)  # as `mlflow gc` does
            if place.scheme in ("", "file"):
                with suppress(OSError):  # not empty, or not there
                    for folder in (Path(files.artifact_dir), Path(files.artifact_dir).parent):
                        folder.rmdir()

    def _files(self, run_id: str) -> Any:
        return get_artifact_repository(self._client.get_run(run_id).info.artifact_uri, self._uri, self._uri)

    def _size(self, run_id: str, path: str | None) -> int:
        found = self._client.list_artifacts(run_id, path)
        return sum(self._size(run_id, each.path) if each.is_dir else int(each.file_size or 0) for each in found)

    def _all_models(self) -> Iterator[RegisteredModel]:
        return _paged(partial(self._client.search_registered_models, max_results=PAGE))

    def _all_versions(self) -> Iterator[ModelVersion]:
        return _paged(partial(self._client.search_model_versions, max_results=PAGE))

    def _all_runs(self, which: int, query: str = "") -> Iterator[Run]:
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return iter(())
        return _paged(partial(self._client.search_runs, [experiment.experiment_id], query, which, PAGE))


def _paged(search: Callable[..., Any]) -> Iterator[Any]:
    """What `search` finds, page by page."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        if not (token := page.token):
            return


def _version(found: ModelVersion, aliases: dict[tuple[str, int], list[str]]) -> StoredVersion:
    return StoredVersion(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        sha256=found.tags.get(SHA256_TAG, ""),
        aliases=tuple(sorted(aliases.get((found.name, int(found.version)), ()))),
    )


def _run(run: Run) -> StoredRun:
    tags, info = run.data.tags, run.info
    return StoredRun(
        id=info.run_id,
        name=info.run_name or "",
        ended=datetime.fromtimestamp((info.end_time or info.start_time) / 1000, UTC),
        is_open=info.status == "RUNNING",
        can_go_on=info.status == "RUNNING" or ABANDONED_TAG in tags,
        start=tags[START_TAG],
        dataset=tags.get(RUN_DATASET_TAG, ""),
        parent=tags.get(PARENT_TAG, ""),
    )
