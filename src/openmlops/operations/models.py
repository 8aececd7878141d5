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

from openmlops.core.quality import Evaluation
from openmlops.core.types import ExportRef, ModelRef, Preprocessing, TrainedRef
from openmlops.errors import DataError, ModelCorrupt, SettingsError
from openmlops.files import MANIFEST, Manifest, replacing, write_text
from openmlops.operations import asking, data
from openmlops.operations.aliases import find_version
from openmlops.operations.model_card import Description, model_card
from openmlops.operations.references import write_references
from openmlops.operations.reports import Evaluated, write_reports
from openmlops.operations.runs import working_on
from openmlops.operations.training import ended_at
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

PARITY_BOUND = 1e-4
"""Largest difference of an output between trained and exported model (`learning.export`)."""
GOLDEN_IMAGES, FEWEST_GOLDEN = 64, 8
GOLDEN_BYTES = 4 * 1024 * 1024
REFERENCE_FILE = "reference.parquet"
DESCRIPTION_FILE = "model.json"
CARD_FILE = "model_card.md"
ABOUT_ALL = """Models of the use case `{}`. The alias `champion` says which version is live, as OpenMLOps' ledger has it: \
change it with `openmlops promote` and `openmlops rollback`; what is set on this page is set back."""

Made = TypeVar("Made")


def _failing_its_run(operation: Callable[..., Made]) -> Callable[..., Made]:
    """If the operation raises, the training's run is closed as failed, with the reason."""

    @wraps(operation)
    def run(workspace: Workspace, *values: Any) -> Made:
        (trained,) = (value for value in values if isinstance(value, TrainedRef))
        with working_on(workspace, trained.run_id):
            return operation(workspace, *values)

    return run


@_failing_its_run
def evaluate(workspace: Workspace, trained: TrainedRef, folder: Path | None = None) -> Evaluation:
    """Judge the trained model on the test split; metrics and artifacts go to its run and to `folder`, else ARTIFACTS_DIR."""
    found = measure(workspace, trained, "test")
    workspace.tracking.log_metrics(trained.run_id, metrics_of(found.evaluation), ended_at(trained))
    for path in write_reports(found, folder or workspace.artifacts):
        workspace.tracking.log_files(trained.run_id, path, "evaluation")
    return found.evaluation


def measure(workspace: Workspace, trained: TrainedRef, split: str) -> Evaluated:
    """What the trained model answers to a split, and how good that is. Nothing is recorded."""
    use_case, rebuilt = workspace.use_case, _Rebuilt(workspace, trained)
    images, labels = rebuilt.images(split), rebuilt.rows.labels[rebuilt.indices[split]]
    answers = asking.answers(use_case, rebuilt.eager, images)
    evaluation = use_case.task.evaluate(labels, answers, rebuilt.rows.names, split, trained.splits.fingerprint)
    return Evaluated(evaluation, images, labels, answers)


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    """What MLflow shows of an evaluation, by name; the registry asks for names that begin with `test_`."""
    return {f"{evaluation.split}_{name}": value for name, value in evaluation.metrics().items()}


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
    from openmlops.learning.export import export as write

    task = rebuilt.workspace.use_case.task
    parity = write(rebuilt.served, task.outputs, task.compared, scratch, rebuilt.golden, PARITY_BOUND)
    write_mlflow_model(scratch / "model.onnx", task.outputs, folder)
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

    use_case, images = rebuilt.workspace.use_case, rebuilt.images("validation")
    answers, features = asking.answers_and_features(use_case, asking.exported(use_case, folder), images)
    with replacing(folder / REFERENCE_FILE) as beside:
        pyarrow.parquet.write_table(pyarrow.table(features), beside)
    labels = rebuilt.rows.labels[rebuilt.indices["validation"]]
    write_references(folder, features, lambda: use_case.task.confidence(answers, labels))


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
    rows, quality = f"{trained.splits.dataset.rows:,}", tags[f"openmlops.test_{name}"]
    about = (
        f"Test {name} {quality} on {evaluation.n:,} images; data version {trained.splits.dataset.fingerprint[:12]} "
        f"({rows} images). Classes, limits and lineage: `{CARD_FILE}` among the files of its run."
    )
    place = (workspace.model_name, trained.run_id, Path(exported.path))
    model = workspace.registry.register(*place, tags, about, ABOUT_ALL.format(workspace.use_case.name))
    workspace.tracking.finish(trained.run_id)
    return model


def evaluate_version(workspace: Workspace, spec: str) -> Evaluation:
    """Judge the exported model of a version, `MODEL@champion` or `MODEL/3`, on the test split of the current data.

    Raises SettingsError for another use case's model, DataError if the data has other classes.
    """
    folder = workspace.registry.fetch(find_version(workspace, spec))
    description = Description.read(folder / DESCRIPTION_FILE)
    splits = data.split(workspace, data.ingest(workspace), description.split_seed)
    rows = workspace.use_case.read(Path(splits.dataset.path))
    _require_same_task(workspace, spec, description, rows)
    test = data.indices_of(splits)["test"]
    found = asking.answers(workspace.use_case, asking.exported(workspace.use_case, folder), rows.images[test])
    return workspace.use_case.task.evaluate(rows.labels[test], found, rows.names, "test", splits.fingerprint)


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

    @cached_property
    def served(self) -> Any:
        """The torch module as it is served."""
        return self.workspace.use_case.served(self.model)

    @property
    def eager(self) -> asking.Model:
        """The served module, answering."""
        from openmlops.learning.export import Eager

        return Eager(self.served, self.workspace.use_case.task.outputs)

    def images(self, split: str) -> np.ndarray:
        """(n, ...), as `Rows` holds them."""
        return self.rows.images[self.indices[split]]

    @property
    def golden(self) -> np.ndarray:
        """Validation images as the model is shown them, uint8 (n, height, width, 3); of large ones fewer.

        From all over the split, which may be in the order of its classes.
        """
        (height, width, channels), images = self.eager.image_shape, self.images("validation")
        most = min(GOLDEN_IMAGES, max(FEWEST_GOLDEN, GOLDEN_BYTES // (height * width * channels)))
        spread = np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)
        return self.workspace.use_case.show(images[spread], (height, width)).pixels

    def describe(self, evaluation: Evaluation, parity: float) -> Description:
        """What the version says of itself."""
        use_case, splits = self.workspace.use_case, self.trained.splits
        height, width, channels = self.eager.image_shape
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
