"""A few real photographs with people as a data set: drawn by seed, files untouched, refused where there are too few."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from openmlops.core.images.decoding import png
from openmlops.errors import DataError
from openmlops.usecases.person.tiny import tiny_person
from openmlops.usecases.yolo_folder import data


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of COCO128's structure: 12 images, eight with people, one of them among other things, one without labels."""
    images, labels = tmp_path / "from/coco128/images/train2017", tmp_path / "from/coco128/labels/train2017"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(12):
        (images / f"{number:012d}.png").write_bytes(png(draw.integers(0, 256, (40, 30 + number, 3), dtype=np.uint8)))
        text = "0 0.5 0.5 0.2 0.4\n" if number < 8 else "17 0.5 0.5 0.2 0.4\n"
        (labels / f"{number:012d}.txt").write_text("16 0.1 0.1 0.1 0.1\n" + text if number == 3 else text)
    (labels / f"{11:012d}.txt").unlink()
    return tmp_path / "from"


def files(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_all_images_with_people_and_only_those_are_taken(archive: Path, tmp_path: Path) -> None:
    rows = data.read(tiny_person(archive, tmp_path / "tiny", 4, 2, 2))
    assert sorted(image.shape[1] for image in rows.images) == list(range(30, 38))
    assert rows.names == ("person",)
    assert [len(boxes) for boxes in rows.labels] == [1] * 8
    assert data.check(tmp_path / "tiny")[0] == ()


def test_image_files_are_copied_byte_for_byte(archive: Path, tmp_path: Path) -> None:
    tiny_person(archive, tmp_path / "tiny", 4, 2, 2)
    official = set(files(archive / "coco128/images").values())
    assert set(files(tmp_path / "tiny/images").values()) <= official


def test_the_folder_itself_may_be_named_too(archive: Path, tmp_path: Path) -> None:
    first, second = tiny_person(archive, tmp_path / "a", 3, 2, 2), tiny_person(archive / "coco128", tmp_path / "b", 3, 2, 2)
    assert files(first) == files(second)


def test_another_seed_draws_other_images(archive: Path, tmp_path: Path) -> None:
    drawn = [files(tiny_person(archive, tmp_path / str(seed), 3, 2, 2, seed)).keys() for seed in range(3)]
    assert drawn[0] != drawn[1] != drawn[2]


def test_what_was_there_is_replaced_as_a_whole(archive: Path, tmp_path: Path) -> None:
    tiny_person(archive, tmp_path / "tiny", 5, 2, 1)
    tiny_person(archive, tmp_path / "tiny", 2, 1, 1, seed=1)
    assert len(list((tmp_path / "tiny/images").rglob("*.png"))) == 4
    with pytest.raises(DataError):
        tiny_person(archive, tmp_path / "tiny", 50, 1, 1)
    assert len(list((tmp_path / "tiny/images").rglob("*.png"))) == 4


@pytest.mark.parametrize("counts", [(7, 1, 1), (5, 0, 1), (-1, 2, 2)])
def test_what_is_not_there_cannot_be_drawn(counts: tuple[int, int, int], archive: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 8 with people"):
        tiny_person(archive, tmp_path / "tiny", *counts)
    assert not (tmp_path / "tiny").exists()


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not COCO128: it has no images/train2017"):
        tiny_person(tmp_path, tmp_path / "tiny")


@pytest.mark.real
def test_the_people_of_coco128_are_clean(real_coco128: Path, tmp_path: Path) -> None:
    problems, counts = data.check(tiny_person(real_coco128, tmp_path / "all", 41, 10, 10))
    assert problems == ()
    assert counts == {"person": 254}


@pytest.mark.real
def test_the_draw_from_coco128_is_the_same_for_ever(real_coco128: Path, tmp_path: Path) -> None:
    folder = tiny_person(real_coco128, tmp_path / "tiny")
    rows = data.read(folder)
    assert rows.validation is not None
    assert (len(rows.images), rows.validation.sum(), rows.test.sum()) == (60, 10, 10)
    assert [path.name for path in sorted((folder / "images/test").iterdir())][:3] == [
        "000000000086.jpg",
        "000000000127.jpg",
        "000000000151.jpg",
    ]
