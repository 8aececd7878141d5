"""A use case whose models are told by the images what to answer, so that a test decides who is right how often.

Pixel k of an image holds the class that model k answers. The model is a real ONNX file, registered in a real MLflow; only the
learning is left out.
"""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlflow_tables import with_tables
from openmlops.core.classification.metrics import evaluate_classification
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.types import DatasetRef, Preprocessing, SplitsRef
from openmlops.files import Manifest
from openmlops.operations.data import datasets
from openmlops.operations.release.model_card import DESCRIPTION_FILE, Description
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from openmlops.usecases.base import Outputs, Rows, UseCase
from openmlops.usecases.classifier import to_model_input

NAME = "toy"
CLASSES = 10
ACCURACY = (0.0, 0.70, 0.76, 0.76, 0.60, 0.80)
"""of model k on the test images, from 1 on"""


def write_data(folder: Path, n: int = 2000) -> None:
    """Images (n, 1, 8, 3) and labels, all of them test images; models agree much, as real ones do."""
    rng = np.random.default_rng(0)
    labels, difficulty = rng.integers(0, CLASSES, n), rng.normal(size=n)
    images = np.zeros((n, 1, 8, 3), np.uint8)
    for k, accuracy in enumerate(ACCURACY):
        strain = difficulty + 0.3 * rng.normal(size=n)
        right = strain <= np.quantile(strain, accuracy)
        images[:, 0, k, 0] = np.where(right, labels, (labels + 1) % CLASSES)
    folder.mkdir(parents=True)
    np.savez(folder / "rows.npz", images=images, labels=labels)


def read(folder: Path) -> Rows:
    with np.load(folder / "rows.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    return Rows(images, labels, tuple(map(str, range(CLASSES))), np.ones(len(labels), bool))


def split(rows: Rows, seed: int) -> dict[str, np.ndarray]:
    none = np.zeros(0, np.int64)
    return {"train": none, "validation": none, "test": np.flatnonzero(rows.test)}


def to_predictions(tensors, model_input) -> Outputs:
    return Outputs(tensors["probabilities"], tensors["embedding"])


def write_model(path: Path, k: int, scale: float = 5.0) -> None:
    """A model that answers what pixel k says, and its description; with `scale` NaN it answers nothing at all."""

    def constant(name, value):
        return helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(value)))

    nodes = [
        constant("k", k),
        constant("zero", 0),
        constant("axis", [1]),
        constant("depth", CLASSES),
        constant("off_on", np.array([0, scale], np.float32)),
        helper.make_node("Gather", ["images", "k"], ["pixel"], axis=2),
        helper.make_node("Gather", ["pixel", "zero"], ["red"], axis=2),
        helper.make_node("Squeeze", ["red", "axis"], ["class"]),
        helper.make_node("Cast", ["class"], ["index"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["index", "depth", "off_on"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["logits"], ["embedding"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 1, 8, 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "probabilities", "embedding")
    ]
    graph = helper.make_graph(nodes, "toy", [images], outputs)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    path.with_name(DESCRIPTION_FILE).write_text(described().model_dump_json())


@cache
def described() -> Description:
    """What model.json says of each of the models; nothing of it matters but how images become their input."""
    names = tuple(map(str, range(CLASSES)))
    return Description(
        use_case=NAME, model=NAME, about="", classes=names, image_shape=(1, 8, 3), dataset="d" * 64, dataset_rows=2000,
        split="s", split_seed=0, train_rows=0, validation_rows=0, test_rows=2000, config={}, parity=0.0,
        preprocessing=Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)),
        evaluation=evaluate_classification(np.arange(CLASSES), np.eye(CLASSES), names, "test", "s"),
    )  # fmt: skip


def unused(*arguments):
    raise AssertionError("promotion must not ask a use case for this")


USE_CASE = UseCase(
    name=NAME, model_name=NAME, folder="toy", about="", task=CLASSIFICATION, config=unused, read=read, check=unused,
    split=split, preprocess=unused, build=unused, fit=unused, served=unused, decode=unused,
    to_model_input=to_model_input, to_predictions=to_predictions, features=unused, sample=unused,
)  # fmt: skip


def workspace(home: Path) -> Workspace:
    with_tables(home / "mlflow.db")
    return Workspace(Settings(openmlops_home=home, use_case="toy_promotion:USE_CASE", data_raw_dir=home / "raw"))


def splits(found: Workspace) -> SplitsRef:
    if not found.data_folder.exists():
        write_data(found.data_folder)
    manifest = Manifest.of(found.data_folder)
    manifest.write(found.data_folder.with_name(f"{found.data_folder.name}.manifest.json"))
    dataset = DatasetRef(name=NAME, fingerprint=manifest.fingerprint, rows=2000)
    return datasets.split(found, dataset, seed=0)
