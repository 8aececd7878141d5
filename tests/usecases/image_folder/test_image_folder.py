"""Images in a folder for each class: what is read, what is refused, and how folders as people have them are arranged."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.core.images.decoding import png
from openmlops.core.types import Problem
from openmlops.errors import DataError
from openmlops.files import why_not_storable
from openmlops.usecases.image_folder.arrange import SPELLED_TWICE, arrange
from openmlops.usecases.image_folder.data import ImageFolder, preprocess, split, to_model_input
from openmlops.usecases.image_folder.labelled import labelled
from shapes import NAMES, folders, pictures

CAFE, CAFE_APART = "caf\u00e9", "cafe\u0301"
SHAPES = ImageFolder(NAMES, 32)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of each; do not write into it."""
    return folders(tmp_path_factory.mktemp("own") / "pictures", 10)


def copied(own: Path, place: Path) -> Path:
    return shutil.copytree(own, place / "pictures")


def blocking(problems: tuple[Problem, ...]) -> list[str]:
    return [str(problem) for problem in problems if problem.blocking]


def test_a_folder_for_each_class_is_split_of_each_class_alike_and_passes_the_checks(own: Path, tmp_path: Path) -> None:
    found = arrange(own, tmp_path / "out")
    assert (found.names, found.side, found.problems) == (NAMES, 32, ())
    rows = SHAPES.read(tmp_path / "out")
    splits = split(rows, 0)
    assert {name: np.bincount(rows.labels[splits[name]]).tolist() for name in splits} == {
        "train": [6, 6, 6],
        "validation": [2, 2, 2],
        "test": [2, 2, 2],
    }
    problems, counts = SHAPES.check(tmp_path / "out")
    assert blocking(problems) == []
    assert counts == dict.fromkeys(NAMES, 10)


def test_the_same_images_are_split_the_same_way_whatever_they_are_called(own: Path, tmp_path: Path) -> None:
    other = copied(own, tmp_path)
    for path in other.rglob("*.png"):
        path.rename(path.with_name(f"z{path.name}"))
    arrange(own, tmp_path / "one")
    arrange(other, tmp_path / "two")
    first, second = ({path.read_bytes() for path in (tmp_path / out / "test").rglob("*.png")} for out in ("one", "two"))
    assert first == second


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_splits_that_are_given_stay_and_the_missing_one_is_drawn_from_train(tmp_path: Path, validation: str) -> None:
    folders(tmp_path / "own" / "train", 10, 0)
    folders(tmp_path / "own" / validation, 3, 1)
    assert arrange(tmp_path / "own", tmp_path / "out").problems == ()
    rows = SHAPES.read(tmp_path / "out")
    assert rows.validation is not None
    assert (rows.validation.sum(), rows.test.sum(), len(rows.labels)) == (9, 6, 39)
    given = {path.read_bytes() for path in (tmp_path / "own" / validation).rglob("*.png")}
    assert given == {path.read_bytes() for path in (tmp_path / "out" / "val").rglob("*.png")}


@pytest.mark.parametrize("split", ["", "train"])
def test_a_class_may_be_called_train_or_test(own: Path, tmp_path: Path, split: str) -> None:
    """Folders of that name are splits only where they hold folders of classes."""
    for name, cls in zip(NAMES, ("bus", "train", "test"), strict=True):
        shutil.copytree(own / name, tmp_path / "own" / split / cls)
    found = arrange(tmp_path / "own", tmp_path / "out")
    assert (found.names, found.problems) == (("bus", "test", "train"), ())
    assert len(list((tmp_path / "out").glob("*/train/*"))) == 10


@pytest.mark.parametrize(("name", "said"), [("a\\b", "a backslash"), ("a\nb", "cannot be printed"), ("é" * 101, "200 bytes")])
def test_a_class_whose_name_cannot_be_stored_is_named(own: Path, tmp_path: Path, name: str, said: str) -> None:
    place = copied(own, tmp_path)
    (place / "disc").rename(place / name)
    assert any(said in each for each in blocking(arrange(place, tmp_path / "out").problems))


@pytest.mark.parametrize(
    "name", ["👨\u200d👩\u200d👧", "می\u200cخواهم", "新しい\u3000フォルダ", "a\xa0b", "\U0001fae8", "c\uf022d"]
)
def test_a_class_may_be_called_as_people_write(own: Path, tmp_path: Path, name: str) -> None:
    """An emoji of several, letters that do not join, spaces of other scripts, what is newer than Python, a slash of macOS."""
    place = copied(own, tmp_path)
    (place / "disc").rename(place / name)
    found = arrange(place, tmp_path / "out")
    assert (found.problems, set(found.names)) == ((), {name, "square", "triangle"})
    assert len(ImageFolder(found.names, 32).read(tmp_path / "out").labels) == 30


def test_a_class_whose_accents_are_written_in_two_ways_is_one(own: Path, tmp_path: Path) -> None:
    """As in archives that were packed on macOS and unpacked elsewhere, over a folder made here."""
    place = copied(own, tmp_path)
    (place / "disc").rename(place / CAFE)
    (place / CAFE_APART).mkdir()
    for number in range(5):
        (place / CAFE / f"000{number}.png").rename(place / CAFE_APART / f"000{number + 5}.png")
    found = arrange(place, tmp_path / "out")
    assert (found.names, len(found.sources)) == ((CAFE, "square", "triangle"), 30)
    (told,) = found.problems
    assert (told.blocking, told.altered, told.what) == (False, True, SPELLED_TWICE)
    layout = ImageFolder(found.names, 32)
    assert layout.check(tmp_path / "out")[1] == {CAFE: 10, "square": 10, "triangle": 10}
    assert np.bincount(labelled(layout, place).labels).tolist() == [10, 10, 10]

    (tmp_path / "out" / "train" / CAFE).rename(tmp_path / "out" / "train" / CAFE_APART)
    assert layout.check(tmp_path / "out") == ((), {CAFE: 10, "square": 10, "triangle": 10})


def test_an_image_whose_name_cannot_be_stored_is_imported_under_another(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    first, second, third = sorted((place / "disc").iterdir())[:3]
    first.rename(place / "disc" / "back\\slash.png")
    second.rename(place / "disc" / f"{'é' * 120}.png")
    third.rename(place / "disc" / "line\nbreak.png")
    found = arrange(place, tmp_path / "out")
    assert (found.problems, len(found.sources)) == ((), 30)
    assert not any(why_not_storable(part) for name in found.sources for part in name.split("/"))


def test_images_in_train_and_val_alone_are_no_classes(own: Path, tmp_path: Path) -> None:
    for name, place in zip(NAMES, ("train", "val", "test"), strict=True):
        shutil.copytree(own / name, tmp_path / "own" / place)
    assert "images are not in a class folder" in blocking(arrange(tmp_path / "own", tmp_path / "out").problems)[0]


def test_classes_called_by_numbers_are_in_the_order_of_the_numbers(own: Path, tmp_path: Path) -> None:
    for name, cls in zip(NAMES, ("10", "9", "1"), strict=True):
        shutil.copytree(own / name, tmp_path / "own" / cls)
    assert arrange(tmp_path / "own", tmp_path / "out").names == ("1", "9", "10")


def test_three_hundred_images_give_a_hundred_to_watch_with(tmp_path: Path) -> None:
    folders(tmp_path / "own", 100)
    arrange(tmp_path / "own", tmp_path / "out")
    rows = SHAPES.read(tmp_path / "out")
    assert rows.validation is not None
    assert rows.validation.sum() >= 100


def test_copies_are_on_one_side(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    for path in sorted((place / "disc").iterdir())[:6]:
        (place / "disc" / f"copy-{path.name}").write_bytes(path.read_bytes())
    arrange(place, tmp_path / "out")
    problems, _ = SHAPES.check(tmp_path / "out")
    assert blocking(problems) == []
    assert any("images are duplicates" in str(problem) for problem in problems)


def test_every_format_is_copied_as_it_is_whatever_its_name_says(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    image = Image.fromarray(pictures(1, 9)["disc"][0])
    names = {"a.webp": "WEBP", "b.bmp": "BMP", "c.jpg": "WEBP", "d.JPEG": "JPEG", "e.tif": "TIFF", "f.GIF": "GIF"}
    for name, kind in names.items():
        image.save(place / "disc" / name, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert arrange(place, tmp_path / "out").problems == ()
    assert SHAPES.check(tmp_path / "out")[1]["disc"] == 16
    found = {path.name: path for path in (tmp_path / "out").rglob("disc/*")}
    for name in names:
        assert found[name].read_bytes() == (place / "disc" / name).read_bytes()
        near = np.abs(SHAPES.decode(found[name].read_bytes()).astype(int) - np.asarray(image))
        assert near.max() == 0 or name in ("d.JPEG", "f.GIF")


def test_two_images_that_differ_in_their_suffix_only_are_both_kept(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    for suffix, seed in (("png", 7), ("jpg", 8)):
        Image.fromarray(pictures(1, seed)["disc"][0]).save(place / "disc" / f"twin.{suffix}")
    found = arrange(place, tmp_path / "out")
    assert sum("twin" in name for name in found.sources) == 2


@pytest.mark.parametrize(("side", "size"), [(20, 32), (40, 32), (50, 64), (80, 64), (200, 224)])
def test_the_size_is_chosen_from_the_median_side(tmp_path: Path, side: int, size: int) -> None:
    draw = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "own" / name).mkdir(parents=True)
        for number in range(5):
            image = draw.integers(0, 256, (side, side + 30, 3), dtype=np.uint8)
            (tmp_path / "own" / name / f"{number}.png").write_bytes(png(image))
    assert arrange(tmp_path / "own", tmp_path / "out").side == size


def test_an_image_of_a_turned_camera_is_shown_upright_in_training_and_serving(own: Path, tmp_path: Path) -> None:
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:20] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, to be turned clockwise
    content = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(content, "JPEG", exif=exif, quality=95)
    decoded = SHAPES.decode(content.getvalue())
    assert decoded[:12].mean() > 230
    assert decoded[20:].mean() < 20


def test_grey_images_and_those_with_one_value_in_a_channel_can_be_scaled(tmp_path: Path) -> None:
    place = folders(tmp_path / "own", 5)
    for path in place.rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L"))
        Image.fromarray(np.dstack([grey, grey, np.zeros_like(grey)])).save(path)
    arrange(place, tmp_path / "out")
    rows = SHAPES.read(tmp_path / "out")
    found = preprocess(rows, np.flatnonzero(~rows.test))
    assert found.std[2] == 1
    assert found.std[0] > 1


def _empty(place: Path) -> None:
    (place / "star").mkdir()


def _one_class(place: Path) -> None:
    for name in NAMES[1:]:
        (place / name).rename(place.parent / name)


def _few(place: Path) -> None:
    for path in sorted((place / "disc").iterdir())[4:]:
        path.unlink()


def _broken(place: Path) -> None:
    (place / "disc" / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")


def _outside(place: Path) -> None:
    (place / "disc" / "0003.png").rename(place / "0003.png")


def _nested(place: Path) -> None:
    (place / "disc" / "more").mkdir()
    (place / "disc" / "0003.png").rename(place / "disc" / "more" / "0003.png")


def _beside_train(place: Path) -> None:
    folders(place / "train", 5)


@pytest.mark.parametrize(
    ("spoil", "named", "remedy"),
    [
        (_empty, "pictures/star: the class has no images", "add some, or remove the folder"),
        (_one_class, "pictures: there is only one class, disc", "create at least two folders"),
        (_few, "too few images of disc (4)", "at least 5 images: one for test, one for validation"),
        (
            _broken,
            "disc/0003.png: The image is a broken PNG file|disc/0003.png: The image is none of JPEG, PNG, WebP",
            "replace or remove the file",
        ),
        (_outside, "pictures/0003.png: images are not in a class folder", "move them into one"),
        (_nested, "disc/more/0003.png: images are in subfolders of a class, which are not read", "move them up"),
        (_beside_train, "pictures/disc: the folder is not one of train, val and test", "move it into one of them"),
    ],
)
def test_bad_data_is_named_with_its_remedy_and_nothing_is_written(own: Path, tmp_path: Path, spoil, named, remedy) -> None:
    place = copied(own, tmp_path)
    spoil(place)
    found = blocking(arrange(place, tmp_path / "out").problems)
    assert found
    assert any(part in found[0] for part in named.split("|")), found
    assert remedy in found[0]
    assert not (tmp_path / "out").exists()


def test_many_unreadable_images_are_counted(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    for path in (place / "disc").iterdir():
        path.write_bytes(b"")
    (found,) = blocking(arrange(place, tmp_path / "out").problems)
    assert f"replace or remove the file: {place}/disc/0000.png; {place}/disc/0001.png; " in found
    assert found.endswith("; ... (10 in all)")


def test_the_checks_find_copies_across_splits_contradictions_and_unknown_classes_by_name(own: Path, tmp_path: Path) -> None:
    arrange(own, tmp_path / "out")
    first = next((tmp_path / "out" / "train" / "disc").iterdir())
    (tmp_path / "out" / "test" / "square" / "copy.png").write_bytes(first.read_bytes())
    second = next((tmp_path / "out" / "train" / "square").iterdir())
    (tmp_path / "out" / "test" / "square" / "same.png").write_bytes(second.read_bytes())
    (tmp_path / "out" / "train" / "star").mkdir()
    found = " ".join(blocking(SHAPES.check(tmp_path / "out")[0]))
    assert f"train: images are also in test: train/square/{second.name} is test/square/same.png" in found
    assert f"images are in two classes: train/disc/{first.name}; test/square/copy.png is train/disc/{first.name}" in found
    assert "train/star: the folder is not one of the classes disc, square, triangle" in found


def _spoiled(place: Path, number: int) -> None:
    """Seven files that cannot be used, in folders of `number` images each."""
    (place / "disc" / "0000.png").write_bytes(b"no image")
    Image.new("RGB", (32, 32), "black").save(place / "square" / "black.png")
    (place / "triangle" / "copy.png").write_bytes((place / "disc" / "0001.png").read_bytes())
    (place / "triangle" / "deep").mkdir()
    (place / "triangle" / "0002.png").rename(place / "triangle" / "deep" / "0002.png")
    (place / "square" / "gone.png").symlink_to("/nowhere/gone.png")
    (place / "square" / "photo.avif").write_bytes(b"")
    for name in ("__MACOSX/disc", "@eaDir"):
        (place / name).mkdir(parents=True)
        (place / name / "a.png").write_bytes(b"")
    assert len(list((place / "disc").iterdir())) == number


def test_a_handful_that_cannot_be_used_is_left_out_by_name_and_never_stops_hundreds(tmp_path: Path) -> None:
    place = folders(tmp_path / "own", 130)
    _spoiled(place, 130)
    found = arrange(place, tmp_path / "out")
    assert found.names == NAMES
    problems, counts = SHAPES.check(tmp_path / "out")
    assert blocking((*found.problems, *problems)) == []
    assert counts == {"disc": 128, "square": 130, "triangle": 129}
    told = [str(each) for each in (*found.problems, *map(found.with_source_paths, problems)) if each.unused]
    names = ("0000.png", "square/black.png", "triangle/copy.png", "disc/0001.png", "deep/0002.png", "gone.png", "photo.avif")
    for name in names:
        assert any(f"{place}/" in text and name in text for text in told), name


def test_more_than_a_handful_stops_with_what_to_do_and_goes_on_where_that_is_asked_for(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    _spoiled(place, 10)
    assert len(blocking(arrange(place, tmp_path / "out").problems)) == 3  # files out of place; no image is read yet
    assert not (tmp_path / "out").exists()
    found = arrange(place, tmp_path / "out", skip=True)
    assert blocking(found.problems) == []
    assert "disc/0000.png" in " ".join(map(str, found.problems))
    assert "every pixel has the same value" in " ".join(map(str, found.problems))
    assert f"in two classes: {place}/disc/0001.png; {place}/triangle/copy.png is" in " ".join(map(str, found.problems))
    problems, counts = SHAPES.check(tmp_path / "out")
    assert (blocking(problems), counts) == ([], {"disc": 8, "square": 10, "triangle": 9})


def test_the_one_folder_that_holds_the_classes_is_named(own: Path, tmp_path: Path) -> None:
    """As archives are unpacked."""
    shutil.copytree(own, tmp_path / "archive" / "set")
    (told,) = arrange(tmp_path / "archive", tmp_path / "out").problems
    assert (told.where, told.blocking) == (str(tmp_path / "archive" / "set"), True)
    assert "name it instead of the folder above" in told.what


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"), (b"\n<!DOCTYPE html><html>", "web page")],
)
def test_what_lies_in_the_place_of_an_image_is_told(own: Path, tmp_path: Path, content: bytes, said: str) -> None:
    place = copied(own, tmp_path)
    (place / "disc" / "0000.png").write_bytes(content)
    assert any(said in each for each in blocking(arrange(place, tmp_path / "out").problems))


def test_a_name_with_a_line_break_is_told_on_one_line(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    (place / "disc").rename(place / "a\n\tb")
    (said,) = blocking(arrange(place, tmp_path / "out").problems)
    assert f"{place}/a\\n\\tb: " in said


def test_a_folder_of_tiffs_is_not_empty(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    for path in place.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".tiff"))
        path.unlink()
    assert arrange(place, tmp_path / "out").problems == ()
    assert len(SHAPES.read(tmp_path / "out").labels) == 30


def test_new_images_for_traffic_are_read_and_the_others_told(own: Path, tmp_path: Path) -> None:
    place = copied(own, tmp_path)
    (place / "disc" / "0000.png").write_bytes(b"no image")
    found = labelled(SHAPES, place)
    assert len(found.labels) == len(found.images) == 29
    (told,) = found.problems
    assert (told.files, told.unused, told.blocking) == (("disc/0000.png",), "left out", True)
    for path in place.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"There is no image in .*pictures \(images: The image is none of JPEG"):
        labelled(SHAPES, place)


def test_traffic_is_read_from_every_layout_with_labels_or_without(own: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for path in sorted(own.rglob("*.png")):
        (flat / "2026" / path.parent.name[:1]).mkdir(parents=True, exist_ok=True)
        Image.open(path).save(flat / "2026" / path.parent.name[:1] / f"{path.stem}.webp", lossless=True)
    found = labelled(SHAPES, flat)
    assert (len(found.images), found.labels, found.problems) == (30, None, ())
    assert arrange(own, tmp_path / "split").problems == ()
    split = labelled(SHAPES, tmp_path / "split")
    assert (len(split.images), np.bincount(split.labels).tolist()) == (30, [10, 10, 10])
    place = copied(own, tmp_path)
    (place / "disc").rename(place / "plate")
    with pytest.raises(DataError, match=r"plate: the folder is not one of the classes disc, square, triangle"):
        labelled(SHAPES, place)


def test_a_model_of_another_size_is_still_shown_what_it_takes() -> None:
    images = np.stack(pictures(2, 0)["disc"])
    assert to_model_input(images, (32, 32)).pixels is images
    scaled = to_model_input(images, (64, 64))
    assert (scaled.pixels.shape, scaled.sizes.tolist()) == ((2, 64, 64, 3), [[32, 32], [32, 32]])


def test_production_images_are_added_to_train_alone(own: Path, tmp_path: Path) -> None:
    arrange(own, tmp_path / "out")
    images, labels = np.stack(pictures(2, 5)["square"]), np.array([1, 1])
    once = SHAPES.extend(tmp_path / "out", images, labels, tmp_path / "once")
    twice = SHAPES.extend(once, images[:1], labels[:1], tmp_path / "twice")
    before, after = SHAPES.read(tmp_path / "out"), SHAPES.read(twice)
    assert after.test.sum() == before.test.sum()
    assert len(after.labels) == len(before.labels) + 3
    assert (twice / "train" / "square" / "production_2_00000.png").is_file()


def test_a_file_name_that_is_not_utf8_or_too_long_becomes_one_that_is(own: Path, tmp_path: Path) -> None:
    import os

    place = copied(own, tmp_path)
    names = (os.fsdecode(b"caf\xe9.png"), "x" * 251 + ".png", "y" * 251 + ".bmp")
    for name, path in zip(names, sorted((place / "disc").iterdir()), strict=False):
        with Image.open(path) as image:
            image.save(path.with_suffix(".new"), format=Path(name).suffix[1:])
        path.unlink()
        path.with_suffix(".new").rename(place / "disc" / name)
    found = arrange(place, tmp_path / "out")
    assert blocking(found.problems) == []
    written = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 30
    assert all(len(name.encode()) <= 216 for name in written)


def test_no_two_images_get_one_place_whatever_they_are_called(tmp_path: Path) -> None:
    own = folders(tmp_path / "own", 8)
    for number, name in enumerate(("x.jpg", "x.png", "x_jpg.jpg", "X_PNG.bmp")):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(own / "disc" / name)
    found = arrange(own, tmp_path / "out")
    assert len(found.sources) == len(set(found.sources.values())) == 3 * 8 + 4
    assert all((tmp_path / "out" / place).read_bytes() == source.read_bytes() for place, source in found.sources.items())
