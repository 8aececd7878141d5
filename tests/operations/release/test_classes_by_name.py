"""Versions are compared by the names of their classes, which are sealed with them: order, number and meaning may change."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import toy_promotion as toy
from openmlops.adapters.registry import DATASET_TAG
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.detection.task import DETECTION
from openmlops.core.images.boxes import objects
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.release import promotion
from openmlops.operations.release.class_changes import tell_class_changes, told
from openmlops.operations.release.model_card import DESCRIPTION_FILE
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

NAMES = tuple(map(str, range(toy.CLASSES)))
CHAMPION, CHALLENGER = 5, 2
"""pixels that hold what the two answer: right for 80 and for 76 % of the images"""


class World:
    """A home whose data set has the classes `names`, and whose versions have classes of their own."""

    def __init__(self, home: Path, names: tuple[str, ...]) -> None:
        self.workspace: Workspace = toy.workspace(home)
        toy.write_data(self.workspace.data_folder)
        stored = toy.read(self.workspace.data_folder)
        self.splits, self.names = toy.splits(self.workspace), names
        number = {name: index for index, name in enumerate(names)}
        known = [int(label) for label in range(toy.CLASSES) if str(label) in number]
        rows = np.flatnonzero(np.isin(stored.labels, known))
        self.rows = Rows(
            stored.images[rows],
            np.array([number[str(label)] for label in stored.labels[rows]]),
            names,
            np.ones(len(rows), bool),
        )

    def register(self, pixel: int, classes: tuple[str, ...] = NAMES) -> int:
        """A version that answers what the pixel says. The file's output i means classes[i]."""
        folder = self.workspace.home / "exports" / f"{pixel}-{len(classes)}-{classes[0]}"
        folder.mkdir(parents=True)
        toy.write_model(folder / "model.onnx", pixel)
        described = toy.described().model_copy(update={"classes": classes})
        (folder / DESCRIPTION_FILE).write_text(described.model_dump_json())
        Manifest.of(folder).write(folder / MANIFEST)
        run = self.workspace.tracking.start("toy", {}, {})
        self.workspace.tracking.log_metrics(run, {"test_accuracy": 0.5}, datetime.now(UTC))
        return self.workspace.registry.register(toy.NAME, run, folder, {DATASET_TAG: "d" * 64}).version

    def decide(self, version: int):
        return promotion.decide(self.workspace, self.workspace.registry.version(toy.NAME, version), self.splits)


@pytest.fixture
def world_of(tmp_path, monkeypatch):
    def made(names: tuple[str, ...]) -> World:
        world = World(tmp_path / "home", names)
        monkeypatch.setattr("openmlops.operations.release.evaluation_sets.rows_of", lambda *_: world.rows)
        monkeypatch.setattr(
            "openmlops.operations.release.evaluation_sets.indices_of", lambda *_: {"test": np.arange(len(world.rows.labels))}
        )
        monkeypatch.setattr("openmlops.operations.release.gate.held_out", lambda *_: None)
        return world

    return made


def test_another_order_of_the_classes_changes_no_score(world_of):
    """Compared by index, the champion seemed right for 10 % of the images, and the worse challenger was promoted."""
    world = world_of(NAMES[::-1])
    champion = world.register(CHAMPION)
    assert world.decide(champion).kind == "promote"
    entry = world.decide(world.register(CHALLENGER))
    assert (entry.kind, entry.champion) == ("reject", champion)
    (compared,) = entry.verdict.comparisons
    assert (compared.challenger_score, compared.opponent_score) == (0.76, 0.80)


def test_a_new_class_is_judged_apart(world_of):
    """The champion has never seen class 9: it is compared on the other nine, and the gain on the tenth is told."""
    world = world_of(NAMES)
    champion = world.register(CHAMPION, (*NAMES[:9], "gone"))
    assert world.decide(champion).kind == "promote"
    entry = world.decide(world.register(CHALLENGER))
    common, apart = entry.verdict.comparisons
    of_new = int((world.rows.labels == 9).sum())
    assert (common.n, apart.n, apart.name) == (len(world.rows.labels) - of_new, of_new, "new classes")
    assert common.opponent_score > 0.78
    assert apart.opponent_score == 0 < apart.challenger_score
    assert entry.kind == "reject"  # a new class does not make up for what is lost on the others
    assert f"Version {champion} does not know '9': new classes are judged apart." in entry.reasons
    assert f"The data no longer has 'gone' of version {champion}: nothing is judged on it." in entry.reasons


def test_a_version_that_knows_a_new_class_and_loses_nothing_is_promoted(world_of):
    world = world_of(NAMES)
    first = world.register(CHALLENGER, (*NAMES[:9], "gone"))
    world.decide(first)
    entry = world.decide(world.register(CHAMPION))
    assert entry.kind == "promote"
    assert "new classes" in entry.reasons[0]


def test_a_removed_class_is_right_for_no_image(world_of):
    """What a former class took away from the others counts as wrong, as it would be answered."""
    world = world_of(NAMES[:9])
    champion = world.register(CHAMPION)
    world.decide(champion)
    entry = world.decide(world.register(CHALLENGER))
    (compared,) = entry.verdict.comparisons
    assert compared.n == len(world.rows.labels)
    assert abs(compared.opponent_score - 0.80) < 0.03
    assert f"The data no longer has '9' of version {champion}: nothing is judged on it." in entry.reasons


def test_a_champion_of_other_classes_altogether_is_compared_with_nobody(world_of, capsys):
    world = world_of(NAMES)
    champion = world.register(CHAMPION, tuple("abcdefghij"))
    tell_class_changes(world.workspace, world.names)
    assert capsys.readouterr().err == ""  # no champion yet
    promotion.promote(world.workspace, f"{toy.NAME}/{champion}", "the first", world.splits, force=True)
    capsys.readouterr()
    tell_class_changes(world.workspace, world.names)
    assert f"version {champion}, the champion, knows no class of the data" in capsys.readouterr().err
    entry = world.decide(world.register(CHALLENGER))
    assert (entry.kind, entry.champion) == ("inconclusive", champion)
    assert "knows no class of the test images" in entry.reasons[0]


def test_a_training_is_told_of_another_order_before_it_begins(world_of, capsys):
    world = world_of(NAMES)
    world.decide(world.register(CHAMPION))
    capsys.readouterr()
    tell_class_changes(world.workspace, NAMES)
    assert capsys.readouterr().err == ""
    tell_class_changes(world.workspace, NAMES[::-1])
    assert "the classes have another order than in version 1" in capsys.readouterr().err


def test_kept_answers_of_an_earlier_release_are_not_taken_for_others(world_of):
    """They did not say which classes they were in terms of."""
    world = world_of(NAMES[::-1])
    champion = world.register(CHAMPION)
    world.decide(champion)
    (kept,) = (world.workspace.home / "answers").iterdir()
    with np.load(kept) as archive:
        old = {name: archive[name] for name in ("lengths", "content")}
    np.savez(kept, **old)
    (compared,) = world.decide(world.register(CHALLENGER)).verdict.comparisons
    assert compared.opponent_score == 0.80
    shutil.rmtree(world.workspace.home / "answers")


def test_boxes_are_mapped_by_name():
    boxes = objects([np.array([[0, 0, 9, 9, 0.9, 0], [1, 1, 8, 8, 0.8, 1]], np.float32), np.zeros((0, 6), np.float32)])
    cat_is_second = DETECTION.in_classes(boxes, ("cat", "dog"), ("dog", "cat"))
    assert cat_is_second[0][:, 5].tolist() == [1, 0]
    assert (cat_is_second[0][:, :5] == boxes[0][:, :5]).all()
    only_dogs = DETECTION.in_classes(boxes, ("cat", "dog"), ("dog",))
    assert [len(each) for each in only_dogs] == [1, 0]
    truths = objects([np.array([[0, 0, 9, 9, 1], [0, 0, 5, 5, 0]], np.float32), np.zeros((0, 5), np.float32)])
    rows, labels = DETECTION.of_classes(truths, [1])
    assert rows.tolist() == [0, 1]
    assert labels[0].tolist() == [[0, 0, 9, 9, 1]]


def test_probabilities_are_mapped_by_name():
    found = CLASSIFICATION.in_classes(np.array([[0.1, 0.2, 0.7]], np.float32), ("a", "é", "gone"), ("e\u0301", "new", "a"))
    np.testing.assert_allclose(found, [[0.2, 0, 0.1, 0.7]])
    assert told(1, ("a",), ("a", "b")) == ("Version 1 does not know 'b': new classes are judged apart.",)
