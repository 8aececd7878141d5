"""What `init` takes, every later step takes: classes as people call them, in a folder as people call it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shapes import NAMES as SHAPES
from shapes import picture
from user_folder import Folder

pytestmark = pytest.mark.slow

CLASSES = (
    *("A", "A+", "C++ & C#", "100% 'pure' \"x\"", "{braces} [red]", "éclair 日本 🐱", "a,b;c:d|e", "<b>x", "$HOME `id`"),
    *("👨\u200d👩\u200d👧", "caf\u00e9", "新しい\u3000フォルダ", "train", "é" * 60, "1", "007"),
)
EACH = 6


def test_a_project_of_odd_classes_is_trained_promoted_evaluated_and_monitored(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "déjà vu #1 {y} 50%20 👩\u200d🚀")
    draw = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder.path / "own" / name).mkdir(parents=True)
        for image in range(EACH):
            pixels = picture(SHAPES[number % len(SHAPES)], draw)
            Image.fromarray(pixels).save(folder.path / "own" / name / f"{image}.png")
    assert set(folder.json("init", "odds", "--kind", "classification", "--data", "own")["classes"]) == set(CLASSES)
    project = folder.below("odds")
    trained = project.json("train", "--epochs", "1")
    assert {row["name"] for row in trained["evaluation"]["classes"]} == set(CLASSES)
    if trained["champion"]["version"] is None:
        assert project.json("promote", "odds/1", "--force", "--reason", "it is odd")["champion"] == 1
    assert project.json("evaluate", "odds@champion")["accuracy"] == trained["evaluation"]["accuracy"]
    written = json.loads((project.path / "artifacts" / "evaluation.json").read_text())
    assert {row["name"] for row in written["classes"]} == set(CLASSES)
    assert project.json("monitor", "--source", "test-set")["decision"]["id"]
