"""MLflow runs: one per training, with parameters, metrics per epoch, files and provenance.

All operations are idempotent, so that they can be retried after an outage: `start` finds the run that it created, and a metric
is logged once per timestamp. What is not here: which process works on a run (operations/run_leases.py), models and versions
(registry.py), and inference logging, for which MLflow is too slow.
"""

import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH, MAX_TAG_VAL_LENGTH

from openmlops import disk
from openmlops.adapters.mlflow_client import EMBEDDED, connect, hide_password, translating_errors
from openmlops.adapters.mlflow_values import ABANDONED_TAG, FAILURE_TAG, START_TAG, Epoch, cut, finite, flat, valid_name
from openmlops.adapters.provenance import environment, provenance
from openmlops.errors import ServiceRefused, ServiceUnavailable, SettingsError
from openmlops.files import MOST_NAME_BYTES
from openmlops.names import is_showable

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""makes MLflow's UI open on training runs, not on prompts and traces"""
_MACHINE = "system/"
"""of the names of MLflow's own metrics of the machine"""
EVERY_EPOCH = "loss"
"""a metric that every epoch of every task has"""

_RUNNING, _FINISHED, _FAILED, _KILLED = (
    RunStatus.to_string(s) for s in (RunStatus.RUNNING, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
)


class Tracking:
    """The runs of one experiment. An embedded MLflow stores artifacts below `artifact_root`; a server has its own location."""

    def __init__(self, uri: str, experiment: str, artifact_root: Path) -> None:
        self._uri = uri
        self._experiment = _experiment_name(experiment)
        self._artifact_root = artifact_root.resolve()

    @property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    def ready(self) -> None:
        """Ensure that MLflow responds and that the experiment exists. Raises ServiceUnavailable."""
        with translating_errors(self._uri):
            self._experiment_id()

    def responds(self) -> None:
        """Ensure that MLflow responds. Raises ServiceUnavailable."""
        with translating_errors(self._uri):
            self._client.search_experiments(max_results=1)

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], once: str = "") -> str:
        """Start a run and return its id. `params` may be nested; values whose names look secret are not sent.

        `once` is an idempotency key: a retry with the same key continues the run that the first attempt created.
        """
        entered = flat(params)
        once = once or uuid.uuid4().hex
        labels = {**provenance(), **tags, START_TAG: once}
        with translating_errors(self._uri):
            run_id = self._create(name, cut(labels, MAX_TAG_VAL_LENGTH), once)
            entries = [Param(key, value) for key, value in cut(entered, MAX_PARAM_VAL_LENGTH).items()]
            for start in range(0, len(entries), MAX_PARAMS_TAGS_PER_BATCH):
                self._client.log_batch(run_id, params=entries[start : start + MAX_PARAMS_TAGS_PER_BATCH])
            self._client.log_text(run_id, environment(), "environment.txt")
        return run_id

    def log_dataset(self, run_id: str, name: str, fingerprint: str) -> None:
        """Log the data set as the run's input: its name, a short fingerprint as digest, and the full one as source."""
        data = Dataset(name, fingerprint[:12], "dvc", json.dumps({"fingerprint": fingerprint}))
        with translating_errors(self._uri):
            self._client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def log_epochs(self, run_id: str, epochs: Iterable[Epoch]) -> None:
        """Log the metrics of epochs, each epoch all or none; epochs that are logged already are skipped."""
        logged = self.logged_epochs(run_id)
        for epoch in epochs:
            if epoch.number not in logged:
                self._log(run_id, epoch.metrics, epoch.at, step=epoch.number)

    def logged_epochs(self, run_id: str) -> frozenset[int]:
        """The epochs whose metrics are logged in the run."""
        with self._using(run_id):
            return frozenset(point.step for point in self._client.get_metric_history(run_id, EVERY_EPOCH))

    def curves(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        """The metrics of the run's epochs, by name: (epoch, value), in order."""
        with self._using(run_id):
            epochs = self._client.get_metric_history(run_id, EVERY_EPOCH)
            last = max((point.step for point in epochs), default=0)
            names = [name for name in self._client.get_run(run_id).data.metrics if last and not name.startswith(_MACHINE)]
            found = {name: self._client.get_metric_history(run_id, name) for name in names}
        stepped = {name: sorted({point.step: point.value for point in points}.items()) for name, points in found.items()}
        return {name: points for name, points in stepped.items() if points[-1][0] == last}

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], at: datetime) -> None:
        """Log metrics of the whole run at `at` (timezone-aware): logged again with the same time, they are stored once.

        Their names become valid and distinct (`mlflow_values.distinct_names`). Raises TrainingError.
        """
        self._log(run_id, metrics, at, step=0)

    def log_files(self, run_id: str, source: Path, path: str = "") -> None:
        """Log a file, or all files of a folder, below `path` in the run's artifacts."""
        log = self._client.log_artifacts if source.is_dir() else self._client.log_artifact
        with self._using(run_id):
            log(run_id, str(source), path or None)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Log a text as the artifact `path`."""
        with self._using(run_id):
            self._client.log_text(run_id, text, path)

    def read_files(self, run_id: str, folder: str) -> dict[str, bytes]:
        """The artifacts directly below `folder`, by name; empty if there is no such folder."""
        with translating_errors(self._uri), tempfile.TemporaryDirectory() as scratch:
            if not self._client.list_artifacts(run_id, folder):
                return {}
            found = Path(self._client.download_artifacts(run_id, folder, scratch))
            return {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()}

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run, its provenance among them."""
        with self._using(run_id):
            return dict(self._client.get_run(run_id).data.tags)

    def finish(self, run_id: str) -> None:
        """End the run as finished."""
        with self._using(run_id):
            self._client.set_terminated(run_id, _FINISHED)
            self._forget_abandonment(self._client.get_run(run_id))

    def fail(self, run_id: str, reason: str) -> None:
        """End the run as failed, with the reason as a tag."""
        with self._using(run_id):
            self._client.log_batch(run_id, tags=[RunTag(FAILURE_TAG, reason[:MAX_TAG_VAL_LENGTH])])
            self._client.set_terminated(run_id, _FAILED)

    def stop(self, run_id: str, reason: str) -> None:
        """End the run as stopped on purpose, with the reason as a tag."""
        with self._using(run_id):
            self._client.log_batch(run_id, tags=[RunTag(FAILURE_TAG, reason[:MAX_TAG_VAL_LENGTH])])
            self._client.set_terminated(run_id, _KILLED)

    @contextmanager
    def failing(self, run_id: str) -> Iterator[None]:
        """End the run as failed, with the reason, if the block raises an Exception.

        An interruption, an unavailable service or a full disk leaves it open, so that it can be resumed.
        """
        try:
            yield
        except Exception as error:
            is_away = isinstance(error, ServiceUnavailable) and not isinstance(error, ServiceRefused)
            if not is_away and not disk.is_full(error):
                with suppress(ServiceUnavailable):
                    self.fail(run_id, f"{type(error).__name__}: {error}")
            raise

    def abandon(self, once: str, reason: str) -> tuple[str, ...]:
        """End the open runs that `start` created with this `once` as failed, so that they can still be resumed; returns their
        ids.
        """
        with translating_errors(self._uri):
            closed = [str(run.info.run_id) for run in self._started(once) if run.info.status == _RUNNING]
            for run_id in closed:
                tags = [RunTag(FAILURE_TAG, reason[:MAX_TAG_VAL_LENGTH]), RunTag(ABANDONED_TAG, "true")]
                self._client.log_batch(run_id, tags=tags)
                self._client.set_terminated(run_id, _FAILED)
        return tuple(closed)

    def can_go_on(self, run_id: str) -> bool:
        """Whether the run exists and is open or abandoned."""
        with translating_errors(self._uri):
            run = self._found(run_id)
        return run is not None and _can_go_on(run)

    def resume(self, run_id: str) -> None:
        """Reopen the run if it was abandoned."""
        with self._using(run_id):
            run = self._client.get_run(run_id)
            if ABANDONED_TAG in run.data.tags:
                self._client.update_run(run_id, _RUNNING)
                self._forget_abandonment(run)

    def run_is_open(self, run_id: str) -> bool:
        """Whether the run exists and has neither finished nor failed; a killed process leaves its run open."""
        with translating_errors(self._uri):
            run = self._found(run_id)
        return run is not None and run.info.status == _RUNNING

    def drop_twins(self, run_id: str) -> None:
        """Delete duplicate open runs of this run's start: MLflow's client retries a request whose response was lost."""
        with translating_errors(self._uri):
            once = self._client.get_run(run_id).data.tags.get(START_TAG)
            for twin in self._started(once) if once else ():
                if twin.info.run_id != run_id:
                    self._client.delete_run(twin.info.run_id)

    @contextmanager
    def _using(self, run_id: str) -> Iterator[None]:
        """Translate errors of the block; says so if the run was deleted."""
        try:
            with translating_errors(self._uri):
                yield
        except ServiceRefused:
            with translating_errors(self._uri):
                is_there = self._found(run_id) is not None
            if is_there:
                raise
            remedy = "Restore it, or run the same command again: it resumes from the last checkpoint, in a new run"
            raise ServiceRefused(f"The MLflow run {run_id} was deleted", remedy) from None

    def _create(self, name: str, tags: dict[str, str], once: str) -> str:
        """The run of this start, created if there is none."""
        if not (found := self._started(once)):
            self._client.create_run(self._experiment_id(), run_name=name, tags=tags)
            found = self._started(once)
        for twin in found[1:]:
            self._client.delete_run(twin.info.run_id)
        run_id = str(found[0].info.run_id)
        self.resume(run_id)
        return run_id

    def _started(self, once: str) -> list[Run]:
        """The runs of a start that can be resumed, oldest first."""
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return []
        runs = self._client.search_runs([experiment.experiment_id], f"tags.`{START_TAG}` = '{once}'")
        return sorted(filter(_can_go_on, runs), key=lambda run: (run.info.start_time, run.info.run_id))

    def _found(self, run_id: str) -> Run | None:
        """The run, or None if it does not exist or was deleted."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _forget_abandonment(self, run: Run) -> None:
        for name in (FAILURE_TAG, ABANDONED_TAG) if ABANDONED_TAG in run.data.tags else ():
            try:
                self._client.delete_tag(run.info.run_id, name)
            except MlflowException as error:  # already deleted, by a request whose response was lost
                if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                    raise

    def _log(self, run_id: str, metrics: Mapping[str, float], at: datetime, step: int) -> None:
        stamp = int(at.timestamp() * 1000)
        entries = [Metric(name, value, stamp, step) for name, value in finite(metrics).items()]
        with self._using(run_id):
            for start in range(0, len(entries), MAX_METRICS_PER_BATCH):
                self._client.log_batch(run_id, metrics=entries[start : start + MAX_METRICS_PER_BATCH])

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            return self._create_experiment()
        if found.lifecycle_stage != "active":
            problem = f"The MLflow experiment '{self._experiment}' was deleted"
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            where = hide_password(self._uri, self._uri)
            remedy = f"Run: MLFLOW_TRACKING_URI={where} {restore}; or set MLFLOW_EXPERIMENT_NAME to another name"
            raise ServiceRefused(problem, remedy)
        return str(found.experiment_id)

    def _create_experiment(self) -> str:
        folder = self._artifact_root / (valid_name(self._experiment).replace("/", "_").strip(" .") or "_")
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


def _experiment_name(text: str) -> str:
    """`text`, if it is a valid name of an experiment and its artifact folder. Raises SettingsError."""
    if not is_showable(text) or len(text.encode()) > MOST_NAME_BYTES:
        problem = f"MLFLOW_EXPERIMENT_NAME has the value '{text[:80]}', which is not a valid experiment name"
        raise SettingsError(problem, f"Use at most {MOST_NAME_BYTES} bytes without control characters")
    return text


def _can_go_on(run: Run) -> bool:
    return run.info.status == _RUNNING or ABANDONED_TAG in run.data.tags
