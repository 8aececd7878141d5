"""Export: from trained weights to one sealed folder with all files of a version.

It holds MLflow's ONNX flavor, `golden.npz` (raw images with the trained model's outputs), `reference.parquet` (features of the
validation images, computed with the exported model), the monitoring calibration (drift_references.py), `trained_on.npy`
(which images it has seen), `model.json`, `model_card.md` and `manifest.json`. Not here: registering it as a
version (`registration`).
"""

import shutil
from pathlib import Path

import numpy as np

from openmlops.core.quality import Evaluation
from openmlops.core.types import ExportRef, TrainedRef
from openmlops.files import MANIFEST, Manifest, copy, copy_file, replacing, write_text
from openmlops.operations.release import inference, trained_on
from openmlops.operations.release.drift_references import write_references
from openmlops.operations.release.model_card import CARD_FILE, DESCRIPTION_FILE, model_card
from openmlops.operations.release.rebuilt_model import RebuiltModel
from openmlops.operations.run_leases import fails_its_run
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder

PARITY_BOUND = 1e-4
"""largest absolute difference of an output between trained and exported model (`learning.export`)"""
REFERENCE_FILE = "reference.parquet"


@fails_its_run
def export(workspace: Workspace, trained: TrainedRef, evaluation: Evaluation) -> ExportRef:
    """Write all files of a version into one sealed folder, and the ONNX and TorchScript models to ARTIFACTS_DIR.

    Raises ExportError if the outputs of an exported model differ from the trained model's by more than PARITY_BOUND.
    """
    rebuilt = RebuiltModel(workspace, trained)
    folder = place(workspace.home, trained.run_id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, ".export.") as scratch:
        parity = _write_models(rebuilt, scratch, folder)
    description = rebuilt.describe(evaluation, parity)
    write_text(folder / DESCRIPTION_FILE, description.model_dump_json(indent=2))
    write_text(folder / CARD_FILE, model_card(description))
    _write_reference(rebuilt, folder)
    trained_on.write(folder, rebuilt.rows.images, np.concatenate([rebuilt.indices[name] for name in ("train", "validation")]))
    manifest = Manifest.of(folder)
    manifest.write(folder / MANIFEST)
    workspace.contents.keep_folder("export", folder)
    return ExportRef(sha256=manifest.fingerprint, run_id=trained.run_id, parity=parity)


def place(home: Path, run_id: str) -> Path:
    """Where the export of a run lies on this machine."""
    return home / "exports" / run_id


def _write_models(rebuilt: "RebuiltModel", scratch: Path, folder: Path) -> float:
    """Export into `scratch`, copy the served files into `folder`, the others to ARTIFACTS_DIR and the run. Returns the largest
    difference of outputs."""
    from openmlops.adapters.mlflow_model import write_mlflow_model
    from openmlops.learning.export import export as write

    task = rebuilt.workspace.use_case.task
    parity = write(rebuilt.served, task.outputs, task.compared, scratch, rebuilt.golden, PARITY_BOUND)
    write_mlflow_model(scratch / "model.onnx", task.outputs, folder)
    for name in ("golden.npz", "weights.safetensors"):
        copy_file(scratch / name, folder / name)
    for name in ("model.onnx", "model_torchscript.pt"):
        copy(rebuilt.workspace.artifacts / name, scratch / name)
    rebuilt.workspace.tracking.log_files(rebuilt.trained.run_id, scratch / "model_torchscript.pt")
    return float(parity)


def _write_reference(rebuilt: "RebuiltModel", folder: Path) -> None:
    """Write the features of the validation images, computed with the exported model, and the monitoring calibration."""
    import pyarrow
    import pyarrow.parquet

    use_case, images = rebuilt.workspace.use_case, rebuilt.images("validation")
    predictions, features = inference.predict_with_features(use_case, inference.load_exported(use_case, folder), images)
    with replacing(folder / REFERENCE_FILE) as beside:
        pyarrow.parquet.write_table(pyarrow.table(features), beside)
    labels = rebuilt.rows.labels[rebuilt.indices["validation"]]
    write_references(folder, features, lambda: use_case.task.confidence(predictions, labels))
