"""The rival in `benchmarks/serving.py`: LitServe with batching, PNG bodies, the same ONNX file; no log.

python benchmarks/serving_litserve.py MODEL.onnx PORT
"""

import sys
from pathlib import Path
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.images.decoding import decode_image


class Classifier(litserve.LitAPI):
    """Decode, stack, run, take apart."""

    def setup(self, device: str) -> None:
        self.model = OnnxModel(Path(sys.argv[1]), CLASSIFICATION.outputs, threads=1)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/png")]) -> np.ndarray:
        return decode_image(request, 32, 32)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.model.run(images)["probabilities"]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, object]:
        return {"label": int(output.argmax()), "probabilities": output.tolist()}


if __name__ == "__main__":
    api = Classifier(max_batch_size=64, batch_timeout=0.001)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False
    )
