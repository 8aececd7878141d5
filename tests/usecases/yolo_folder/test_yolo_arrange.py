"""The layouts in which people and tools write YOLO's labels, arranged into the one that detectors are trained on."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.core.images.decoding import NAMES as FORMATS
from openmlops.core.images.decoding import png
from openmlops.core.types import Account
from openmlops.usecases.yolo_folder.arrange import arrange
from openmlops.usecases.yolo_folder.data import check, read
from openmlops.usecases.yolo_folder.labelled import labelled

NAMES = "names: [cat, dog]\n"


def image(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8))


def write(images: Path, labels: Path, count: int, first: int = 0) -> None:
    """So many images, each with a box of class 0 or 1."""
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (images / f"{number:03d}.png").write_bytes(image(number))
        (labels / f"{number:03d}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.3\n")


def _flat(place: Path) -> None:
    write(place / "images", place / "labels", 20)
    (place / "classes.txt").write_text("cat\ndog\n")


def _inside(place: Path) -> None:
    write(place / "images" / "train2017", place / "labels" / "train2017", 15)
    write(place / "images" / "val2017", place / "labels" / "val2017", 5, 15)
    (place / "pets.yaml").write_text("names: {0: cat, 1: dog}\n")


def _outside(place: Path) -> None:
    for split, count, first in (("train", 12, 0), ("valid", 5, 12), ("test", 3, 17)):
        write(place / split / "images", place / split / "labels", count, first)
    (place / "data.yaml").write_text(f"{NAMES}train: ../train/images\nval: ../valid/images\ntest: ../test/images\n")


def _ultralytics(place: Path) -> None:
    write(place / "images" / "train", place / "labels" / "train", 15)
    write(place / "images" / "holdout", place / "labels" / "holdout", 5, 15)
    (place / "data.yaml").write_text(f"{NAMES}path: {place}\ntrain: images/train\nval: images/holdout\n")


def _same_twice(place: Path) -> None:
    write(place / "images" / "train2017", place / "labels" / "train2017", 20)
    (place / "data.yaml").write_text(f"{NAMES}path: ../datasets/own\ntrain: images/train2017\nval: images/train2017\n")


@pytest.mark.parametrize(
    ("layout", "sizes"),
    [(_flat, (13, 3, 4)), (_inside, (12, 5, 3)), (_outside, (12, 5, 3)), (_ultralytics, (12, 5, 3)), (_same_twice, (13, 3, 4))],
)
def test_every_layout_becomes_the_same_one(tmp_path: Path, layout: Callable[[Path], None], sizes: tuple[int, int, int]) -> None:
    layout(tmp_path / "own")
    assert arrange(tmp_path / "own", tmp_path / "out").problems == ()
    problems, counts = check(tmp_path / "out")
    assert [problem for problem in problems if problem.blocking] == []
    assert counts == {"cat": 10, "dog": 10}
    rows = read(tmp_path / "out")
    assert rows.validation is not None
    assert (len(rows.labels) - rows.validation.sum() - rows.test.sum(), rows.validation.sum(), rows.test.sum()) == sizes
    assert all(len(boxes) == 1 for boxes in rows.labels)


def _orphan(place: Path) -> None:
    (place / "images" / "003.png").unlink()


def _no_labels(place: Path) -> None:
    for path in (place / "labels").iterdir():
        path.unlink()


def _no_names(place: Path) -> None:
    (place / "classes.txt").unlink()


def _broken(place: Path) -> None:
    (place / "images" / "003.png").write_bytes(b"no image")


def _few(place: Path) -> None:
    for number in range(9, 20):
        (place / "images" / f"{number:03d}.png").unlink()
        (place / "labels" / f"{number:03d}.txt").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_orphan, "labels/003.txt: label files have no image; add the images, or delete the files"),
        (_no_labels, "no image has a label file"),
        (_no_names, "there are no class names; write them as names into data.yaml"),
        (_few, "/images; at least 10 are required"),
    ],
)
def test_bad_data_is_named_with_its_remedy(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    _flat(tmp_path / "own")
    spoil(tmp_path / "own")
    found = [str(problem) for problem in arrange(tmp_path / "own", tmp_path / "out").problems]
    assert len(found) == 1
    assert said in found[0]


def _config_to_nothing(place: Path) -> None:
    (place / "data.yaml").symlink_to("nowhere")


def _train_to_nothing(place: Path) -> None:
    (place / "data.yaml").write_text("names: [cat, dog]\ntrain: {a: b}\n")


def _label_to_nothing(place: Path) -> None:
    for number in range(3, 9):
        (place / "labels" / f"{number:03d}.txt").unlink()
        (place / "labels" / f"{number:03d}.txt").symlink_to("nowhere")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_config_to_nothing, "data.yaml: the file is a link to nothing; restore what it leads to"),
        (_train_to_nothing, "data.yaml: train names {'a': 'b'}, which is not there; correct it"),
        (_label_to_nothing, "label files cannot be read; make them readable, or restore them: OWN/labels/003.txt"),
    ],
)
def test_the_file_at_fault_is_named(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    _flat(tmp_path / "own")
    spoil(tmp_path / "own")
    found = [str(problem) for problem in arrange(tmp_path / "own", tmp_path / "out").problems if problem.blocking]
    assert any(said.replace("OWN", str(tmp_path / "own")) in each for each in found), found


def test_a_label_whose_accents_are_composed_otherwise_is_that_of_its_image(tmp_path: Path) -> None:
    _flat(tmp_path / "own")
    (tmp_path / "own" / "images" / "003.png").rename(tmp_path / "own" / "images" / "cafe\u0301.png")
    _label(tmp_path / "own", "003").rename(tmp_path / "own" / "labels" / "caf\u00e9.txt")
    assert arrange(tmp_path / "own", tmp_path / "out").problems == ()
    (written,) = (tmp_path / "out").rglob("caf*.txt")
    assert written.read_text()


def test_folders_lists_and_images_whose_accents_are_composed_otherwise_are_found(tmp_path: Path) -> None:
    """An image of each spelling too: one disk takes them for the same."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    own = tmp_path / "own"
    write(own / f"images/{composed}", own / f"labels/{apart}", 20)
    for spelled, number in ((composed, "003"), (apart, "004")):
        (own / f"images/{composed}/{number}.png").rename(own / f"images/{composed}/{spelled}.png")
        (own / f"labels/{apart}/{number}.txt").rename(own / f"labels/{apart}/{spelled}.txt")
    listed = sorted(path.name for path in (own / f"images/{composed}").iterdir())
    (own / "train.txt").write_text("".join(f"images/{apart}/{name}\n" for name in listed))
    (own / "data.yaml").write_text(f"train: train.txt\nnames: [cat, {apart}]\n")
    found = arrange(own, tmp_path / "out")
    assert (found.problems, found.names) == ((), ("cat", composed))
    assert check(tmp_path / "out")[1] == {"cat": 10, composed: 10}

    (own / "data.yaml").write_text(f"train: train.txt\nnames: [{composed}, {apart}]\n")
    (wrong,) = arrange(own, tmp_path / "again").problems
    assert wrong.what == f"names has {composed!r} twice; write each name once"


def test_names_that_are_a_text_are_told(tmp_path: Path) -> None:
    write(tmp_path / "own" / "images", tmp_path / "own" / "labels", 20)
    (tmp_path / "own" / "data.yaml").write_text("names: cat, dog\n")
    (wrong,) = arrange(tmp_path / "own", tmp_path / "out").problems
    assert str(wrong).startswith(f"{tmp_path}/own/data.yaml: names is 'cat, dog', neither a list of class names nor a file")


def test_a_pipe_with_the_name_of_an_image_is_told_as_no_file(tmp_path: Path) -> None:
    _flat(tmp_path / "own")
    os.mkfifo(tmp_path / "own" / "images" / "pipe.png")
    (stops,) = [str(each) for each in arrange(tmp_path / "own", tmp_path / "out").problems if each.blocking]
    assert stops.startswith(f"{tmp_path}/own/images/pipe.png: entries are pipes, sockets or devices, which are not read")


def test_a_loop_of_links_is_no_crash(tmp_path: Path) -> None:
    _flat(tmp_path / "own")
    loop = tmp_path / "own" / "labels"
    shutil.rmtree(loop)
    loop.symlink_to(loop)
    found = [str(problem) for problem in arrange(tmp_path / "own", tmp_path / "out").problems if problem.blocking]
    assert any(str(loop) in each for each in found), found


def test_a_broken_image_is_told_by_the_name_that_the_user_knows(tmp_path: Path) -> None:
    _flat(tmp_path / "own")
    _broken(tmp_path / "own")
    found = arrange(tmp_path / "own", tmp_path / "out")
    (wrong,) = [problem for problem in found.problems if problem.blocking]
    assert str(wrong).startswith(f"{tmp_path}/own/images/003.png: The image is none of JPEG, PNG")
    assert not (tmp_path / "out").exists()


def _label(place: Path, name: str) -> Path:
    return place / "labels" / f"{name}.txt"


@pytest.mark.parametrize("suffix", [".TXT", ".Txt"])
def test_a_label_file_with_its_suffix_in_capitals_is_read(tmp_path: Path, suffix: str) -> None:
    _flat(tmp_path / "own")
    _label(tmp_path / "own", "003").rename(tmp_path / "own" / "labels" / f"003{suffix}")
    assert arrange(tmp_path / "own", tmp_path / "out").problems == ()
    (written,) = (tmp_path / "out").rglob("003.txt")
    assert written.read_bytes() == (tmp_path / "own" / "labels" / f"003{suffix}").read_bytes()


def _as_xml(place: Path) -> None:
    _label(place, "003").rename(place / "labels" / "003.xml")


def _link_to_nothing(place: Path) -> None:
    _label(place, "003").unlink()
    _label(place, "003").symlink_to("/nowhere/003.txt")


def _a_folder(place: Path) -> None:
    _label(place, "003").unlink()
    _label(place, "003").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_as_xml, "images/003.png: images have a label file"),
        (_link_to_nothing, "labels/003.txt: label files cannot be read"),
        (_a_folder, "labels/003.txt: label files cannot be read"),
    ],
)
def test_an_image_whose_label_cannot_be_read_is_never_background(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    _flat(tmp_path / "own")
    spoil(tmp_path / "own")
    (stops,) = [str(each) for each in arrange(tmp_path / "own", tmp_path / "out").problems if each.blocking]
    assert stops.startswith(f"{tmp_path}/own/{said}")
    found = arrange(tmp_path / "own", tmp_path / "out", skip=True)
    assert not any(each.blocking for each in found.problems)
    assert not list((tmp_path / "out").rglob("003.*"))


def test_an_image_without_a_label_file_is_background_and_told(tmp_path: Path) -> None:
    _flat(tmp_path / "own")
    _label(tmp_path / "own", "003").unlink()
    (note,) = arrange(tmp_path / "own", tmp_path / "out").problems
    assert "images have no label file and are used as background" in str(note)
    assert (note.blocking, note.unused) == (False, "")


def _dangling(image: Path) -> None:
    image.unlink()
    image.symlink_to("/nowhere/003.png")


def _heic(image: Path) -> None:
    image.rename(image.with_suffix(".avif"))


def _without_suffix(image: Path) -> None:
    image.rename(image.with_suffix(""))


@pytest.mark.parametrize("spoil", [_dangling, _heic, _without_suffix])
@pytest.mark.parametrize("is_ours", [False, True])
def test_an_image_that_is_not_read_is_counted_once_with_its_label(
    tmp_path: Path, spoil: Callable[[Path], None], is_ours: bool
) -> None:
    own = tmp_path / "own"
    write(own / "images", own / "labels", 20)
    (own / "classes.txt").write_text("cat\ndog\n")
    if is_ours:
        arrange(own, tmp_path / "out")
        own = tmp_path / "out"
    (own / "labels/train/lonely.txt" if is_ours else own / "labels/lonely.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    spoiled = next(own.rglob("003.png")) if not is_ours else next((own / "images/train").iterdir())
    spoil(spoiled)
    problems = check(own)[0] if is_ours else arrange(own, tmp_path / "again", skip=True).problems
    files = {Path(name).stem for each in problems if each.unused == "left out" for name in each.files}
    assert files == {spoiled.stem, "lonely"}
    assert Account.of(19, problems).left_out == 2
    (gone,) = [each.files for each in problems if each.unused == "left out" and len(each.files) > 1]
    assert sorted(Path(name).suffix for name in gone)[-1] == ".txt"


def test_a_broken_image_is_left_out_with_its_label_and_blank_and_contradictory_ones_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write(own / "images", own / "labels", 200)
    (own / "classes.txt").write_text("cat\ndog\n")
    _broken(own)
    Image.new("RGB", (40, 32), "black").save(own / "images" / "004.png")
    (own / "images" / "006.png").write_bytes((own / "images" / "005.png").read_bytes())  # with other boxes
    found = arrange(own, tmp_path / "out")
    problems = [*found.problems, *(found.with_source_paths(each) for each in check(tmp_path / "out")[0])]
    assert not any(each.blocking for each in problems)
    unused = [each for each in problems if each.unused]
    told = {re.split("[:;]", each.what)[0]: sorted(Path(file).stem for file in each.files) for each in unused}
    assert told == {
        f"The image is none of {FORMATS}": ["003", "003"],
        "every pixel has the same value, and there are boxes": ["004", "004"],
        "equal images have different boxes": ["005", "005", "006", "006"],
    }


def test_a_label_out_of_range_is_told_by_the_name_that_the_user_knows(tmp_path: Path) -> None:
    _flat(tmp_path / "own")
    (tmp_path / "own" / "labels" / "003.txt").write_text("7 0.5 0.5 0.4 0.3\n")
    found = arrange(tmp_path / "own", tmp_path / "out")
    (wrong,) = [problem for problem in check(tmp_path / "out")[0] if problem.blocking]
    assert str(found.with_source_paths(wrong)) == f"{tmp_path}/own/labels/003.txt: the class 7 is not one of 0..1 (row 1)"


def test_new_images_without_splits_are_read_for_traffic(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "labels", 3)
    found = labelled(tmp_path)
    images, labels = found.images, found.labels
    assert [each.shape for each in images] == [(32, 40, 3)] * 3
    assert [each[0, 4] for each in labels] == [0, 1, 0]


@pytest.mark.parametrize("layout", [_flat, _inside, _outside, _ultralytics, _same_twice])
def test_traffic_is_read_from_every_layout_with_labels_or_without(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path / "own")
    found = labelled(tmp_path / "own")
    assert found.labels is not None
    assert (len(found.images), len(found.labels), found.names, found.problems) == (20, 20, ("cat", "dog"), ())
    bare = tmp_path / "bare"
    for number, path in enumerate(sorted((tmp_path / "own").rglob("*.png"))):
        (bare / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, bare / f"{number % 3}" / f"{number}.png")
    without = labelled(bare)
    assert (len(without.images), without.labels, without.problems) == (20, None, ())


def test_an_image_keeps_its_boxes_under_a_name_of_ours(tmp_path: Path) -> None:
    """A name that is not UTF-8, and one that leaves no room for a temporary file beside it."""
    place = tmp_path / "pets"
    _flat(place)
    for number, name in enumerate((os.fsdecode(b"caf\xe9"), "x" * 251)):
        (place / "images" / f"{number:03d}.png").rename(place / "images" / f"{name}.png")
        (place / "labels" / f"{number:03d}.txt").rename(place / "labels" / f"{name}.txt")
    found = arrange(place, tmp_path / "out")
    assert [str(problem) for problem in found.problems] == []
    assert len(list((tmp_path / "out").rglob("*.png"))) == 20
    assert all(path.read_text() for path in (tmp_path / "out").rglob("*.txt"))
