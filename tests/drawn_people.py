"""The drawn sample of the use case `person`, made once a run."""

import importlib
from pathlib import Path

import pytest

from once import once


def drawn(factory: pytest.TempPathFactory) -> Path:
    """The whole sample, drawn once a run; do not write into it."""
    return once(factory, "person", _draw) / "sample"


def _draw(folder: Path) -> None:
    importlib.import_module("openmlops.usecases.person.sample").sample(folder / "sample")
