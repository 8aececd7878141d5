"""Train: one MLflow run from the first step to the last, however often the process was killed in between.

What is covered: which training a killed one is resumed by, its run, progress for a person, the saved weights. What is not:
the loop itself (`learning.loop`), and everything after it (`models`).
"""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from openmlops.console import training_progress
from openmlops.core.quality import EpochMetrics
from openmlops.core.types import Preprocessing, SplitsRef, TrainedRef, Value
from openmlops.files import replacing, write_text
from openmlops.operations.data import indices_of
from openmlops.operations.workspace import Workspace


def preprocess(workspace: Workspace, splits: SplitsRef) -> Preprocessing:
    """What the model's first layer will do, measured on the training images alone."""
    rows = workspace.use_case.read(Path(splits.dataset.path))
    return workspace.use_case.preprocess(rows, indices_of(splits)["train"])


def train(
    workspace: Workspace,
    splits: SplitsRef,
    preprocessing: Preprocessing,
    config: dict[str, Any],
    tags: Mapping[str, str] = MappingProxyType({}),
) -> TrainedRef:
    """Fit the use case's model to the training split, or go on with the killed training of the same data, configuration and
    code. `tags` are further ones of its run. Raises TrainingError if it cannot end well; its run is then closed as failed,
    with the reason.
    """
    chosen = workspace.use_case.config(**config)
    key = training_key(workspace, splits, preprocessing, chosen)
    folder = workspace.home / "trainings" / key[:16]
    run = _Run(workspace, folder, tags)
    if finished := run.finished():
        return finished
    rows = workspace.use_case.read(Path(splits.dataset.path))
    indices = indices_of(splits)
    model = workspace.use_case.build(chosen, preprocessing, rows, indices["train"])

    def on_epoch(metrics: EpochMetrics) -> None:
        run.log_epoch(metrics)
        progress.epoch(metrics)

    with training_progress() as progress, run:
        result = workspace.use_case.fit(
            model,
            rows,
            indices,
            chosen,
            folder=folder,
            key=key,
            on_start=lambda: run.open(splits, preprocessing, chosen),
            on_epoch=on_epoch,
            on_step=progress.step,
        )
        return run.close(model, result, splits)


def training_key(workspace: Workspace, splits: SplitsRef, preprocessing: Preprocessing, config: Value) -> str:
    """SHA-256 of all that decides the weights, but for the machine: data, split, preprocessing, configuration and code."""
    chosen = config.model_dump_json(exclude={"threads"})
    parts = (splits.fingerprint, preprocessing.model_dump_json(), chosen, code_fingerprint(workspace))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_fingerprint(workspace: Workspace) -> str:
    """SHA-256 of the source of `learning` and of the use case's package: the code that decides the weights."""
    from openmlops import learning

    homes = (Path(inspect.getfile(learning)).parent, Path(inspect.getfile(workspace.use_case.config)).parent)
    digest = hashlib.sha256()
    for source in sorted(path for home in homes for path in home.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


class _Run:
    """The MLflow run of one training folder. Its id is on disk before the first step, so that a resumed training finds it."""

    def __init__(self, workspace: Workspace, folder: Path, tags: Mapping[str, str]) -> None:
        self.tracking, self.workspace, self.folder, self.tags = workspace.tracking, workspace, folder, tags
        self.id = ""

    def finished(self) -> TrainedRef | None:
        """The training that ended here, if what follows it was killed before the run could be closed."""
        done = self.folder / "trained.json"
        if not done.exists():
            return None
        trained = TrainedRef.model_validate_json(done.read_text())
        return trained if Path(trained.path).exists() and self.tracking.run_is_open(trained.run_id) else None

    def open(self, splits: SplitsRef, preprocessing: Preprocessing, config: Value) -> None:
        """Start a run, or go on with the one that a killed training left open."""
        note = self.folder / "run_id"
        if note.exists() and self.tracking.run_is_open(found := note.read_text()):
            self.id = found
            return
        data = splits.dataset
        params = {**config.model_dump(), "preprocessing": preprocessing.model_dump(), "split_seed": splits.seed}
        tags = {
            **self.tags,
            "openmlops.use_case": self.workspace.use_case.name,
            "openmlops.dataset": data.fingerprint,
            "openmlops.splits": splits.fingerprint,
            "openmlops.code": code_fingerprint(self.workspace),
        }
        self.id = self.tracking.start(self.workspace.model_name, params, tags)
        for name, content in self.workspace.data_versions.record(Path(data.path)).items():
            self.tracking.log_text(self.id, content.decode(), f"data/{name}")
        write_text(note, self.id)

    def log_epoch(self, metrics: EpochMetrics) -> None:
        """Log one epoch, once."""
        self.tracking.log_epoch(self.id, metrics)

    def __enter__(self) -> None:
        """Nothing is opened yet: that is for the process that holds the training's lock."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """After a failure, close the run as failed, with the reason. A killed or interrupted training leaves it open."""
        if self.id and isinstance(error, Exception):
            self.tracking.fail(self.id, f"{kind.__name__ if kind else ''}: {error}")

    def close(self, model: Any, result: Any, splits: SplitsRef) -> TrainedRef:
        """Save the weights, fill gaps that a kill left in the metrics, and return the reference to it all."""
        from safetensors.torch import save_file

        for metrics in result.history:
            self.log_epoch(metrics)
        path = self.workspace.home / "weights" / f"{self.id}.safetensors"
        with replacing(path) as beside:
            save_file(model.state_dict(), beside)
        trained = TrainedRef(
            path=str(path),
            run_id=self.id,
            splits=splits,
            config=result.config.model_dump(),
            epochs=result.epochs,
            seconds=result.seconds,
            resumed=result.resumed,
        )
        self.tracking.log_text(self.id, result.config.model_dump_json(indent=2), "config.json")
        write_text(self.folder / "trained.json", trained.model_dump_json())
        return trained
