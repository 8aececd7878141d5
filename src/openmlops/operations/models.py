"""From trained weights to a registered version: evaluate, export, register; and evaluate any version again.

What is covered: the sealed folder that a version consists of. It holds MLflow's ONNX flavour, and beside it `golden.npz` (raw
images with the trained model's answers), `reference.parquet` (features of the validation images through the exported model)
with what monitoring is calibrated to (references.py), `model.json`, `model_card.md` and `manifest.json`. What is not:
training, and who becomes champion (`promotion`).
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from openmlops.core.metrics import classification_report
from openmlops.core.types import Evaluation, ExportRef, ModelRef, Preprocessing, TrainedRef
from openmlops.errors import DataError, ModelCorrupt, SettingsError
from openmlops.files import MANIFEST, Manifest, replacing, write_text
from openmlops.operations import data, figures
from openmlops.operations.aliases import find_version
from openmlops.operations.model_card import Description, model_card
from openmlops.operations.references import write_references
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

PARITY_BOUND = 1e-4
"""Largest difference of a probability between trained and exported model."""
GOLDEN_IMAGES = 64
REFERENCE_FILE = "reference.parquet"
DESCRIPTION_FILE = "model.json"
CARD_FILE = "model_card.md"

Made = TypeVar("Made")


def _failing_its_run(operation: Callable[..., Made]) -> Callable[..., Made]:
    """If the operation raises, the training's run is closed as failed, with the reason."""

    @wraps(operation)
    def run(workspace: Workspace, *values: Any) -> Made:
        (trained,) = (value for value in values if isinstance(value, TrainedRef))
        with workspace.tracking.failing(trained.run_id):
            return operation(workspace, *values)

    return run


@_failing_its_run
def evaluate(workspace: Workspace, trained: TrainedRef) -> Evaluation:
    """Judge the trained model on the test split; metrics and artifacts go to its run and to ARTIFACTS_DIR."""
    from openmlops.learning.export import answer

    rebuilt = _Rebuilt(workspace, trained)
    images, labels = rebuilt.images("test"), rebuilt.rows.labels[rebuilt.indices["test"]]
    probabilities = answer(rebuilt.model, images)["probabilities"]
    names, split = rebuilt.rows.names, trained.splits.fingerprint
    evaluation = workspace.use_case.evaluate(labels, probabilities, names, "test", split)
    workspace.tracking.log_metrics(trained.run_id, metrics_of(evaluation))
    for path in _write_reports(evaluation, workspace.artifacts):
        workspace.tracking.log_files(trained.run_id, path, "evaluation")
    return evaluation


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    """What MLflow shows of an evaluation, by name; the registry asks for names that begin with `test_`."""
    whole = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "calibration_error", "log_loss")
    metrics = {f"test_{name}": float(getattr(evaluation, name)) for name in whole}
    classes = {f"test_recall/{score.name}": score.recall for score in evaluation.classes}
    return metrics | classes | {"test_images": float(evaluation.n)}


def _write_reports(evaluation: Evaluation, folder: Path) -> tuple[Path, ...]:
    return (
        figures.confusion_matrix(evaluation, folder / "confusion_matrix.png"),
        write_text(folder / "classification_report.txt", classification_report(evaluation)),
        write_text(folder / "evaluation.json", evaluation.model_dump_json(indent=2)),
    )


@_failing_its_run
def export(workspace: Workspace, trained: TrainedRef, evaluation: Evaluation) -> ExportRef:
    """Write everything that a version consists of into one sealed folder, and the models that users expect to ARTIFACTS_DIR.

    Raises ExportError if an exported model does not answer as the trained one does.
    """
    rebuilt = _Rebuilt(workspace, trained)
    folder = workspace.home / "exports" / trained.run_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export.") as scratch:
        parity = _write_models(rebuilt, Path(scratch), folder)
    _write_reference(rebuilt, folder)
    description = rebuilt.describe(evaluation, parity)
    write_text(folder / DESCRIPTION_FILE, description.model_dump_json(indent=2))
    write_text(folder / CARD_FILE, model_card(description))
    manifest = Manifest.of(folder)
    manifest.write(folder / MANIFEST)
    return ExportRef(path=str(folder), sha256=manifest.fingerprint, run_id=trained.run_id, parity=parity)


def _write_models(rebuilt: "_Rebuilt", scratch: Path, folder: Path) -> float:
    """Export into `scratch`, put what is served into `folder`, the rest to ARTIFACTS_DIR and the run. Returns the parity."""
    from openmlops.adapters.mlflow_model import write_mlflow_model

    golden = rebuilt.images("validation")[:GOLDEN_IMAGES]
    parity = rebuilt.workspace.use_case.export(rebuilt.model, scratch, golden, PARITY_BOUND)
    write_mlflow_model(scratch / "model.onnx", folder)
    for name in ("golden.npz", "weights.safetensors"):
        shutil.copyfile(scratch / name, folder / name)
    for name in ("model.onnx", "model_torchscript.pt"):
        with replacing(rebuilt.workspace.artifacts / name) as beside:
            shutil.copyfile(scratch / name, beside)
    rebuilt.workspace.tracking.log_files(rebuilt.trained.run_id, scratch / "model_torchscript.pt")
    return float(parity)


def _write_reference(rebuilt: "_Rebuilt", folder: Path) -> None:
    """Features of the validation images, answered by the exported file itself, and what monitoring calibrates on them."""
    import pyarrow
    import pyarrow.parquet

    from openmlops.adapters.onnx_model import OnnxModel

    use_case, images = rebuilt.workspace.use_case, rebuilt.images("validation")
    outputs = use_case.predict(OnnxModel(folder / "model.onnx").run(images))
    features = use_case.features(images, outputs)
    with replacing(folder / REFERENCE_FILE) as beside:
        pyarrow.parquet.write_table(pyarrow.table(features), beside)
    write_references(folder, features, outputs.probabilities, rebuilt.rows.labels[rebuilt.indices["validation"]])


@_failing_its_run
def register(workspace: Workspace, exported: ExportRef, trained: TrainedRef, evaluation: Evaluation) -> ModelRef:
    """Make the sealed folder a version on its run, and close the run. Again for one run: the same version."""
    from openmlops.adapters.registry import DATASET_TAG

    name, interval = evaluation.headline()
    tags = {
        DATASET_TAG: trained.splits.dataset.fingerprint,
        "openmlops.splits": trained.splits.fingerprint,
        "openmlops.use_case": workspace.use_case.name,
        f"openmlops.test_{name}": f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]",
    }
    model = workspace.registry.register(workspace.model_name, trained.run_id, Path(exported.path), tags)
    workspace.tracking.finish(trained.run_id)
    return model


def evaluate_version(workspace: Workspace, spec: str) -> Evaluation:
    """Judge the exported model of a version, `MODEL@champion` or `MODEL/3`, on the test split of the current data.

    Raises SettingsError for another use case's model, DataError if the data has other classes.
    """
    from openmlops.adapters.onnx_model import OnnxModel

    folder = workspace.registry.fetch(find_version(workspace, spec))
    description = Description.read(folder / DESCRIPTION_FILE)
    splits = data.split(workspace, data.ingest(workspace), description.split_seed)
    rows = workspace.use_case.read(Path(splits.dataset.path))
    _require_same_task(workspace, spec, description, rows)
    test = data.indices_of(splits)["test"]
    outputs = workspace.use_case.predict(OnnxModel(folder / "model.onnx").run(rows.images[test]))
    return workspace.use_case.evaluate(rows.labels[test], outputs.probabilities, rows.names, "test", splits.fingerprint)


def _require_same_task(workspace: Workspace, spec: str, description: Description, rows: Rows) -> None:
    if description.use_case != workspace.use_case.name:
        problem = f"{spec} is of the use case '{description.use_case}', not '{workspace.use_case.name}'"
        raise SettingsError(problem, f"Set USE_CASE={description.use_case}")
    if description.classes != rows.names:
        problem = f"{spec} knows the classes {', '.join(description.classes)}; the data has {', '.join(rows.names)}"
        raise DataError(problem, "Evaluate it on data with its classes")


@dataclass(frozen=True)
class _Rebuilt:
    """A trained model with the data it came from, made again from the references; each part when it is first asked for."""

    workspace: Workspace
    trained: TrainedRef

    @cached_property
    def rows(self) -> Rows:
        return self.workspace.use_case.read(Path(self.trained.splits.dataset.path))

    @cached_property
    def indices(self) -> dict[str, np.ndarray]:
        return data.indices_of(self.trained.splits)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        return self.workspace.use_case.preprocess(self.rows, self.indices["train"])

    @cached_property
    def model(self) -> Any:
        """The torch module with its trained weights. Raises ModelCorrupt if they cannot be read or do not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        use_case = self.workspace.use_case
        config = use_case.config(**self.trained.config)
        model = use_case.build(config, self.preprocessing, self.rows, self.indices["train"])
        try:
            model.load_state_dict(load_file(self.trained.path))
        except (OSError, SafetensorError, RuntimeError) as error:
            cause = str(error).splitlines()[0]
            raise ModelCorrupt(f"{self.trained.path} does not hold the trained weights ({cause})", "Train again") from error
        return model

    def images(self, split: str) -> np.ndarray:
        """uint8 (n, height, width, 3)"""
        return self.rows.images[self.indices[split]]

    def describe(self, evaluation: Evaluation, parity: float) -> Description:
        """What the version says of itself."""
        use_case, splits = self.workspace.use_case, self.trained.splits
        height, width, channels = self.rows.images.shape[1:]
        return Description(
            use_case=use_case.name,
            model=self.workspace.model_name,
            about=use_case.about,
            classes=self.rows.names,
            image_shape=(height, width, channels),
            dataset=splits.dataset.fingerprint,
            dataset_rows=splits.dataset.rows,
            split=splits.fingerprint,
            split_seed=splits.seed,
            train_rows=splits.train,
            validation_rows=splits.validation,
            test_rows=splits.test,
            config=self.trained.config,
            preprocessing=self.preprocessing,
            parity=parity,
            evaluation=evaluation,
        )
