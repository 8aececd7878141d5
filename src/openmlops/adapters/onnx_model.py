"""CPU inference of an exported model with ONNX Runtime, shared by the gate, the drift reference and the server.

What is here: a file, raw uint8 images in, named outputs out. What is not: torch, use cases, image decoding, and batching
across requests.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from openmlops.errors import DataError, ModelCorrupt

INPUT = "images"

_BROKEN = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoSuchFile,
    failures.NotImplemented,
    failures.RuntimeException,
)


class OnnxModel:
    """An ONNX model with the input `images`, uint8 (n, height, width, 3), and the given outputs, float32 (n, ...).

    `threads` limits the cores used by one call; None is ONNX Runtime's default. `resize` is what the version's preprocessing
    records: how images become its input. Thread-safe.
    """

    def __init__(self, path: Path, outputs: tuple[str, ...], threads: int | None = None, resize: str = "default") -> None:
        """Raises ModelCorrupt if `path` is missing, corrupt, or not a model with this interface."""
        self.resize = resize
        self._session = _open(path, threads)
        self._outputs = outputs
        problem = _contract(self._session, outputs)
        if problem:
            raise ModelCorrupt(f"{path} {problem}", "Export it again with `openmlops train`")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the input images."""
        height, width, channels = self._session.get_inputs()[0].shape[1:]
        return height, width, channels

    def run(self, images: np.ndarray, batch: int = 250) -> dict[str, np.ndarray]:
        """uint8 (n, height, width, 3), `batch` at a time -> the outputs by name, n rows each. Raises DataError."""
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            expected = f"uint8 (n, {', '.join(map(str, self.image_shape))})"
            raise DataError(f"The model received {images.dtype} {images.shape}", f"Pass images as {expected}")
        parts = [self._run(images[start : start + batch]) for start in range(0, max(len(images), 1), batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._session.run(list(self._outputs), {INPUT: np.ascontiguousarray(images)})
        return dict(zip(self._outputs, outputs, strict=True))


def _open(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a third faster on shared cores
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _BROKEN as error:
        cause = str(error).splitlines()[0]
        raise ModelCorrupt(f"{path} cannot be opened by ONNX Runtime ({cause})", "Restore it or export it again") from error


def _contract(session: onnxruntime.InferenceSession, outputs: tuple[str, ...]) -> str:
    inputs = [(found.name, found.type) for found in session.get_inputs()]
    if inputs != [(INPUT, "tensor(uint8)")]:
        return f"takes {inputs} instead of one uint8 tensor '{INPUT}'"
    missing = set(outputs) - {found.name for found in session.get_outputs()}
    return f"has no output {', '.join(sorted(missing))}" if missing else ""
