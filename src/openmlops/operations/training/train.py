"""Training in one MLflow run, resumed after any number of kills.

Here: finding the interrupted training to resume, its run, progress output, saved weights. Not here: the training loop
(`learning.loop`), and everything after training (`release`).
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from pydantic import ValidationError

from openmlops.adapters.mlflow_values import START_TAG
from openmlops.core.quality import EpochMetrics
from openmlops.core.types import Preprocessing, SplitsRef, TrainedRef, Value
from openmlops.files import SHARED, replacing, write_text
from openmlops.memory import give_back
from openmlops.operations.data import versions, weights
from openmlops.operations.data.datasets import indices_of
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release.class_changes import tell_class_changes
from openmlops.operations.retries import retry
from openmlops.operations.run_leases import hold_run, next_start, run_lease
from openmlops.operations.training.epoch_log import EpochLog
from openmlops.operations.workspace import Workspace
from openmlops.terminal import training_progress


def preprocess(workspace: Workspace, splits: SplitsRef) -> Preprocessing:
    """Normalization constants for the model's first layer, computed on the training images only. Says how the data's classes
    differ from the champion's, because this comes before any training."""
    rows = rows_of(workspace, splits.dataset)
    tell_class_changes(workspace, rows.names)
    return workspace.use_case.preprocess(rows, indices_of(workspace, splits)["train"])


def train(
    workspace: Workspace,
    splits: SplitsRef,
    preprocessing: Preprocessing,
    config: dict[str, Any],
    tags: Mapping[str, str] = MappingProxyType({}),
    watch: Callable[[EpochMetrics, float], None] | None = None,
) -> TrainedRef:
    """Train the use case's model on the training split, or resume the interrupted training of the same data, configuration and
    code. `tags` are added to its run; `watch` is called after each epoch with the share of the training that is done.

    Raises TrainingError if training fails; the run is then closed as failed, with the reason. Outages of services during
    training have no effect; before and after it they are waited for.
    """
    chosen, preprocessing = workspace.use_case.resolve(workspace.use_case.config(**config), preprocessing)
    key = training_key(workspace, splits, preprocessing, chosen)
    folder = workspace.home / "trainings" / key[:16]
    run = _Run(workspace, folder, tags)
    if ended := retry(run.ended, workspace, splits):
        return ended
    rows = rows_of(workspace, splits.dataset)
    indices = indices_of(workspace, splits)
    model = workspace.use_case.build(chosen, preprocessing, rows, indices["train"])

    done = 0.0

    def on_epoch(metrics: EpochMetrics) -> None:
        run.epochs.add(metrics)
        progress.epoch(metrics)
        if watch is not None:
            watch(metrics, done)

    def on_step(step: Any) -> None:
        nonlocal done
        done = step.step / max(step.total, 1)
        progress.step(step)

    with training_progress() as progress, run:
        result = workspace.use_case.fit(
            model,
            rows,
            indices,
            chosen,
            folder=folder,
            key=key,
            on_start=lambda: retry(run.open, workspace, splits, preprocessing, chosen),
            on_epoch=on_epoch,
            on_step=on_step,
        )
        give_back()  # the layers of the batches
        trained = run.keep(model, result, splits)
        retry(run.complete, workspace, trained)
        return trained


def training_key(workspace: Workspace, splits: SplitsRef, preprocessing: Preprocessing, config: Value) -> str:
    """SHA-256 of everything that determines the weights except the machine: data, split, preprocessing,
    configuration, which names pretrained weights by their SHA-256, and code."""
    resolved, preprocessing = workspace.use_case.resolve(config, preprocessing)
    chosen = resolved.model_dump_json(exclude={"threads"})
    parts = (splits.fingerprint, preprocessing.model_dump_json(), chosen, code_fingerprint(workspace))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_fingerprint(workspace: Workspace) -> str:
    """SHA-256 of the code that determines the weights: the source of `learning` and of the packages that define the
    configuration's classes, which are those of the use case and its base packages.
    """
    from openmlops import learning

    classes = [each for each in workspace.use_case.config.__mro__ if issubclass(each, Value) and each is not Value]
    files = (inspect.getfile(learning), *map(inspect.getfile, classes))
    homes = dict.fromkeys(Path(file).parent for file in files)
    digest = hashlib.sha256()
    for source in sorted(path for home in homes for path in home.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


class _Run:
    """The MLflow run of one training folder. The start id that finds it again is on disk before the run is created."""

    def __init__(self, workspace: Workspace, folder: Path, tags: Mapping[str, str]) -> None:
        self.home, self.folder, self.tags, self.id = workspace.home, folder, tags, ""
        self.epochs = EpochLog(workspace.tracking, folder)
        self._open = ExitStack()

    def ended(self, workspace: Workspace, splits: SplitsRef) -> TrainedRef | None:
        """The completed training of this folder, if the process was killed before the run was closed."""
        done = self.folder / "trained.json"
        if not done.exists():
            return None
        try:
            trained = TrainedRef.model_validate_json(done.read_text())
        except ValidationError:  # written by another version of this package: resume from the checkpoint
            return None
        file = weights.place(workspace.home, trained.run_id)
        if not (file.is_file() and workspace.tracking.can_go_on(trained.run_id)):
            return None
        trained = trained.model_copy(update={"splits": splits, "weights": weights.named(file)})
        with hold_run(workspace, trained.run_id):
            self.complete(workspace, trained)
        return trained

    def open(self, workspace: Workspace, splits: SplitsRef, preprocessing: Preprocessing, config: Value) -> None:
        """Start a run, or resume the one of the interrupted training."""
        note = self.folder / "run_id"
        if note.exists() and workspace.tracking.can_go_on(found := note.read_text()):
            self._hold(workspace, workspace.tracking.tags(found).get(START_TAG, ""))
            workspace.tracking.resume(found)
            self.id = found
        else:
            with next_start(self.folder) as start_id:
                self._hold(workspace, start_id)
                self.id = self._start(workspace, splits, preprocessing, config, start_id)
                self.epochs.reset()
                write_text(note, self.id)
        self._open.enter_context(workspace.tracking.failing(self.id))
        self.epochs.send_to(self.id)

    def _start(
        self, workspace: Workspace, splits: SplitsRef, preprocessing: Preprocessing, config: Value, start_id: str
    ) -> str:
        data = splits.dataset
        params = {**config.model_dump(), "preprocessing": preprocessing.model_dump(), "split_seed": splits.seed}
        tags = {
            **self.tags,
            "openmlops.use_case": workspace.use_case.name,
            "openmlops.dataset": data.fingerprint,
            "openmlops.splits": splits.fingerprint,
            "openmlops.code": code_fingerprint(workspace),
        }
        run_id = workspace.tracking.start(f"{workspace.model_name}-{self.folder.name[:8]}", params, tags, start_id)
        workspace.tracking.log_dataset(run_id, data.name, data.fingerprint)
        for name, content in versions.record(workspace, data).items():
            workspace.tracking.log_text(run_id, content.decode(), f"data/{name}")
        return run_id

    def _hold(self, workspace: Workspace, start_id: str) -> None:
        self._open.close()
        if start_id:
            self._open.enter_context(run_lease(workspace, start_id))

    def __enter__(self) -> None:
        """Does nothing: `open` is for the process that holds the training's lock."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After a failure, close the run as failed, with the reason. A kill or interrupt leaves it open."""
        self.epochs.end()
        self._open.__exit__(kind, error, trace)

    def keep(self, model: Any, result: Any, splits: SplitsRef) -> TrainedRef:
        """Save weights and metadata locally, and return their reference."""
        from safetensors.torch import save_file

        for metrics in result.history:
            self.epochs.add(metrics)
        path = weights.place(self.home, self.id)
        with replacing(path) as beside:
            save_file(model.state_dict(), beside)
            beside.chmod(SHARED)  # safetensors lets nobody else read it, so that another user's copy lacked it
        trained = TrainedRef(
            weights=weights.named(path),
            run_id=self.id,
            splits=splits,
            config=result.config.model_dump(),
            epochs=result.epochs,
            seconds=result.seconds,
            resumed=result.resumed,
            kept=result.kept,
            ended_at=datetime.now(UTC),
        )
        write_text(self.folder / "trained.json", trained.model_dump_json())
        return trained

    def complete(self, workspace: Workspace, trained: TrainedRef) -> None:
        """Keep the weights for the steps that follow, and log to the run what is missing: epochs that could not be sent, and
        the effective configuration."""
        self.epochs.end()
        weights.keep(workspace, trained)
        self.epochs.complete(trained.run_id)
        config = trained.model_dump(mode="json", include={"config"})["config"]
        workspace.tracking.log_text(trained.run_id, json.dumps(config, indent=2), "config.json")
        workspace.tracking.drop_twins(trained.run_id)
