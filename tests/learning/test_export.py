"""The exported files answer as the trained module does, for any batch size, or there are none."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.errors import ExportError
from openmlops.files import Manifest
from openmlops.learning import export as exporting
from openmlops.learning.export import ServedClassifier

OUTPUTS, COMPARED = CLASSIFICATION.outputs, CLASSIFICATION.compared


def export(model: nn.Module, folder: Path, golden: np.ndarray, bound: float) -> float:
    return exporting.export(ServedClassifier(model), OUTPUTS, COMPARED, folder, golden, bound)


class TinyNet(nn.Module):
    """uint8 (n, 3, h, w) -> (logits, embedding), with BatchNorm, which exporters fold, and a strided convolution."""

    image_shape = (32, 32, 3)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 120.0))
        self.stem = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = torch.relu(self.norm(self.stem((images.float() - self.mean) / 60))).mean(dim=(2, 3))
        return self.head(embedding), embedding


class Dice(TinyNet):
    """Answers by its own call count: no exporter can keep that."""

    calls = 0.0

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1.0
        logits, embedding = super().forward(images)
        return logits * self.calls, embedding


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    tiny = TinyNet()
    with torch.no_grad():
        tiny.head.weight.mul_(20)
        tiny(torch.from_numpy(images(64)).permute(0, 3, 1, 2))
    return tiny.eval()


def eager(model: nn.Module, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        logits, embedding = model(torch.from_numpy(batch).permute(0, 3, 1, 2))
    return torch.softmax(logits, dim=1).numpy(), embedding.numpy()


@pytest.mark.parametrize("n", [0, 1, 7, 300])
def test_onnx_answers_as_the_module_for_any_batch_size(tmp_path: Path, model: nn.Module, n: int):
    parity = export(model, tmp_path, images(16), 1e-5)
    found = OnnxModel(tmp_path / "model.onnx", OUTPUTS).run(images(n, seed=1))
    probabilities, embedding = eager(model, images(n, seed=1))
    assert 0 <= parity <= 1e-5
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(found["embedding"], embedding, atol=1e-4)


def test_torchscript_answers_as_the_module(tmp_path: Path, model: nn.Module):
    export(model, tmp_path, images(16), 1e-5)
    logits, probabilities, _ = torch.jit.load(tmp_path / "model_torchscript.pt")(torch.from_numpy(images(5, seed=2)))
    np.testing.assert_allclose(probabilities.numpy(), eager(model, images(5, seed=2))[0], atol=1e-5)
    assert logits.shape == (5, 10)


def test_safetensors_rebuild_the_module(tmp_path: Path, model: nn.Module):
    export(model, tmp_path, images(16), 1e-5)
    rebuilt = TinyNet()
    rebuilt.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    np.testing.assert_array_equal(eager(rebuilt.eval(), images(4))[0], eager(model, images(4))[0])


def test_the_golden_batch_keeps_the_eager_answers(tmp_path: Path, model: nn.Module):
    export(model, tmp_path, images(16), 1e-5)
    golden = np.load(tmp_path / "golden.npz")
    np.testing.assert_array_equal(golden["images"], images(16))
    np.testing.assert_allclose(golden["probabilities"], eager(model, images(16))[0], atol=1e-6)


def test_a_module_that_the_graph_cannot_follow_is_not_exported(tmp_path: Path):
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=r"ONNX differs from eager torch by .* in probabilities"):
        export(Dice().eval(), tmp_path, images(16), 1e-5)
    assert list(tmp_path.iterdir()) == []


def test_a_bound_that_floating_point_cannot_meet_is_refused(tmp_path: Path, model: nn.Module):
    with pytest.raises(ExportError, match="the limit is"):
        export(model, tmp_path, images(16), -1.0)


def test_the_same_module_gives_the_same_bytes_of_all_that_is_served(tmp_path: Path, model: nn.Module):
    for folder in (tmp_path / "a", tmp_path / "b"):
        export(model, folder, images(16), 1e-5)
        (folder / "model_torchscript.pt").unlink()
    assert Manifest.of(tmp_path / "a").fingerprint == Manifest.of(tmp_path / "b").fingerprint


def test_a_module_in_training_mode_is_exported_as_it_evaluates_and_left_training(tmp_path: Path, model: nn.Module):
    expected = eager(model, images(3, seed=4))[0]
    export(model.train(), tmp_path, images(16), 1e-5)
    assert model.training
    np.testing.assert_allclose(
        OnnxModel(tmp_path / "model.onnx", OUTPUTS).run(images(3, seed=4))["probabilities"], expected, atol=1e-5
    )


def test_no_warning_of_the_exporters_reaches_the_user(tmp_path: Path, model: nn.Module, capfd: pytest.CaptureFixture[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(model, tmp_path, images(16), 1e-5)
    assert capfd.readouterr() == ("", "")


def test_the_graph_takes_raw_pixels_and_names_its_outputs(tmp_path: Path, model: nn.Module):
    export(model, tmp_path, images(16), 1e-5)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [(found.name, found.type.tensor_type.elem_type) for found in graph.input] == [("images", onnx.TensorProto.UINT8)]
    assert [found.name for found in graph.output] == ["logits", "probabilities", "embedding"]
