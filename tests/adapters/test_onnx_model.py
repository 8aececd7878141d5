"""One runner for every exported model: whole batches, exact contracts, one clear line for a broken file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.errors import DataError, ModelCorrupt

OUTPUTS = ("logits", "probabilities", "embedding")


def write_model(path: Path, input_name: str = "images", outputs: tuple[str, ...] = OUTPUTS) -> Path:
    """A model whose embedding is the sum of each channel, with logits that are the same and their softmax."""
    nodes = [
        helper.make_node("Cast", [input_name], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["logits"], axes=[1, 2], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["logits"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["n", 4, 4, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("n", [0, 1, 6, 7])
def test_batches_are_put_together_in_order(tmp_path: Path, n: int):
    found = OnnxModel(write_model(tmp_path / "m.onnx"), OUTPUTS).run(images(n), batch=3)
    np.testing.assert_allclose(found["logits"], images(n).mean(axis=(1, 2)), rtol=1e-5)
    assert list(found) == ["logits", "probabilities", "embedding"]
    assert {(array.shape, array.dtype.name) for array in found.values()} == {((n, 3), "float32")}


def test_images_that_are_not_contiguous_are_answered_alike(tmp_path: Path):
    model = OnnxModel(write_model(tmp_path / "m.onnx"), OUTPUTS, threads=1)
    np.testing.assert_array_equal(model.run(images(5)[::-1])["logits"], model.run(images(5))["logits"][::-1])


@pytest.mark.parametrize("wrong", [images(2).astype(np.float32), images(2)[:, :3], images(2)[0], images(2)[..., :1]])
def test_what_the_model_does_not_take_is_refused_with_what_it_takes(tmp_path: Path, wrong: np.ndarray):
    with pytest.raises(DataError, match=r"Pass images as uint8 \(n, 4, 4, 3\)"):
        OnnxModel(write_model(tmp_path / "m.onnx"), OUTPUTS).run(wrong)


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[: len(whole) // 2], lambda whole: b"not onnx" * 40])
def test_a_broken_file_is_one_clear_line(tmp_path: Path, damage):
    path = write_model(tmp_path / "m.onnx")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelCorrupt, match=r"m\.onnx (cannot be opened by ONNX Runtime|takes)") as caught:
        OnnxModel(path, OUTPUTS)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelCorrupt, match=r"absent\.onnx cannot be opened"):
        OnnxModel(tmp_path / "absent.onnx", OUTPUTS)


def test_a_model_with_another_contract_is_refused(tmp_path: Path):
    with pytest.raises(ModelCorrupt, match="instead of one uint8 tensor 'images'"):
        OnnxModel(write_model(tmp_path / "a.onnx", input_name="pixels_in"), OUTPUTS)
    with pytest.raises(ModelCorrupt, match="has no output embedding"):
        OnnxModel(write_model(tmp_path / "b.onnx", outputs=("logits", "probabilities")), OUTPUTS)
