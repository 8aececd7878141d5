"""One checkpoint per training: written atomically, resumed only by the same training, locked by one process at a time.

A training is identified by its key: data, configuration, code, and device. A killed process leaves its checkpoint, and its
lock is released with it; a second process that starts the same training meanwhile is rejected.
What is not here: when to save, and the content of the state (`loop`).
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock, Timeout

from openmlops.errors import TrainingError
from openmlops.files import write_bytes


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint file `path`, valid only if it carries `key`."""

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors and plain values durably: once this returns they survive a kill."""
        content = io.BytesIO()  # torch aborts the process if it cannot write to a file
        torch.save({"key": self.key, "state": state}, content)
        write_bytes(self.path, content.getvalue())

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None if there is none. Runs no code from the file. Raises TrainingError if it is unreadable."""
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError, ValueError) as error:
            problem = f"The checkpoint {self.path} cannot be read ({type(error).__name__})"
            raise TrainingError(problem, "Delete it to restart the training from the beginning") from error
        return saved["state"] if saved["key"] == self.key else None

    def remove(self) -> None:
        """Delete the checkpoint."""
        self.path.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path, key: str) -> Iterator[Checkpoint]:
    """Lock the checkpoint of the training `key` in `folder` for this process. Raises TrainingError if another holds it.

    A failed training (TrainingError) deletes it, so that it is not resumed; any other exit keeps it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    checkpoint = Checkpoint(folder / f"{name}.pt", key)
    try:
        lock = FileLock(folder / f"{name}.lock", timeout=0).acquire()
    except Timeout as error:
        problem = f"Another process is running this training (lock {folder / name}.lock)"
        raise TrainingError(problem, "Wait for it, stop it, or train with another seed") from error
    with lock:
        try:
            yield checkpoint
        except TrainingError:
            checkpoint.remove()
            raise
