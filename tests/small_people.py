"""A workspace of the use case `person` with a few drawn scenes in it, and what a grid of it is run with in tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openmlops.core.images.decoding import png
from openmlops.core.types import LedgerEntry, ModelRef, SplitsRef
from openmlops.files import write_text
from openmlops.operations.data import datasets
from openmlops.operations.release import exporting, registration
from openmlops.operations.training.grid import GridRef, stage
from openmlops.operations.training.grid_report import Experiment, summarize_grid
from openmlops.operations.workspace import Workspace
from openmlops.usecases.drawing import Draw
from openmlops.usecases.person.sample import NAMES, labelled
from openmlops.usecases.person.scenes import scene
from openmlops.usecases.yolo_folder.layout import data_yaml, label_text
from small_loop import workspace

COUNTS = {"train": 24, "val": 8, "test": 8}


def draw_people(folder: Path, counts: dict[str, int] | None = None, seed: int = 7) -> Path:
    """A data set of so many scenes (`COUNTS`), the same for each seed."""
    draw = Draw(seed)
    for split, count in (counts or COUNTS).items():
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            image, boxes = scene(draw)
            (images / f"{number:05d}.png").write_bytes(png(image))
            (labels / f"{number:05d}.txt").write_text(label_text(labelled(boxes), image.shape[:2]))
    write_text(folder / "data.yaml", data_yaml(NAMES))
    return folder


def people_workspace(home: Path) -> Workspace:
    """Everything below `home`, the scenes added as its data version."""
    found = workspace(home, use_case="person")
    datasets.add(found, draw_people(home / "drawn" / "person"))
    return found


def splits_of(found: Workspace) -> SplitsRef:
    """The splits that the pipelines make by default."""
    return datasets.split(found, datasets.ingest(found), 0)


def environment(found: Workspace) -> dict[str, str]:
    """What lets another process open the same workspace, on one core."""
    s = found.settings
    return {
        "OPENMLOPS_HOME": str(s.openmlops_home),
        "DATA_RAW_DIR": str(s.data_raw_dir),
        "ARTIFACTS_DIR": str(s.artifacts_dir),
        "MONITORING_DIR": str(s.monitoring_dir),
        "USE_CASE": "person",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def inside(found: Workspace) -> Iterator[None]:
    """Processes that are started in the block work in this workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.home.parent)
        for name, value in environment(found).items():
            patch.setenv(name, value)
        yield


def conclude(found: Workspace, grid: GridRef) -> tuple[Experiment, ModelRef, LedgerEntry]:
    """What the pipeline does with the runs of a grid: the best becomes a version, the gate judges it, the table is written."""
    best = grid.best
    assert best.trained is not None
    assert best.test is not None
    exported = exporting.export(found, best.trained, best.test)
    model = registration.register(found, exported, best.trained, best.test)
    decision = stage(found, model, grid.splits)
    return summarize_grid(found, grid, model, decision), model, decision


def other_process(command: str, folder: Path) -> str:
    """A program that does what the shell `command` says, whatever it is asked: to be started in Python's place."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    return str(program)


def clean_environment() -> dict[str, str]:
    """This process's, without its ZenML."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ZENML_")}
