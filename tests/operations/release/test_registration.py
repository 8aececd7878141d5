"""A trained model becomes a version that is complete, that answers as it was judged, and that MLflow itself can load."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from mlflow import MlflowClient
from pydantic import SecretStr
from safetensors.torch import save_file

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.classification.metrics import log_loss
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.quality import Evaluation
from openmlops.core.types import Content, DatasetRef, ExportRef, ModelRef, TrainedRef, Verdict
from openmlops.errors import DataError, ModelCorrupt, ModelNotFound, RegistryError, SettingsError
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.data import datasets, weights
from openmlops.operations.release import exporting, promotion, rebuilt_model, registration, scoring
from openmlops.operations.release.model_card import Description
from openmlops.operations.release.rebuilt_model import RebuiltModel
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings, quiet_libraries


@dataclass(frozen=True)
class Made:
    """One small training on the sample data, taken through evaluate, export and register."""

    workspace: Workspace
    trained: TrainedRef
    evaluation: Evaluation
    exported: ExportRef
    model: ModelRef

    @property
    def folder(self) -> Path:
        return exporting.place(self.workspace.home, self.exported.run_id)

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        rows = self.workspace.use_case.read(self.workspace.data_folder)
        indices = datasets.indices_of(self.workspace, self.trained.splits)["test"]
        return rows.images[indices], rows.labels[indices]


def train(workspace: Workspace, dataset: DatasetRef) -> TrainedRef:
    """A hundred steps of a very small network: enough to be better than chance, in 2 cpu-s."""
    use_case, splits = workspace.use_case, datasets.split(workspace, dataset, 0)
    rows, indices = use_case.read(workspace.data_folder), datasets.indices_of(workspace, splits)
    config = use_case.config(steps=100, channels="16-32", batch_size=100, stem_stride=2, flip=False, threads=1)
    model = use_case.build(config, use_case.preprocess(rows, indices["train"]), rows, indices["train"])
    folder = workspace.home / "training"
    result = use_case.fit(model, rows, indices, config, folder=folder, key="k", on_epoch=lambda metrics: None)
    run_id = workspace.tracking.start("cifar10_cnn", result.config.model_dump(), {})
    file = weights.place(workspace.home, run_id)
    file.parent.mkdir()
    save_file(model.state_dict(), file)
    return TrainedRef(
        weights=workspace.contents.keep("weights", file),
        run_id=run_id,
        splits=splits,
        config=result.config.model_dump(),
        epochs=result.epochs,
        seconds=result.seconds,
        ended_at=datetime.now(UTC),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    quiet_libraries()
    home = tmp_path_factory.mktemp("home")
    environment = {"OPENMLOPS_HOME": f"{home}/state", "DATA_RAW_DIR": f"{home}/raw", "ARTIFACTS_DIR": f"{home}/artifacts"}
    workspace = Workspace(Settings.load(environment, dotenv=home / ".env"))
    folder = workspace.use_case.sample(workspace.data_folder)
    manifest = Manifest.of(folder)
    manifest.write(folder.with_name(f"{folder.name}.manifest.json"))
    dataset = DatasetRef(name="cifar10", fingerprint=manifest.fingerprint, rows=4200)
    trained = train(workspace, dataset)
    evaluation = scoring.evaluate(workspace, trained)
    exported = exporting.export(workspace, trained, evaluation)
    return Made(workspace, trained, evaluation, exported, registration.register(workspace, exported, trained, evaluation))


def test_the_evaluation_is_of_every_test_image_and_better_than_chance(made: Made):
    assert (made.evaluation.split, made.evaluation.n) == ("test", made.trained.splits.test)
    assert made.evaluation.split_fingerprint == made.trained.splits.fingerprint
    assert made.evaluation.accuracy_low > 0.11


def test_the_exported_model_answers_the_test_split_as_well_as_the_trained_one(made: Made):
    images, labels = made.test
    answered = OnnxModel(made.folder / "model.onnx", CLASSIFICATION.outputs).run(images)["probabilities"].argmax(axis=1)
    assert (answered == labels).mean() == pytest.approx(made.evaluation.accuracy, abs=1 / len(labels))
    assert made.exported.parity <= exporting.PARITY_BOUND


def test_the_exported_probabilities_are_those_of_the_temperature_that_the_card_names(made: Made):
    """The network's own logits are more certain or less: the file divides them."""
    images, labels = made.test
    temperature = Description.read(made.folder / "model.json").temperature
    assert temperature != 1
    assert f"logits are divided by {temperature:g}" in (made.folder / "model_card.md").read_text()
    rebuilt = RebuiltModel(made.workspace, made.trained)
    logits = rebuilt.eager.run(images)["logits"]
    rebuilt.served.temperature = 1.0
    own = rebuilt.eager.run(images)
    np.testing.assert_allclose(logits, own["logits"] / temperature, rtol=1e-4, atol=1e-5)
    exported = OnnxModel(made.folder / "model.onnx", CLASSIFICATION.outputs).run(images)
    np.testing.assert_allclose(exported["logits"], logits, rtol=1e-3, atol=1e-4)
    assert log_loss(labels, exported["probabilities"]) < log_loss(labels, own["probabilities"])


def test_the_run_shows_the_evaluation_and_is_finished(made: Made):
    run = MlflowClient(made.workspace.settings.tracking_uri).get_run(made.model.run_id)
    assert run.data.metrics["test_accuracy"] == made.evaluation.accuracy
    assert run.data.metrics["test_accuracy_low"] < run.data.metrics["test_accuracy"] < run.data.metrics["test_accuracy_high"]
    assert sum(name.startswith("test_recall/") for name in run.data.metrics) == 10
    assert run.info.status == "FINISHED"


def test_pictures_reports_and_models_are_where_users_look(made: Made):
    artifacts = made.workspace.artifacts
    height, width = imread(artifacts / "confusion_matrix.png").shape[:2]
    assert min(height, width) > 700
    assert "accuracy" in (artifacts / "classification_report.txt").read_text()
    assert (artifacts / "model_torchscript.pt").stat().st_size > 0
    assert (artifacts / "model.onnx").read_bytes() == (made.folder / "model.onnx").read_bytes()
    kept = {
        file.path for file in MlflowClient(made.workspace.settings.tracking_uri).list_artifacts(made.model.run_id, "evaluation")
    }
    pictures = {f"evaluation/{name}.png" for name in ("worst_errors", "curves", "validation_by_time")}
    names = {"confusion_matrix.png", "classification_report.txt", "evaluation.json", "explanations.json", "explanations.html"}
    assert {f"evaluation/{name}" for name in names} == kept - pictures
    assert "Grad-CAM" in (artifacts / "explanations.html").read_text() or made.evaluation.accuracy == 1


def test_the_sealed_folder_holds_everything_a_version_consists_of(made: Made):
    manifest = Manifest.read(made.folder / MANIFEST)
    served = {"MLmodel", "model.onnx", "weights.safetensors", "golden.npz", "model.json", "model_card.md"}
    watched = {"reference.parquet", "drift_reference.npz", "monitoring.json"}
    assert manifest.files.keys() >= served | watched
    assert manifest.differences(made.folder) == ()
    assert manifest.fingerprint == made.exported.sha256 == made.model.sha256
    assert made.model.dataset == made.trained.splits.dataset.fingerprint


def test_the_reference_is_the_features_of_the_validation_images_through_the_exported_model(made: Made):
    rows = made.workspace.use_case.read(made.workspace.data_folder)
    images = rows.images[datasets.indices_of(made.workspace, made.trained.splits)["validation"]]
    use_case = made.workspace.use_case
    tensors = OnnxModel(made.folder / "model.onnx", CLASSIFICATION.outputs).run(images)
    shown = use_case.to_model_input(images, (32, 32))
    reference = pd.read_parquet(made.folder / "reference.parquet")
    expected = use_case.features(shown, use_case.to_predictions(tensors, shown))
    assert list(reference.columns) == list(expected)
    for name, column in expected.items():
        np.testing.assert_allclose(reference[name], column, rtol=1e-3, atol=1e-4, err_msg=name)


def test_the_golden_batch_is_answered_as_by_the_trained_model(made: Made):
    golden = np.load(made.folder / "golden.npz")
    assert golden["images"].shape[0] == rebuilt_model.GOLDEN_IMAGES
    answered = OnnxModel(made.folder / "model.onnx", CLASSIFICATION.outputs).run(golden["images"])
    np.testing.assert_allclose(answered["probabilities"], golden["probabilities"], atol=exporting.PARITY_BOUND)


def test_the_description_says_what_the_version_was_made_of(made: Made):
    found = Description.read(made.folder / "model.json")
    assert found.classes[0] == "zero"
    assert found.evaluation == made.evaluation
    assert found.config == made.trained.config
    assert (found.dataset, found.split) == (made.model.dataset, made.trained.splits.fingerprint)


def test_the_model_card_gives_intervals_slices_lineage_and_limits(made: Made):
    card = (made.folder / "model_card.md").read_text()
    e = made.evaluation
    assert f"| accuracy | {e.accuracy:.4f} [{e.accuracy_low:.4f}, {e.accuracy_high:.4f}] |" in card
    assert all(f"| {score.name} |" in card for score in e.classes)
    assert made.model.dataset in card
    assert {"## Lineage", "## Licence", "## Limits"} <= set(card.splitlines())


def test_exporting_again_gives_the_same_manifest_and_registering_again_the_same_version(made: Made):
    again = exporting.export(made.workspace, made.trained, made.evaluation)
    assert again.sha256 == made.exported.sha256
    assert registration.register(made.workspace, again, made.trained, made.evaluation) == made.model


def test_a_training_given_again_after_its_verdict_says_so_and_registers_nothing(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = made.workspace.settings.model_copy(update={"database_url": SecretStr(f"sqlite:///{tmp_path / 'judged.db'}")})
    workspace, model = Workspace(settings), made.model
    verdict = Verdict(outcome="reject", reasons=("worse",), challenger=model.version, champion=None)
    row = (model.name, 0, "reject", model.version, "ada", ("worse",), model.dataset, model.sha256, verdict, datetime.now(UTC))
    workspace.ledger.append(*row)
    run_id = workspace.tracking.start("cifar10_cnn", {}, {})
    workspace.tracking.log_metrics(run_id, {"test_accuracy": 0.5}, datetime.now(UTC))
    again = made.trained.model_copy(update={"run_id": run_id})
    assert registration.register(workspace, made.exported, again, made.evaluation) == model
    assert workspace.registry.versions(model.name) == (model,)
    assert "once more, which the gate has judged (reject). Nothing was registered" in capsys.readouterr().err
    assert not workspace.tracking.run_is_open(run_id)
    assert promotion.decide(workspace, model, made.trained.splits).sequence == 1, "the verdict is the one that was written"


_PYFUNC = """
import json, sys, mlflow, numpy
model = mlflow.pyfunc.load_model("models:/cifar10_cnn@champion")
answers = model.predict(numpy.load(sys.argv[1])["images"])
print(json.dumps({"torch": "torch" in sys.modules, "classes": answers["probabilities"].argmax(axis=1).tolist()}))
"""


def test_mlflow_itself_loads_the_champion_without_pickle_or_torch(made: Made):
    made.workspace.registry.set_alias(made.model.name, "champion", made.model.version)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": made.workspace.settings.tracking_uri}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-c", _PYFUNC, str(made.folder / "golden.npz")]
    found = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    golden = np.load(made.folder / "golden.npz")
    assert found == {"torch": False, "classes": golden["probabilities"].argmax(axis=1).tolist()}


def test_a_version_whose_run_was_never_evaluated_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registration, "_judged_twin", lambda *given: None)  # that another test made
    unmeasured = made.workspace.tracking.start("cifar10_cnn", {}, {})
    trained = made.trained.model_copy(update={"run_id": unmeasured})
    with pytest.raises(RegistryError, match="no test metric"):
        registration.register(made.workspace, made.exported, trained, made.evaluation)


def test_damaged_weights_come_back_from_the_object_store(made: Made):
    file = weights.place(made.workspace.home, made.trained.run_id)
    before = file.read_bytes()
    file.write_bytes(before[:-10])
    assert weights.local(made.workspace, made.trained).read_bytes() == before


def test_weights_of_an_earlier_release_are_the_file_of_the_run_and_named_if_they_are_damaged(made: Made):
    written = json.loads(made.trained.model_dump_json(exclude={"weights"})) | {"path": "/somewhere/else.safetensors"}
    trained, file = TrainedRef.model_validate(written), weights.place(made.workspace.home, made.trained.run_id)
    assert weights.local(made.workspace, trained) == file
    before = file.read_bytes()
    try:
        file.write_bytes(before[:-10])
        with pytest.raises(ModelCorrupt, match="does not contain the trained weights"):
            scoring.evaluate(made.workspace, trained)
        file.unlink()
        with pytest.raises(DataError, match=r"in which an earlier release kept the weights\. Train again"):
            scoring.evaluate(made.workspace, trained)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("spec", ["cifar10_cnn@{alias}", "cifar10_cnn/{version}"])
def test_a_version_evaluates_again_as_it_did(made: Made, monkeypatch: pytest.MonkeyPatch, spec: str):
    monkeypatch.setattr(datasets, "ingest", lambda workspace: made.trained.splits.dataset)
    made.workspace.registry.set_alias(made.model.name, "staging", made.model.version)
    found = scoring.evaluate_version(made.workspace, spec.format(alias="staging", version=made.model.version))
    assert found.accuracy == pytest.approx(made.evaluation.accuracy, abs=1 / found.n)
    assert found.split_fingerprint == made.evaluation.split_fingerprint


@pytest.mark.parametrize(
    "spec", ["cifar10_cnn", "@champion", "cifar10_cnn/", "cifar10_cnn@nobody", "cifar10_cnn/99", "other/1"]
)
def test_what_names_no_version_is_refused(made: Made, spec: str):
    with pytest.raises(ModelNotFound, match=spec.partition("/")[0].partition("@")[0] or "does not name a version"):
        scoring.evaluate_version(made.workspace, spec)


@pytest.mark.parametrize(
    ("change", "error"), [({"use_case": "person"}, SettingsError), ({"classes": ("cat", "dog")}, DataError)]
)
def test_a_version_of_another_task_is_not_evaluated(made: Made, tmp_path: Path, change: dict, error: type, monkeypatch):
    monkeypatch.setattr(datasets, "ingest", lambda workspace: made.trained.splits.dataset)
    description = Description.read(made.folder / "model.json").model_copy(update=change)
    (tmp_path / "model.json").write_text(description.model_dump_json())
    monkeypatch.setattr(made.workspace.registry, "fetch", lambda ref: tmp_path)
    with pytest.raises(error, match=r"to the use case 'person'|has the classes cat, dog"):
        scoring.evaluate_version(made.workspace, f"cifar10_cnn/{made.model.version}")


def test_a_failure_after_training_closes_the_run_as_failed_with_the_reason(made):
    tracking = made.workspace.tracking
    run_id = tracking.start("lost weights", {}, {})
    lost = made.trained.model_copy(update={"weights": Content(kind="weights", sha256="0" * 64), "run_id": run_id})
    with pytest.raises(DataError, match=r"The weights 000000000000 are neither at .*\.safetensors nor in the object store"):
        scoring.evaluate(made.workspace, lost)
    assert not tracking.run_is_open(run_id)
    assert "DataError" in tracking.tags(run_id)["openmlops.failure"]
