"""One checkpoint a training: written whole, resumed only by the very same training, held by one process at a time.

The same training is the same key: data, configuration, code, and what it computes with. A process that is killed leaves
its checkpoint and loses its lock with its life; a second process that asks for a training under way is refused.
What is not here: when to save, and what the state is made of (`loop`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock, Timeout

from openmlops.errors import TrainingError
from openmlops.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """The file `path` and the `key` that must stand in it."""

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors and plain values; when this returns they survive a kill."""
        with replacing(self.path) as beside:
            torch.save({"key": self.key, "state": state}, beside)

    def load(self) -> dict[str, Any] | None:
        """The state that was saved, or None if there is none. Loads no code. Raises TrainingError for an unreadable file."""
        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, UnpicklingError, EOFError, ValueError) as error:
            problem = f"The checkpoint {self.path} cannot be read ({type(error).__name__})"
            raise TrainingError(problem, "Delete it: the training then starts from the beginning") from error
        return saved["state"] if saved["key"] == self.key else None

    def remove(self) -> None:
        """Forget the training."""
        self.path.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: Path, key: str) -> Iterator[Checkpoint]:
    """The checkpoint of the training `key` in `folder`, for this process alone. A training that fails (TrainingError)
    removes it, so that what could not end well is not resumed; any other end leaves it. Raises TrainingError if it is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    checkpoint = Checkpoint(folder / f"{name}.pt", key)
    try:
        lock = FileLock(folder / f"{name}.lock", timeout=0).acquire()
    except Timeout as error:
        problem = f"Another process runs this very training (lock {folder / name}.lock)"
        raise TrainingError(problem, "Wait for it, end it, or train with another seed") from error
    with lock:
        try:
            yield checkpoint
        except TrainingError:
            checkpoint.remove()
            raise
