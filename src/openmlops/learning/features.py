"""Features of a frozen backbone, computed once for each image and kept by the content of its pixels.

On a CPU ONNX Runtime computes them, in a fifth of the time that torch takes; on a GPU torch. What is not here: what is learned
from them (linear_head.py).
"""

import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from openmlops.errors import TrainingError
from openmlops.files import replacing
from openmlops.images.lazy import Images, batches, sizes
from openmlops.learning.backbone import Backbone
from openmlops.learning.device import Compute
from openmlops.learning.export import OPSET
from openmlops.memory import give_back

BATCH_PIXELS = 2 * 224 * 224
"""pixels that are computed at a time: more take no less time, and 20 MB for each image of 224 pixels"""
CHUNK = 512
"""images whose features are written to one file"""

Engine = Callable[[np.ndarray], np.ndarray]
"""uint8 (n, height, width, 3) -> float32 (n, d)"""


@dataclass(frozen=True)
class FeatureStore:
    """Features in files of one folder, by a digest of the image's pixels. It is a copy: it may be deleted at any time."""

    folder: Path

    def read(self) -> dict[bytes, np.ndarray]:
        """Digest -> features float32 (d,). Damaged files are left out."""
        found: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with np.load(path) as stored:
                    found.update(zip(map(bytes, stored["digests"]), stored["features"], strict=True))
            except (OSError, ValueError, KeyError, EOFError):
                continue
        return found

    def write(self, digests: list[bytes], features: np.ndarray) -> None:
        """Keep features (n, d) of the images with these digests."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(b"".join(digests)).hexdigest()[:16]
        with replacing(self.folder / f"{name}.npz") as beside, beside.open("wb") as handle:
            np.savez(handle, digests=np.array([np.frombuffer(each, np.uint8) for each in digests]), features=features)


def engine(model: Backbone, compute: Compute) -> Engine:
    """What computes the features of `model`, which is in evaluation mode. Raises TrainingError if it cannot be exported."""
    return _torch(model, compute) if compute.device == "cuda" else _onnx(model, compute)


def engine_name(compute: Compute) -> str:
    """What the bits of the features depend on, beside the network and the images."""
    library = f"torch {torch.__version__}" if compute.device == "cuda" else f"onnxruntime {onnxruntime.__version__}"
    return f"{library} {compute.model_dump_json()}"


def features_of(images: Images, run: Engine, store: FeatureStore | None, on_image: Callable[[int, float], None]) -> np.ndarray:
    """Features float32 (n, d) of n >= 1 images of one size. `on_image` is called with the images done and the seconds since the
    start. Without a store nothing is kept. Raises TrainingError for features that are not finite."""
    known, made = {} if store is None else store.read(), dict[bytes, np.ndarray]()
    found: np.ndarray | None = None
    done, started, (height, width) = 0, time.perf_counter(), sizes(images)[0]
    parts = np.array_split(np.arange(len(images)), -(-len(images) // max(1, BATCH_PIXELS // (height * width))))
    for pixels in batches(images, parts):
        digests = [hashlib.blake2b(image.tobytes(), digest_size=32).digest() for image in pixels]
        new = [row for row, digest in enumerate(digests) if digest not in known and digest not in made]
        if new:
            computed = run(pixels[new])
            if not np.isfinite(computed).all():
                raise TrainingError("The backbone's features are NaN or infinite", "Use other weights (--weights)")
            made.update((digests[row], each) for row, each in zip(new, computed, strict=True))
        rows = [made[digest] if digest in made else known[digest] for digest in digests]
        found = np.empty((len(images), *rows[0].shape), np.float32) if found is None else found
        found[done : done + len(rows)] = rows
        done += len(rows)
        if store is not None and len(made) >= CHUNK:
            store.write(list(made), np.stack(list(made.values())))
            made = {}
        on_image(done, time.perf_counter() - started)
    if store is not None and made:
        store.write(list(made), np.stack(list(made.values())))
    assert found is not None
    return found


class _Features(nn.Module):
    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.features(images.permute(0, 3, 1, 2))


def _torch(model: Backbone, compute: Compute) -> Engine:
    network = _Features(model)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), compute.autocast():
            found: np.ndarray = network(torch.from_numpy(images).to(compute.device)).float().cpu().numpy()
            return found

    return run


def _onnx(model: Backbone, compute: Compute) -> Engine:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = compute.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory(prefix="backbone-") as folder:
        path = Path(folder) / "backbone.onnx"
        _export(model, path)
        give_back()  # what the export held
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(["features"], {"images": np.ascontiguousarray(images)})[0]
        return found

    return run


def _export(model: Backbone, path: Path) -> None:
    example = torch.zeros((2, *model.image_shape), dtype=torch.uint8)
    try:
        with warnings.catch_warnings(), torch.no_grad():  # else all layers' outputs are held
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Features(model).eval(),
                (example,),
                path,
                input_names=["images"],
                output_names=["features"],
                dynamic_axes={"images": {0: "n"}, "features": {0: "n"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        cause = str(error).splitlines()[0][:200]
        problem = f"The backbone '{model.name}' cannot be exported to ONNX, so it cannot be served ({cause})"
        raise TrainingError(problem, "Use another backbone") from error
