"""MLflow's runs: one a training, with its parameters, metrics by epoch, files and provenance.

What is not here: models and versions (registry.py), and inferences, which MLflow is too slow for.
"""

import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH, MAX_TAG_VAL_LENGTH

from openmlops.adapters.mlflow_client import EMBEDDED, answering, connect
from openmlops.adapters.provenance import environment, provenance
from openmlops.core.quality import EpochMetrics
from openmlops.errors import ServiceUnavailable, TrainingError

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""so that MLflow's pages open on training runs, not on prompts and traces"""
FAILURE_TAG = "openmlops.failure"
EVERY_EPOCH = "loss"
"""a metric that every epoch of every kind of model has"""

_SECRET = re.compile(r"password|passwd|secret|token|credential|(api|access|private)_?key", re.IGNORECASE)
_REFUSED = re.compile(r"[^\w .:/-]+")


class Tracking:
    """The runs of one experiment. An embedded MLflow keeps their files below `artifact_root`; a server decides itself."""

    def __init__(self, uri: str, experiment: str, artifact_root: Path) -> None:
        self._uri = uri
        self._experiment = experiment
        self._artifact_root = artifact_root.resolve()

    @property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open a run and return its id. `params` may be nested; values whose name sounds secret are not sent."""
        flat = _flat(params)
        labels = {**provenance(), **tags}
        with answering(self._uri):
            run = self._client.create_run(self._experiment_id(), run_name=name, tags=_cut(labels, MAX_TAG_VAL_LENGTH))
            run_id = str(run.info.run_id)
            entries = [Param(key, value) for key, value in _cut(flat, MAX_PARAM_VAL_LENGTH).items()]
            for start in range(0, len(entries), MAX_PARAMS_TAGS_PER_BATCH):
                self._client.log_batch(run_id, params=entries[start : start + MAX_PARAMS_TAGS_PER_BATCH])
            self._client.log_text(run_id, environment(), "environment.txt")
        return run_id

    def log_epoch(self, run_id: str, metrics: EpochMetrics) -> None:
        """Log one epoch's metrics, all or none of them; an epoch that is logged already stays as it is."""
        if metrics.epoch not in self.logged_epochs(run_id):
            self._log(run_id, metrics.model_dump(exclude={"epoch"}), step=metrics.epoch)

    def logged_epochs(self, run_id: str) -> frozenset[int]:
        """The epochs whose metrics the run holds."""
        with answering(self._uri):
            return frozenset(point.step for point in self._client.get_metric_history(run_id, EVERY_EPOCH))

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics of the whole run. Characters that MLflow refuses in a name become `_`. Raises TrainingError."""
        self._log(run_id, metrics, step=0)

    def log_files(self, run_id: str, source: Path, path: str = "") -> None:
        """Keep a file, or all files of a folder, below `path` among the run's artifacts."""
        log = self._client.log_artifacts if source.is_dir() else self._client.log_artifact
        with answering(self._uri):
            log(run_id, str(source), path or None)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Keep a text as the artifact `path`."""
        with answering(self._uri):
            self._client.log_text(run_id, text, path)

    def read_files(self, run_id: str, folder: str) -> dict[str, bytes]:
        """The files that a run keeps directly below `folder`, by name; none if there is no such folder."""
        with answering(self._uri), tempfile.TemporaryDirectory() as scratch:
            if not self._client.list_artifacts(run_id, folder):
                return {}
            found = Path(self._client.download_artifacts(run_id, folder, scratch))
            return {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()}

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run: what it was made from, where and by what."""
        with answering(self._uri):
            return dict(self._client.get_run(run_id).data.tags)

    def finish(self, run_id: str) -> None:
        """Close the run as finished."""
        with answering(self._uri):
            self._client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))

    def fail(self, run_id: str, reason: str) -> None:
        """Close the run as failed, with the reason as a tag."""
        with answering(self._uri):
            self._client.log_batch(run_id, tags=[RunTag(FAILURE_TAG, reason[:MAX_TAG_VAL_LENGTH])])
            self._client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))

    @contextmanager
    def failing(self, run_id: str) -> Iterator[None]:
        """Close the run as failed, with the reason, if the block raises an Exception; an interruption leaves it open."""
        try:
            yield
        except Exception as error:
            self.fail(run_id, f"{type(error).__name__}: {error}")
            raise

    def run_is_open(self, run_id: str) -> bool:
        """True while the run exists and was neither finished nor failed; a killed process leaves its run open."""
        with answering(self._uri):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                    return False
                raise
        return run.info.status == RunStatus.to_string(RunStatus.RUNNING) and run.info.lifecycle_stage == "active"

    def _log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        entries = [Metric(name, value, now, step) for name, value in _finite(metrics).items()]
        with answering(self._uri):
            self._client.log_batch(run_id, metrics=entries)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            return self._create_experiment()
        if found.lifecycle_stage != "active":
            problem = f"The MLflow experiment '{self._experiment}' was deleted"
            raise ServiceUnavailable(problem, "Restore it (`mlflow experiments restore`) or set MLFLOW_EXPERIMENT_NAME")
        return str(found.experiment_id)

    def _create_experiment(self) -> str:
        folder = self._artifact_root / _REFUSED.sub("_", self._experiment).replace("/", "_")
        try:
            root = folder.as_uri() if self._is_embedded else None
            return str(self._client.create_experiment(self._experiment, root, tags=EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            return self._experiment_id()

    @property
    def _is_embedded(self) -> bool:
        return self._uri.startswith(EMBEDDED)


def valid_name(name: str) -> str:
    """`name` with every run of characters that MLflow refuses replaced by `_`: `precision(B)` -> `precision_B`."""
    return _REFUSED.sub("_", name).strip("_ ")


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics by valid name. Raises TrainingError for a value that is not finite and for two names that become one."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(f"The metric '{name}' has the value {value}", "Log only finite numbers")
    valid = {valid_name(name): float(value) for name, value in metrics.items()}
    if len(valid) < len(metrics):
        raise TrainingError(f"Of the metrics {', '.join(metrics)}, two have one name in MLflow", "Give them distinct names")
    return valid


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters by dotted name, as text; secrets left out."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif not (_SECRET.search(name) or hasattr(value, "get_secret_value")):
            flat[valid_name(name)] = str(value)
    return flat


def _cut(texts: Mapping[str, str], length: int) -> dict[str, str]:
    return {name: text[:length] for name, text in texts.items()}
