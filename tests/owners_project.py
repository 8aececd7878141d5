"""A project as its owner has it: made with `init`, its stack registered, its first version trained and in production."""

import shutil
from pathlib import Path

import pytest

from once import once
from shapes import folders
from user_folder import Folder

NAME = "forms"


def owners_folder(made_once: pytest.TempPathFactory, place: Path) -> Folder:
    """A folder with a copy of the project, and its owner; the project is made once a run."""
    shutil.copytree(once(made_once, "project", _make), place, symlinks=True)
    return Folder(place)


def _make(place: Path) -> None:
    folder = Folder(place)
    folders(place / "own", 40)
    folder.json("init", NAME, "--kind", "classification", "--data", "own")
    project = folder.below(NAME)
    project.json("stack", "register")
    assert project.json("train", "--epochs", "1")["champion"]["version"] == 1
