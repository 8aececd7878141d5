"""Model versions for the tests of the server: a tiny ONNX classifier, its golden batch, sealed and in the ledger.

The ledger and the verified cache are the real ones; that the server fetches what is not in the cache is `test_fetching.py`.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.types import LedgerEntry
from openmlops.files import MANIFEST, Manifest

MODEL = "pets"
OUTPUTS = CLASSIFICATION.outputs
CLASSES = tuple(f"class-{i}" for i in range(10))
SIDE = 32


def images(n: int, seed: int = 0) -> np.ndarray:
    """Random images, uint8 (n, 32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def write_onnx(
    path: Path, seed: int, side: int = SIDE, classes: int = len(CLASSES), outputs: tuple[str, ...] = OUTPUTS
) -> None:
    """Mean colour -> linear -> softmax; another seed answers otherwise."""
    rng = np.random.default_rng(seed)
    weights = {"w": rng.normal(size=(3, classes)) / 16, "b": rng.normal(size=classes)}
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    logits, probabilities, embedding = outputs
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], [embedding], keepdims=0),
        helper.make_node("Gemm", [embedding, "w", "b"], [logits]),
        helper.make_node("Softmax", [logits], [probabilities], axis=1),
    ]
    taken = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", side, side, 3])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in outputs]
    graph = helper.make_graph(nodes, "toy", [taken], given, [*constants, axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def export(folder: Path, seed: int = 0) -> Path:
    """Everything a version consists of, not yet sealed."""
    folder.mkdir(parents=True)
    write_onnx(folder / "model.onnx", seed)
    golden = images(8, seed)
    np.savez(folder / "golden.npz", images=golden, **OnnxModel(folder / "model.onnx", OUTPUTS, 1).run(golden))
    (folder / "model.json").write_text(json.dumps({"classes": CLASSES}))
    return folder


def seal(folder: Path, cache: Path) -> str:
    """Seal the folder and put it where the registry keeps its verified copies; the manifest's SHA-256."""
    manifest = Manifest.of(folder)
    manifest.write(folder / MANIFEST)
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / manifest.fingerprint).exists():
        os.replace(folder, cache / manifest.fingerprint)
    return manifest.fingerprint


def promote(url: str, version: int, sha256: str, kind: str = "promote") -> LedgerEntry:
    """Make a version champion."""
    ledger = Ledger(connect(url))
    head = ledger.head(MODEL)
    sequence = head.sequence if head else 0
    return ledger.append(MODEL, sequence, kind, version, "test", ("because",), "0" * 64, sha256, None, datetime.now(UTC))


class World:
    """One home folder with a database, and versions in it."""

    def __init__(self, home: Path, url: str = "") -> None:
        self.home = home
        self.url = url or f"sqlite:///{home / 'openmlops.db'}"
        self.sha256: dict[int, str] = {}

    def add(self, version: int, spoil: Callable[[Path], None] = lambda folder: None) -> str:
        """Make a version that can be promoted; `spoil` changes its files before they are sealed."""
        folder = export(self.home / "exports" / str(version), seed=version)
        spoil(folder)
        self.sha256[version] = seal(folder, self.home / "models")
        return self.sha256[version]

    def promote(self, version: int, kind: str = "promote") -> LedgerEntry:
        """Make a version champion, adding it if it is new."""
        return promote(self.url, version, self.sha256.get(version) or self.add(version), kind)

    def logged(self, *versions: int) -> dict[str, int]:
        """Version by id of everything in the log; an id that is there twice fails."""
        log = InferenceLog(connect(self.url))
        found: dict[str, int] = {}
        for version in versions:
            for name in log.window(MODEL, version, last=10**6).ids:
                assert name not in found
                found[name] = version
        return found

    def folder(self, version: int) -> Path:
        """The verified copy of a version."""
        return self.home / "models" / self.sha256[version]
