"""Export of a trained module: ONNX (served), TorchScript, safetensors, and a golden batch.

The exported graph takes raw images, uint8 (n, height, width, 3), and normalises them in its first layer, so that training,
serving and monitoring cannot differ. What is not here: the registry's folder around these files (release/exporting.py), and
how a use case's network becomes a module with these outputs (its `served`; that of classifiers is here).
"""

import copy
import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import nn

from openmlops.errors import ExportError
from openmlops.files import place_bytes, replacing

ONNX_FILE = "model.onnx"
TORCHSCRIPT_FILE = "model_torchscript.pt"
WEIGHTS_FILE = "weights.safetensors"
GOLDEN_FILE = "golden.npz"
OPSET = 17
AT_ONCE = 2 * 224 * 224
"""pixels of the images that are computed at a time: what the layers hold grows with them"""


class ServedClassifier(nn.Module):
    """A classifier as it is served: uint8 (n, height, width, 3) -> (logits, probabilities, embedding).

    `model` maps uint8 (n, 3, height, width) to (logits, embedding); its `image_shape` is (height, width, 3), and its `resize`,
    if it has one, how images become that. The model's logits are divided by `temperature`, so that the probabilities are
    calibrated (core/classification/calibration.py).
    """

    temperature: float = 1.0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.image_shape = model.image_shape
        self.resize = getattr(model, "resize", "default")

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, embedding = self.model(images.permute(0, 3, 1, 2))
        if self.temperature != 1:
            logits = logits / self.temperature
        return logits, torch.softmax(logits, dim=1), embedding


class Eager:
    """A served module run in eager torch on the CPU, with the interface of `OnnxModel`."""

    def __init__(self, served: nn.Module, outputs: tuple[str, ...]) -> None:
        self._served = served.cpu().eval()
        self._outputs = outputs

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the input images."""
        shape: tuple[int, int, int] = self._served.image_shape  # type: ignore[assignment]
        return shape

    @property
    def resize(self) -> str:
        """How images become the model input: `Preprocessing.resize`."""
        return getattr(self._served, "resize", "default")

    def run(self, images: np.ndarray, batch: int = 250) -> dict[str, np.ndarray]:
        """uint8 (n, height, width, 3), `batch` at a time -> the outputs by name, float32, n rows each."""
        parts = [self._run(images[start : start + batch]) for start in range(0, max(len(images), 1), batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return _outputs(self._served, images, self._outputs)


def export(
    served: nn.Module,
    outputs: tuple[str, ...],
    compared: tuple[str, ...],
    folder: Path,
    golden_images: np.ndarray,
    bound: float,
) -> float:
    """Write the files into `folder` and return the parity: the largest difference in an output that is `compared`, relative to
    the largest value of that output where that is above 1.

    `served` maps uint8 (n, height, width, 3) to `outputs` and is not modified; the weights are those of its `model`. Eager
    torch, ONNX Runtime and TorchScript predict on `golden_images`, n >= 2, which GOLDEN_FILE keeps with the eager outputs.
    Raises ExportError if a value differs by more than `bound` or the argmax of a row differs; nothing is written then. The
    same module gives the same bytes, except for TorchScript, which numbers its classes within a process.
    """
    served = copy.deepcopy(served).cpu().eval().requires_grad_(False)
    eager = _outputs(served, golden_images, outputs)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ONNX_FILE) as onnx, replacing(folder / TORCHSCRIPT_FILE) as torchscript:
        scripted = _write_graphs(served, outputs, golden_images, onnx, torchscript)
        parity = max(
            _parity("ONNX", compared, eager, _onnx_outputs(onnx, golden_images, outputs), bound),
            _parity("TorchScript", compared, eager, _outputs(scripted, golden_images, outputs), bound),
        )
    with replacing(folder / WEIGHTS_FILE) as weights, replacing(folder / GOLDEN_FILE) as golden:
        network: nn.Module = served.model  # type: ignore[assignment]
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, weights)
        with golden.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, images=golden_images, **eager)
    return parity


def _outputs(model: nn.Module, images: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Outputs of a served module, eager or scripted, for uint8 (n, height, width, 3), by name, float32."""
    with torch.inference_mode():
        found = [model(torch.from_numpy(part)) for part in _parts(images)]
    return {name: torch.cat(tensors).float().numpy() for name, tensors in zip(outputs, zip(*found, strict=True), strict=True)}


def _parts(images: np.ndarray) -> list[np.ndarray]:
    """Images (n, height, width, 3), a few at a time."""
    size = max(1, AT_ONCE // (images.shape[1] * images.shape[2]))
    return [images[start : start + size] for start in range(0, max(len(images), 1), size)]


def _write_graphs(served: nn.Module, outputs: tuple[str, ...], images: np.ndarray, onnx: Path, torchscript: Path) -> nn.Module:
    """Write both graphs with a dynamic batch size; return the reloaded TorchScript. The newer exporter needs onnxscript."""
    example = torch.from_numpy(images[:2])  # a batch of one would be exported as always one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            served,
            (example,),
            onnx,
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "n"} for name in ("images", *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
        buffer = io.BytesIO()  # a path would put the temporary file's name into the archive
        torch.jit.save(torch.jit.trace(served, (example,), check_trace=False), buffer)
        place_bytes(torchscript, buffer.getvalue())
        return torch.jit.load(torchscript)


def _onnx_outputs(path: Path, images: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [session.run(list(outputs), {"images": part}) for part in _parts(images)]
    return {name: np.concatenate(parts) for name, parts in zip(outputs, zip(*found, strict=True), strict=True)}


def _parity(
    name: str, compared: tuple[str, ...], eager: dict[str, np.ndarray], exported: dict[str, np.ndarray], bound: float
) -> float:
    gaps = {output: _gap(eager[output], exported[output]) for output in compared}
    worst = max(gaps, key=lambda output: gaps[output])
    other = sum(_decided_otherwise(eager[output], exported[output]) for output in compared)
    if not gaps[worst] <= bound or other:
        problem = f"{name} differs from eager torch by {gaps[worst]:.2g} in {worst}, and in the class of {other} predictions"
        raise ExportError(problem, f"Nothing was exported; the limit is {bound:.2g} and no change of class")
    return gaps[worst]


def _gap(expected: np.ndarray, found: np.ndarray) -> float:
    """Largest relative difference; infinite if a value is not finite, because max() would lose a NaN."""
    gap = float(np.abs(expected - found).max()) / max(1.0, float(np.abs(expected).max()))
    return gap if np.isfinite(gap) else float("inf")


def _decided_otherwise(expected: np.ndarray, found: np.ndarray) -> int:
    """Number of rows (n, classes) whose argmax differs."""
    return int((expected.argmax(axis=1) != found.argmax(axis=1)).sum()) if expected.ndim == 2 else 0
