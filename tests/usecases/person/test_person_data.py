"""40 damaged copies of the sample are refused, each by a problem that names what and where; clean ones are not."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from part_of_sample import part_of
from PIL import Image

from openmlops.core.images.boxes import objects
from openmlops.core.images.decoding import png
from openmlops.core.validation import content_hashes
from openmlops.errors import DataError
from openmlops.images.lazy import pixels
from openmlops.usecases.base import Rows
from openmlops.usecases.yolo_folder import data
from openmlops.usecases.yolo_folder.folder import label_path
from turned import ORIENTATIONS, photograph

Damage = Callable[[Path], object]
CLEAN_YAML = "train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: person\n"
TURNED = "images are turned as their EXIF orientation says, and their boxes must fit the upright ones"
FIRST_IMAGE, FIRST_LABEL = "images/train/00000.png", "labels/train/00000.txt"


def write(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def config(old: str, new: str) -> Damage:
    """Change a line of data.yaml."""
    assert old in CLEAN_YAML
    return write("data.yaml", CLEAN_YAML.replace(old, new))


def remove(name: str) -> Damage:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def copy(source: str, target: str) -> Damage:
    return lambda folder: shutil.copyfile(folder / source, folder / target)


def copy_labelled(target: str) -> Damage:
    """The first image with its label."""
    pairs = ((FIRST_IMAGE, target), (FIRST_LABEL, label_path(target)))
    return lambda folder: [copy(source, place)(folder) for source, place in pairs]


def cut(name: str, share: float) -> Damage:
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes()[: int(share * (folder / name).stat().st_size)]
    )


def without_boxes(split: str) -> Damage:
    return lambda folder: [path.write_text("") for path in (folder / "labels" / split).iterdir()]


def link_out(folder: Path) -> None:
    """images/train becomes a link to a folder beside the data set."""
    shutil.move(folder / "images/train", folder.parent / "elsewhere")
    (folder / "images/train").symlink_to(folder.parent / "elsewhere")


def encoded(kind: str, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 7).save(buffer, kind)
    return buffer.getvalue()


def subfolder(folder: Path) -> None:
    (folder / "images/val/more").mkdir()
    shutil.copyfile(folder / FIRST_IMAGE, folder / "images/val/more/1.png")


BAD: dict[str, tuple[Damage, str, str]] = {
    # name: (what is done to a valid set, where the problem is, what it says)
    "no-config": (remove("data.yaml"), "data.yaml", "missing"),
    "config-not-yaml": (write("data.yaml", "train: [images"), "data.yaml", "not YAML"),
    "config-not-text": (write("data.yaml", b"\xff\xfe\x00"), "data.yaml", "not UTF-8 text"),
    "config-a-list": (write("data.yaml", "- train\n- val\n"), "data.yaml", "holds a list, not a mapping"),
    "config-empty": (write("data.yaml", ""), "data.yaml", "holds nothing, not a mapping"),
    "config-runs-code": (write("data.yaml", "train: !!python/object/apply:os.system [true]"), "data.yaml", "not YAML"),
    "config-a-bomb": (write("data.yaml", "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n"), "data.yaml", "YAML aliases"),
    "config-too-large": (write("data.yaml", "#" * 70_000), "data.yaml", "more than 65536 bytes"),
    "no-names": (config("names:\n  0: person", "nc: 1"), "data.yaml", "names is neither a list"),
    "names-a-text": (config("names:\n  0: person", "names: person"), "data.yaml", "names is neither a list"),
    "names-from-1": (config("  0: person", "  1: person"), "data.yaml", "the numbers 1, not 0 to 0"),
    "no-name": (config("  0: person", "  0: ''"), "data.yaml", "class 0 has no name"),
    "name-twice": (config("  0: person", "  0: person\n  1: person"), "data.yaml", "has 'person' twice"),
    "nc-2": (config("names:", "nc: 2\nnames:"), "data.yaml", "nc is 2, but the number of class names is 1"),
    "no-train": (config("train: images/train\n", ""), "data.yaml", "train is missing"),
    "no-test": (config("test: images/test\n", ""), "data.yaml", "test is missing"),
    "path-elsewhere": (config("train:", "path: /data\ntrain:"), "data.yaml", "path is not `.`"),
    "train-above": (config("images/train", "../people/images/train"), "data.yaml", "train is outside the folder"),
    "train-absolute": (config("images/train", "/data/images/train"), "data.yaml", "train is outside the folder"),
    "train-a-link-out": (link_out, "data.yaml", "train leads outside the folder of the data set through a link"),
    "train-two-folders": (
        config("images/train", "[images/train, images/val]"),
        "data.yaml",
        "train is a list; name one folder",
    ),
    "val-not-there": (
        config("images/val", "images/valid"),
        "data.yaml",
        "val names images/valid, which is not a readable folder",
    ),
    "val-is-train": (config("images/val", "images/train"), "data.yaml", "val is in the same folder as train"),
    "no-folder-images": (config("images/train", "labels/train"), "data.yaml", "not in a folder called images"),
    "test-empty": (
        lambda folder: [path.unlink() for kind in ("images", "labels") for path in (folder / kind / "test").iterdir()],
        "images/test",
        "no image",
    ),
    "image-cut": (cut(FIRST_IMAGE, 0.5), FIRST_IMAGE, "broken PNG"),
    "image-empty": (write(FIRST_IMAGE, b""), FIRST_IMAGE, "is none of JPEG, PNG, WebP"),
    "image-a-tga": (write(FIRST_IMAGE, encoded("TGA", mode="L")), FIRST_IMAGE, "is none of JPEG, PNG, WebP"),
    "image-called-avif": (
        write("images/train/a.avif", b""),
        "images/train/a.avif",
        "in none of the formats JPEG, PNG, WebP, BMP, TIFF, GIF",
    ),
    "image-16-bit": (write(FIRST_IMAGE, encoded("PNG", mode="I;16")), FIRST_IMAGE, "not 8 bits"),
    "image-a-bomb": (write(FIRST_IMAGE, encoded("PNG", (9000, 9000), "1")), FIRST_IMAGE, "more than"),
    "image-tiny": (write(FIRST_IMAGE, encoded("PNG", (64, 3))), FIRST_IMAGE, "64x3 pixels, less than 16"),
    "image-in-a-folder": (subfolder, "images/val/more/1.png", "images are in no folder of images that is read"),
    "two-images-one-label": (
        copy(FIRST_IMAGE, "images/train/00000.jpg"),
        FIRST_IMAGE,
        "label file of 00000.jpg",
    ),
    "label-without-image": (remove(FIRST_IMAGE), FIRST_LABEL, "no image"),
    "label-a-class-too-far": (write(FIRST_LABEL, "1 0.5 0.5 0.1 0.1\n"), FIRST_LABEL, "class 1 is not one of 0..0 rows 1"),
    "label-in-pixels": (
        write(FIRST_LABEL, "0 .5 .5 .1 .1\n0 80 64 20 60\n"),
        FIRST_LABEL,
        "is outside the image; use coordinates",
    ),
    "label-of-keypoints": (
        write(FIRST_LABEL, "0 .1 .1 .2 .1 .2 .2 2\n"),
        FIRST_LABEL,
        "neither a box nor a polygon; keypoints",
    ),
    "nobody-in-train": (without_boxes("train"), "train", "no boxes in train"),
    "train-image-in-test": (
        copy_labelled("images/test/00000.png"),
        "train",
        "images are also in test: images/train/00000.png is images/test/00000.png",
    ),
}


NOT_READ = ("nobody-in-train", "train-image-in-test", "image-called-avif", "image-in-a-folder", "label-without-image")
"""what `read` does not come across; `add` leaves such files out of a version"""


def test_the_damaged_copies_are_forty() -> None:
    assert len(BAD) == 40


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_copy_is_rejected_with_what_and_where_and_nothing_else(kind: str, small_people: Path) -> None:
    act, where, what = BAD[kind]
    act(small_people)
    problems, _ = data.check(small_people)
    said = [f"{p.what} rows {', '.join(map(str, p.rows))}" for p in problems if p.blocking and p.where == where]
    assert any(what in text for text in said), [str(problem) for problem in problems]
    assert {problem.where for problem in problems if problem.blocking} == {where}, [str(problem) for problem in problems]


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in NOT_READ])
def test_what_check_rejects_for_its_structure_read_refuses_to_read(kind: str, small_people: Path) -> None:
    act, where, _ = BAD[kind]
    act(small_people)
    with pytest.raises(DataError, match="cannot be used") as refused:
        data.read(small_people)
    assert where in refused.value.problem


def test_all_problems_are_found_at_once(small_people: Path) -> None:
    write("labels/val/00001.txt", "0 1\n")(small_people)
    for kind in ("nc-2", "image-cut", "image-in-a-folder"):
        BAD[kind][0](small_people)
    found = {problem.where for problem in data.check(small_people)[0]}
    assert found == {"labels/val/00001.txt", "data.yaml", FIRST_IMAGE, "images/val/more/1.png"}


def test_a_mistake_in_every_file_is_told_five_times_and_counted(small_people: Path) -> None:
    for path in (small_people / "labels/train").iterdir():
        path.write_text("5 0.5 0.5 0.1 0.1\n")
    problems = [problem for problem in data.check(small_people)[0] if "the class 5 is" in problem.what]
    assert len(problems) == 6
    assert problems[-1].what.startswith("7 more files with the same problem")


def test_a_missing_folder_is_a_problem_and_no_exception(tmp_path: Path) -> None:
    (problem,), counts = data.check(tmp_path / "none")
    assert problem.where == "data.yaml"
    assert counts == {}


YAML = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["images/train", "../x"])
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.one_of(st.integers(-1, 3), st.text(max_size=3)), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    content=st.dictionaries(st.sampled_from(["path", "train", "val", "test", "names", "nc"]), YAML), raw=st.binary(max_size=60)
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_data_yaml_says_is_judged_and_never_an_exception(content: dict, raw: bytes, tmp_path: Path) -> None:
    for text in (yaml.safe_dump(content, allow_unicode=True).encode(), raw, CLEAN_YAML.encode() + raw):
        (tmp_path / "data.yaml").write_bytes(text)
        problems, _ = data.check(tmp_path)
        assert any(problem.blocking for problem in problems), "there are no images"


# ---------------------------------------------------------------- clean data sets


@pytest.mark.parametrize("start", [0, 20, 40])
def test_a_part_of_the_sample_is_clean(person_sample: Path, start: int, tmp_path: Path) -> None:
    problems, counts = data.check(part_of(person_sample, tmp_path / "part", {"train": 20, "val": 10, "test": 10}, start))
    assert problems == ()
    assert counts["person"] > 20


@pytest.mark.parametrize(
    "text",
    [
        CLEAN_YAML.replace("names:\n  0: person", "names: [person]"),
        "# a note\npath: .\nnc: 1\ndownload: none\n" + CLEAN_YAML,
        CLEAN_YAML.replace("images/train", "./images/train/"),
        "\ufeff" + CLEAN_YAML,
    ],
)
def test_data_yaml_may_be_written_in_other_ways(text: str, small_people: Path) -> None:
    write("data.yaml", text)(small_people)
    assert data.check(small_people)[0] == ()
    assert len(data.read(small_people).images) == 24


def test_an_image_without_a_label_file_has_no_boxes(small_people: Path) -> None:
    (small_people / FIRST_LABEL).unlink()
    assert data.check(small_people)[0] == ()
    assert data.read(small_people).labels[0].shape == (0, 5)


# ---------------------------------------------------------------- what only is reported


def reported(folder: Path) -> list[str]:
    problems, _ = data.check(folder)
    assert not any(problem.blocking for problem in problems), [str(problem) for problem in problems]
    return [str(problem) for problem in problems]


def test_a_test_image_that_looks_like_a_train_image_is_reported(small_people: Path) -> None:
    image = np.asarray(Image.open(small_people / FIRST_IMAGE))
    write("images/test/00003.png", png(np.clip(image.astype(int) * 9 // 10 + 9, 0, 255).astype(np.uint8)))(small_people)
    (found,) = reported(small_people)
    assert found == "test: images are near-duplicates of train images (perceptual hash): images/test/00003.png"


def test_repeats_inside_a_split_are_reported(small_people: Path) -> None:
    copy_labelled("images/train/00007.png")(small_people)
    (found,) = reported(small_people)
    assert found == "train: images are duplicates: images/train/00007.png is images/train/00000.png"


def test_a_class_without_boxes_is_reported(small_people: Path) -> None:
    write("data.yaml", CLEAN_YAML + "  1: bicycle\n")(small_people)
    assert reported(small_people) == [f"{split}: there are no boxes of bicycle" for split in ("train", "val", "test")]


def test_other_files_are_reported_and_hidden_ones_too(small_people: Path) -> None:
    write("images/val/notes.md", "x")(small_people)
    write("images/val/.DS_Store", "x")(small_people)
    write("labels/val/classes.txt", "person\n")(small_people)
    assert reported(small_people) == [
        "files: files are not images: images/val/notes.md; labels/val/classes.txt (2 in all)",
        "images/val/.DS_Store: hidden files and files of the system",
    ]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_boxes_of_a_photograph_fit_the_upright_image_in_training_and_serving(small_people: Path, orientation: int) -> None:
    upright = np.asarray(Image.open(small_people / FIRST_IMAGE))
    boxes = data.read(small_people).labels[0]
    content = photograph(upright, orientation)
    write(FIRST_IMAGE, content)(small_people)
    rows = data.read(small_people)
    assert np.array_equal(rows.images[0], upright)
    assert np.array_equal(rows.labels[0], boxes)
    assert np.array_equal(data.decode(content), upright)
    noted = [] if orientation == 1 else [f"images: {TURNED}: {FIRST_IMAGE}"]
    assert reported(small_people) == noted


# ---------------------------------------------------------------- read, split, preprocess


def test_rows_are_sorted_by_path_train_first_and_test_last(small_people: Path) -> None:
    rows = data.read(small_people)
    assert rows.labels.dtype == object
    assert rows.validation is not None
    assert np.flatnonzero(rows.validation).tolist() == list(range(12, 18))
    assert np.flatnonzero(rows.test).tolist() == list(range(18, 24))
    assert np.array_equal(rows.images[14], np.asarray(Image.open(small_people / "images/val/00002.png")))
    assert all(boxes.dtype == np.float32 and boxes.shape[1:] == (5,) for boxes in rows.labels)


def test_images_of_one_size_are_objects_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(3):
            (tmp_path / f"images/{split}/{number}.png").write_bytes(png(draw.integers(0, 256, (32, 48, 3), dtype=np.uint8)))
            (tmp_path / f"labels/{split}/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    write("data.yaml", CLEAN_YAML.replace("val: images/val\n", ""))(tmp_path)
    assert data.check(tmp_path)[0] == ()
    rows = data.read(tmp_path)
    assert (len(rows.images), rows.labels.shape, pixels(rows.images).dtype) == (6, (6,), object)
    np.testing.assert_array_equal(rows.labels[0], [[12, 8, 36, 24, 0]])
    assert rows.validation is None


def noise(n: int, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (16 + row % 3, 20, 3), dtype=np.uint8) for row in range(n)]


def rows_of(images: list[np.ndarray], test: list[int], validation: list[int] | None) -> Rows:
    def marks(rows: list[int]) -> np.ndarray:
        return np.isin(np.arange(len(images)), rows)

    boxes = objects([np.zeros((0, 5), np.float32) for _ in images])
    return Rows(objects(images), boxes, ("person",), marks(test), None if validation is None else marks(validation))


def test_the_publishers_splits_are_kept() -> None:
    parts = data.split(rows_of(noise(10), [8, 9], [5, 6, 7]), 3)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "train": [0, 1, 2, 3, 4],
        "validation": [5, 6, 7],
        "test": [8, 9],
    }
    assert {rows.dtype for rows in parts.values()} == {np.dtype(np.int64)}


def test_a_fifth_is_drawn_by_seed_where_there_is_no_validation() -> None:
    rows = rows_of(noise(60), list(range(50, 60)), None)
    parts = [data.split(rows, seed) for seed in (0, 0, 1)]
    assert [len(part["validation"]) for part in parts] == [10, 10, 10]
    assert np.array_equal(parts[0]["validation"], parts[1]["validation"])
    assert not np.array_equal(parts[0]["validation"], parts[2]["validation"])
    assert sorted(np.concatenate(list(parts[0].values()))) == list(range(60))


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_no_two_splits_share_an_image_even_if_the_files_do(seed: int, fixed: bool) -> None:
    images = noise(40)
    images[0], images[20], images[1], images[2] = images[35], images[36], images[25], images[3]
    rows = rows_of(images, list(range(30, 40)), list(range(20, 30)) if fixed else None)
    parts = data.split(rows, seed)
    digests = content_hashes(rows.images)
    content = {name: {digests[row] for row in indices} for name, indices in parts.items()}
    assert not content["train"] & content["validation"]
    assert not (content["train"] | content["validation"]) & content["test"]
    assert len(parts["test"]) == 10
    if fixed:
        assert parts["validation"].tolist() == list(range(21, 30))
        assert parts["train"].tolist() == list(range(2, 20))


def test_pixels_are_divided_by_255() -> None:
    rows = rows_of(noise(3), [2], None)
    assert data.preprocess(rows, np.arange(2)).model_dump() == {"mean": (0, 0, 0), "std": (255, 255, 255), "resize": "default"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_problem(small_people: Path) -> None:
    (small_people / "images/train").chmod(0)
    problems, _ = data.check(small_people)
    (small_people / "images/train").chmod(0o755)
    assert any("not a readable folder" in problem.what for problem in problems)
