"""An exported ONNX file as MLflow's ONNX flavour, so that `mlflow.pyfunc.load_model` and MLflow's own tools can use it.

What is not here: its registration (registry.py) and our own files next to it (operations/release/exporting.py).
"""

import logging
from importlib.metadata import version
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from openmlops.adapters.onnx_model import INPUT
from openmlops.files import copy_file, sha256_of

REQUIREMENTS = ("mlflow", "numpy", "onnx", "onnxruntime")
MODEL_FILE = "model.onnx"


def write_mlflow_model(onnx_file: Path, outputs: tuple[str, ...], folder: Path) -> None:
    """Write an MLflow model of `onnx_file` into `folder`, which must be empty or not exist; equal files give equal bytes."""
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # it warns where uv made an environment without pip
    proto = onnx.load(onnx_file)
    identity = Model(model_uuid=sha256_of(onnx_file)[:32], utc_time_created="see the registry's version")
    mlflow.onnx.save_model(
        proto,
        folder,
        mlflow_model=identity,
        signature=_signature(proto, outputs),
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    copy_file(onnx_file, folder / MODEL_FILE)


def _signature(proto: onnx.ModelProto, outputs: tuple[str, ...]) -> ModelSignature:
    """Raw pixels in, `outputs` out; the first dimension of each is dynamic."""
    given = {found.name: found for found in proto.graph.output}
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), _shape(proto.graph.input[0]), INPUT)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), _shape(given[name]), name) for name in outputs]),
    )


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return (-1, *(dimension.dim_value for dimension in value.type.tensor_type.shape.dim[1:]))
