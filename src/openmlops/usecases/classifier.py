"""What the exported classifier answers, as values, and the columns that drift is looked for in. numpy only, no torch."""

from collections.abc import Mapping

import numpy as np

from openmlops.core.images import image_statistics
from openmlops.usecases.base import Outputs


def predict(onnx_outputs: Mapping[str, np.ndarray]) -> Outputs:
    """ONNX outputs by name -> outputs. Probabilities are the model's own: softmax is part of the exported graph."""
    return Outputs(
        logits=onnx_outputs["logits"],
        probabilities=onnx_outputs["probabilities"],
        embedding=onnx_outputs["embedding"],
    )


def features(images: np.ndarray, outputs: Outputs) -> dict[str, np.ndarray]:
    """uint8 (n, h, w, 3) and their outputs -> float32 (n,) columns.

    `image.brightness` and the other image statistics, `logprob.3` (natural logarithm, one a class), `embedding.07`.
    """
    statistics = {f"image.{name}": column for name, column in image_statistics(images).items()}
    return {**statistics, **_columns("logprob", _log_softmax(outputs.logits)), **_columns("embedding", outputs.embedding)}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """From the logits, because a probability that rounds to 0 has no logarithm."""
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _columns(name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    digits = len(str(rows.shape[1] - 1))
    return {f"{name}.{i:0{digits}d}": np.ascontiguousarray(rows[:, i], dtype=np.float32) for i in range(rows.shape[1])}
