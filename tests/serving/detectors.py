"""Detector versions for the tests of the server: a tiny ONNX detector that finds what is bright, sealed and in the ledger.

Made as `versions` makes classifiers, and served under the same name, so that the one can be offered where the other serves.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from servers import Server, running
from versions import World, seal

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.detection.task import DETECTION

NAMES = ("person",)
SIDE, LARGER = 64, 96
CELL = 16
"""pixels of the canvas: each cell is a candidate, a box around it"""


def write_onnx(path: Path, seed: int, side: int = SIDE) -> None:
    """A cell's score rises with its brightness: white 0.98, grey of 150 0.18 (less sure than is shown), black nearly 0.

    Another seed makes other boxes and another embedding.
    """
    corners = np.stack(np.meshgrid(np.arange(0, side, CELL), np.arange(0, side, CELL)), axis=-1).reshape(1, -1, 2)
    constants = {
        "cells": np.concatenate([corners, corners + CELL], axis=2).astype(np.float32),
        "grows": np.array([-1, -1, 1, 1], np.float32) * (1 + seed % 3),
        "middle": np.float32(180),
        "width": np.float32(20),
        "shift": np.full(3, seed, np.float32),
        "channels": np.array([1], np.int64),
        "pixels_of": np.array([1, 2], np.int64),
        "rows": np.array([0, -1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("ReduceMean", ["pooled", "channels"], ["grid"], keepdims=0),
        helper.make_node("Reshape", ["grid", "rows"], ["brightness"]),
        helper.make_node("Sub", ["brightness", "middle"], ["above"]),
        helper.make_node("Div", ["above", "width"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Mul", ["scores", "grows"], ["grown"]),
        helper.make_node("Add", ["cells", "grown"], ["boxes"]),
        helper.make_node("ReduceMean", ["pixels", "pixels_of"], ["colour"], keepdims=0),
        helper.make_node("Add", ["colour", "shift"], ["embedding"]),
    ]
    taken = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", side, side, 3])
    shapes = (["n", None, 4], ["n", None, 1], ["n", None])
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(DETECTION.outputs, shapes, strict=True)
    ]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", [taken], given, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def export(folder: Path, seed: int, side: int = SIDE) -> Path:
    """Everything a version consists of, not yet sealed."""
    folder.mkdir(parents=True)
    write_onnx(folder / "model.onnx", seed, side)
    golden = np.stack([sheets(seed + row, (side, side)) for row in range(4)])
    np.savez(folder / "golden.npz", images=golden, **OnnxModel(folder / "model.onnx", DETECTION.outputs, 1).run(golden))
    (folder / "model.json").write_text(json.dumps({"classes": NAMES}))
    return folder


def sheets(seed: int, size: tuple[int, int]) -> np.ndarray:
    """An image of `size` (height, width), dark with one to three bright sheets and one grey one."""
    draw = np.random.default_rng(seed)
    height, width = size
    image = draw.integers(0, 60, (height, width, 3), dtype=np.uint8)
    for value in (150, *draw.integers(200, 256, draw.integers(1, 4))):
        top, left = draw.integers(0, height // 2), draw.integers(0, width // 2)
        image[top : top + height // 2, left : left + width // 2] = value
    return image


class Detectors(World):
    """A world of detectors; version n takes images of `sides[n]`, else of SIDE. `add_classifier` puts another thing there."""

    def __init__(self, home: Path, sides: Mapping[int, int] | None = None) -> None:
        super().__init__(home)
        self.sides = dict(sides or {})

    def add(self, version: int, spoil: Callable[[Path], None] = lambda folder: None) -> str:
        """Make a detector that can be promoted; `spoil` changes its files before they are sealed."""
        folder = export(self.home / "exports" / str(version), version, self.sides.get(version, SIDE))
        spoil(folder)
        self.sha256[version] = seal(folder, self.home / "models")
        return self.sha256[version]

    def add_classifier(self, version: int) -> str:
        """Make a version of the other use case."""
        return super().add(version)


def served(world: World, **config: Any):
    """A server of detectors over `world` until the block ends."""
    return running(world, **{"use_case": "person", **config})


def ready(server: Server) -> dict[str, Any]:
    """What /health/ready answers."""
    found: dict[str, Any] = server.client.get("/health/ready").json()
    return found
