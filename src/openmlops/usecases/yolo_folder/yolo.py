"""The parts of ultralytics (AGPL-3.0) that training uses, imported without side effects on the process.

Importing ultralytics sets OMP_NUM_THREADS, OpenCV's threads and print options, replaces `torch.save` and `PIL.Image.open`,
writes settings into the home folder, and may send events. This module undoes all of that, redirects the settings to a folder
that is deleted at exit, and keeps ultralytics offline. What is not here: anything that the server imports.
"""

import atexit
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

_WISHES = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
}
"""Options that ultralytics reads only from the environment."""


@contextmanager
def _import_leaves_no_trace() -> Iterator[None]:
    before, threads, options = dict(os.environ), cv2.getNumThreads(), np.get_printoptions()
    save, open_image = torch.save, Image.open
    for name, value in _WISHES.items():
        os.environ.setdefault(name, value)
    if "YOLO_CONFIG_DIR" not in os.environ:
        os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="openmlops-yolo-")
        atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        _restore_environment(before)
        cv2.setNumThreads(threads)
        np.set_printoptions(**options)
        torch.set_printoptions(profile="default")
        torch.save, Image.open = save, open_image


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


with _import_leaves_no_trace():
    import ultralytics
    from ultralytics.data.augment import Albumentations, Compose
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
    from ultralytics.nn.modules import SPPF, Detect
    from ultralytics.nn.tasks import DetectionModel, torch_safe_load
    from ultralytics.utils import LOGGER, ROOT, YAML
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.tal import make_anchors

VERSION: str = ultralytics.__version__

__all__ = [
    "ROOT",
    "SPPF",
    "VERSION",
    "YAML",
    "Albumentations",
    "Compose",
    "Detect",
    "DetectionModel",
    "DetectionTrainer",
    "DetectionValidator",
    "YOLODataset",
    "contained",
    "load_safely",
    "make_anchors",
    "non_max_suppression",
    "quiet",
]


def load_safely(path: Path) -> Any:
    """The module in an ultralytics checkpoint, loaded without running code from the file; None if there is none. Raises
    whatever ultralytics raises for other files."""
    with quiet():
        found, _ = torch_safe_load(path, safe_only=True)
    return found.get("ema") or found.get("model")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress ultralytics' log lines and progress bars inside the block."""
    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


@contextmanager
def contained() -> Iterator[None]:
    """Restore after the block what an ultralytics training changes in the process: environment, random states, OpenCV's
    threads, torch's global switches."""
    environment, threads = dict(os.environ), cv2.getNumThreads()
    python, numpy_state = random.getstate(), np.random.get_state()
    cudnn, fill = torch.backends.cudnn.deterministic, torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cv2.setNumThreads(0)  # images are small: starting threads costs more than they save
    try:
        with quiet():
            yield
    finally:
        _restore_environment(environment)
        cv2.setNumThreads(threads)
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.backends.cudnn.deterministic = cudnn
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
