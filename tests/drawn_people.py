"""The drawn sample of the use case `person`, made once a run."""

import importlib
import time
from pathlib import Path

import pytest

from once import once
from openmlops.files import write_text


def drawn(factory: pytest.TempPathFactory) -> Path:
    """The whole sample, drawn once a run; `cpu-seconds` beside it says how long that took. Do not write into it."""
    return once(factory, "person", _draw) / "sample"


def _draw(folder: Path) -> None:
    started = time.process_time()
    importlib.import_module("openmlops.usecases.person.sample").sample(folder / "sample")
    write_text(folder / "cpu-seconds", str(time.process_time() - started))
