"""What tests make once a run and share, whichever of the run's processes needs it first."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` of this run, which `make` fills where no other process has; do not write into it."""
    folder, made = shared(factory) / name, shared(factory) / f"{name}.made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


def shared(factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of this run share."""
    run = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()
    folder = run / "once"
    folder.mkdir(exist_ok=True)
    return folder
