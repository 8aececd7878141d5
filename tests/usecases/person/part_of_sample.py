"""The drawn sample, and a part of it as a data set of its own."""

import importlib
import shutil
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


def part_of(sample: Path, out: Path, counts: dict[str, int], start: int = 0) -> Path:
    """So many images of each split of the sample, from the image `start` on."""
    for split, count in counts.items():
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            (out / kind / split).mkdir(parents=True)
            for number in range(start, start + count):
                name = f"{kind}/{split}/{number:05d}.{suffix}"
                shutil.copyfile(sample / name, out / name)
    shutil.copyfile(sample / "data.yaml", out / "data.yaml")
    return out
