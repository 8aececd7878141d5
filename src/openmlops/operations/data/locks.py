"""Locks between the processes of one home, for what must not be done twice at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from openmlops.errors import DataError
from openmlops.operations.workspace import Workspace

LOCK_SECONDS = 600
"""seconds that a process waits for the download or push of another one"""


@contextmanager
def locked(workspace: Workspace, name: str = "data.lock") -> Iterator[None]:
    """Hold a lock of the workspace. Raises DataError after LOCK_SECONDS."""
    workspace.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(workspace.home / name, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise DataError(f"Another process has held the data set for {LOCK_SECONDS} s", "Wait for it, or stop it") from error
