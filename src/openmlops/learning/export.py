"""A trained module as files that others answer with: ONNX (served), TorchScript, safetensors, and a golden batch.

The exported graph takes raw images, uint8 (n, height, width, 3), because the module's first layer normalises them: training,
serving and monitoring cannot differ. What is not here: the registry's folder around these files (operations/models.py).
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
from openmlops.files import replacing

ONNX_FILE = "model.onnx"
TORCHSCRIPT_FILE = "model_torchscript.pt"
WEIGHTS_FILE = "weights.safetensors"
GOLDEN_FILE = "golden.npz"
OUTPUTS = ("logits", "probabilities", "embedding")
OPSET = 17


class Served(nn.Module):
    """The module as it is served: uint8 (n, height, width, 3) -> (logits, probabilities, embedding)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, embedding = self.model(images.permute(0, 3, 1, 2))
        return logits, torch.softmax(logits, dim=1), embedding


def export(model: nn.Module, folder: Path, golden_images: np.ndarray, bound: float) -> float:
    """Write the files into `folder` and return the parity: the largest absolute difference of a probability.

    `model` maps uint8 (n, 3, height, width) to (logits, embedding) and is left as it is. `golden_images`, uint8 (n, height,
    width, 3), n >= 2, are answered by eager torch, ONNX Runtime and TorchScript; GOLDEN_FILE keeps them with the eager answers.
    Raises ExportError if a probability differs by more than `bound`, or a predicted class at all; then nothing is written.
    The same module gives the same bytes, but for TorchScript, which numbers its classes within a process.
    """
    served = Served(copy.deepcopy(model)).cpu().eval().requires_grad_(False)
    eager = _answers(served, golden_images)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ONNX_FILE) as onnx, replacing(folder / TORCHSCRIPT_FILE) as torchscript:
        scripted = _write_graphs(served, golden_images, onnx, torchscript)
        parity = max(
            _parity("ONNX", eager, _onnx_answers(onnx, golden_images), bound),
            _parity("TorchScript", eager, _answers(scripted, golden_images), bound),
        )
    with replacing(folder / WEIGHTS_FILE) as weights, replacing(folder / GOLDEN_FILE) as golden:
        save_file({name: tensor.contiguous() for name, tensor in served.model.state_dict().items()}, weights)
        with golden.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, images=golden_images, **eager)
    return parity


def answer(model: nn.Module, images: np.ndarray, batch: int = 500) -> dict[str, np.ndarray]:
    """What a trained module answers in eager torch for uint8 (n, height, width, 3), `batch` at a time: OUTPUTS, float32."""
    served = Served(model).cpu().eval()
    parts = [_answers(served, images[start : start + batch]) for start in range(0, max(len(images), 1), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in OUTPUTS}


def _answers(model: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a served module, eager or scripted, answers for uint8 (n, height, width, 3): OUTPUTS by name, float32."""
    with torch.inference_mode():
        found = model(torch.from_numpy(images))
    return {name: tensor.float().numpy() for name, tensor in zip(OUTPUTS, found, strict=True)}


def _write_graphs(served: nn.Module, images: np.ndarray, onnx: Path, torchscript: Path) -> nn.Module:
    """Write both graphs, batch size free, and read TorchScript back. Deprecated exporters; the successor needs onnxscript."""
    example = torch.from_numpy(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            served,
            (example,),
            onnx,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in ("images", *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
        buffer = io.BytesIO()  # a path would put its temporary name into the archive
        torch.jit.save(torch.jit.trace(served, (example,), check_trace=False), buffer)
        torchscript.write_bytes(buffer.getvalue())
        return torch.jit.load(torchscript)


def _onnx_answers(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))


def _parity(name: str, eager: dict[str, np.ndarray], exported: dict[str, np.ndarray], bound: float) -> float:
    expected, found = eager["probabilities"], exported["probabilities"]
    worst = float(np.abs(expected - found).max())
    other = int((expected.argmax(axis=1) != found.argmax(axis=1)).sum())
    if not worst <= bound or other:
        problem = f"{name} differs from eager torch by {worst:.2g} in a probability, and in {other} of {len(found)} classes"
        raise ExportError(problem, f"Nothing was exported; at most {bound:.2g} and no other class is allowed")
    return worst
