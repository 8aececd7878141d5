"""The drawn sample: the same pixels everywhere, boxes that are the extent of what is seen, and a field of other scenes."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest

from openmlops.core.validation import content_hashes
from openmlops.usecases.base import Rows
from openmlops.usecases.drawing import Draw
from openmlops.usecases.person import scenes
from openmlops.usecases.person.figures import figure
from openmlops.usecases.person.sprites import Sprite
from openmlops.usecases.yolo_folder import data

module = importlib.import_module("openmlops.usecases.person.sample")  # the package may export a function of that name


@pytest.fixture(scope="module")
def rows(person_sample: Path) -> Rows:
    return data.read(person_sample)


PIXELS = "b67c3e08e23d6cfecddaddf946a1e49fa4196e116b12570c92dc610276f3f3c1"


def test_the_sample_has_the_same_pixels_and_labels_everywhere(person_sample: Path, rows: Rows) -> None:
    digest = hashlib.sha256(b"".join(content_hashes(rows.images)))
    for name in sorted(path.relative_to(person_sample) for path in person_sample.rglob("*.txt")):
        digest.update((person_sample / name).read_bytes())
    assert digest.hexdigest() == PIXELS


def test_the_sample_is_clean_and_as_large_as_it_says(person_sample: Path, rows: Rows) -> None:
    assert data.check(person_sample)[0] == ()
    assert rows.validation is not None
    assert (len(rows.images), rows.validation.sum(), rows.test.sum()) == (720, 200, 200)
    assert rows.names == ("person",)


def test_scenes_are_varied(rows: Rows) -> None:
    people = np.bincount([len(boxes) for boxes in rows.labels]) / len(rows.labels)
    assert 0.04 < people[0] < 0.12
    assert people[1:4].min() > 0.1
    assert {image.shape[:2] for image in rows.images} == set(scenes.SIZES)
    assert all(height != width for height, width in scenes.SIZES)
    assert np.ptp([image.mean() for image in rows.images]) > 80


def test_the_field_sends_scenes_that_are_neither_in_the_sample_nor_in_another_part(rows: Rows) -> None:
    known = set(content_hashes(rows.images))
    for part in range(module.FIELD_PARTS):
        images, labels = module.field(60, part)
        sent = set(content_hashes(images))
        assert len(sent) == 60
        assert not known & sent
        known |= sent
        assert {boxes.dtype for boxes in labels} == {np.dtype(np.float32)}
        assert {boxes.shape[1] for boxes in labels} == {5}


def test_the_first_scenes_of_the_field_do_not_depend_on_how_many_are_asked_for() -> None:
    few, many = module.field(5, 1), module.field(20, 1)
    assert content_hashes(few[0]) == content_hashes(many[0])[:5]
    assert all(np.array_equal(one, other) for one, other in zip(few[1], many[1], strict=False))


# ---------------------------------------------------------------- boxes


def block(height: int, width: int) -> Sprite:
    sprite = Sprite(height, width)
    sprite.box((0, 0), (width, height), (200, 30, 30))
    return sprite


def boxes_of(things: list[scenes._Thing], height: int = 100, width: int = 100) -> list[tuple[int, int, int, int]]:
    owners = scenes._owners(things, height, width)
    return [scenes._box(owners == number) for number, thing in enumerate(things) if thing.person]


def test_a_box_is_the_extent_of_the_pixels_that_show_the_person() -> None:
    assert boxes_of([scenes._Thing(block(40, 20), 10, 30, True)]) == [(15, 5, 25, 25)]


def test_a_pixel_belongs_to_whom_at_least_half_of_it_shows() -> None:
    assert boxes_of([scenes._Thing(block(41, 21), 9, 29, True)]) == [(14, 4, 25, 25)]
    assert boxes_of([scenes._Thing(block(40, 20), 10, 30, True), scenes._Thing(block(40, 3), 10, 30, False)]) == [
        (16, 5, 25, 25)
    ]


def test_a_box_ends_where_somebody_else_begins_and_at_the_border() -> None:
    behind, before = scenes._Thing(block(40, 40), 10, 80, True), scenes._Thing(block(60, 10), 0, 90, False)
    assert boxes_of([behind, before]) == [(40, 5, 45, 25)]
    assert boxes_of([behind]) == [(40, 5, 50, 25)]


@pytest.mark.parametrize(("hidden", "left"), [(0, 1), (68, 1), (72, 0), (100, 0)])
def test_whom_less_than_30_percent_is_seen_of_is_left_out(hidden: int, left: int) -> None:
    person, wall = scenes._Thing(block(100, 20), 0, 40, True), scenes._Thing(block(hidden, 20), 0, 40, False)
    assert sum(thing.person for thing in scenes._seen([person, wall], 100, 100)) == left


def test_every_box_of_a_scene_lies_inside_it_and_holds_somebody() -> None:
    draw = Draw(5)
    for _ in range(100):
        image, boxes = scenes.scene(draw)
        height, width = image.shape[:2]
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (width, height)).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 5).all()


def test_a_figure_stands_on_the_ground_with_its_head_on_top() -> None:
    for seed in range(50):
        parts = figure(Draw(seed), 160).parts > 0
        rows, columns = np.flatnonzero(parts.any(axis=1)), np.flatnonzero(parts.any(axis=0))
        assert rows[0] <= 12
        assert len(parts) - rows[-1] <= 8
        assert columns[0] > 0, "an arm is cut off"
        assert columns[-1] < parts.shape[1] - 1, "an arm is cut off"


def test_shapes_that_leave_the_sprite_are_cut_off() -> None:
    sprite = Sprite(20, 20)
    sprite.disc((0, 0), 8, 8, (9, 9, 9))
    sprite.limb((15, -30), (15, 50), 2, (9, 9, 9))
    sprite.polygon([(-9, 15), (40, 15), (40, 40), (-9, 40)], (9, 9, 9))
    sprite.box((-5, -5), (-1, -1), (9, 9, 9))
    assert sprite.parts[0, 8]
    assert sprite.parts[10, 13:18].all()
    assert not sprite.parts[10, :13].any()
    assert sprite.parts[15:].all()
