"""Exports of label tools, arranged: every image with its own labels, classes and split, or a problem that says what lacks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openmlops.core.images.decoding import png
from openmlops.usecases.yolo_folder.arrange import arrange
from openmlops.usecases.yolo_folder.data import check, read
from usecases.yolo_folder.test_yolo_arrange import image, write

NAMES = "cat\ndog\n"


def _lists(place: Path, prefix: str, folder: str) -> None:
    """Images 0 to 13 in train.txt, 14 to 19 in valid.txt."""
    for name, numbers in (("train", range(14)), ("valid", range(14, 20))):
        (place / f"{name}.txt").write_text("".join(f"{prefix}{folder}/{number:03d}.png\n" for number in numbers))


def _cvat_ultralytics(place: Path) -> None:
    write(place / "images/train", place / "labels/train", 20)
    _lists(place, "data/", "images/train")
    (place / "data.yaml").write_text("names: {0: cat, 1: dog}\npath: .\ntrain: train.txt\nval: valid.txt\n")


def _cvat_yolo11(place: Path) -> None:
    write(place / "obj_train_data", place / "obj_train_data", 20)
    _lists(place, "data/", "obj_train_data")
    (place / "obj.names").write_text(NAMES)
    (place / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )


def _darknet_of_another_machine(place: Path) -> None:
    write(place / "obj", place / "obj", 20)
    _lists(place, "/home/me/darknet/data/", "obj")
    (place / "train.txt").write_text((place / "train.txt").read_text().replace("/", "\\"))
    (place / "obj.names").write_text(NAMES)


def _ultralytics_lists(place: Path) -> None:
    write(place / "images", place / "labels", 20)
    _lists(place, "./", "images")
    (place / "data.yaml").write_text("path: /somewhere/else\ntrain: train.txt\nval: valid.txt\nnames: [cat, dog]\n")


def _roboflow(place: Path) -> None:
    write(place / "train/images", place / "train/labels", 14)
    write(place / "valid/images", place / "valid/labels", 6, 14)
    (place / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
    )


def _roboflow_darknet(place: Path) -> None:
    for split, count, first in (("train", 14, 0), ("valid", 6, 14)):
        write(place / split, place / split, count, first)
        (place / split / "_darknet.labels").write_text(NAMES)


def _colab(place: Path) -> None:
    write(place / "train", place / "labels", 14)
    shutil.rmtree(place / "labels")
    write(place / "images/train", place / "labels/train", 14)
    write(place / "images/val", place / "labels/val", 6, 14)
    shutil.rmtree(place / "train")
    root = "/content/drive/MyDrive/set"
    (place / "data.yaml").write_text(f"path: {root}\ntrain: {root}/images/train\nval: {root}/images/val\nnames: [cat, dog]\n")


@pytest.mark.parametrize(
    "layout",
    [
        _cvat_ultralytics, _cvat_yolo11, _darknet_of_another_machine, _ultralytics_lists, _roboflow, _roboflow_darknet, _colab,
    ],
)  # fmt: skip
def test_splits_that_a_tool_wrote_stay_and_the_test_split_is_drawn(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path / "own")
    found = arrange(tmp_path / "own", tmp_path / "out")
    assert [str(each) for each in found.problems if each.blocking] == []
    assert _cats_and_dogs(tmp_path / "out") == {"cat": 10, "dog": 10}
    assert sorted(path.stem for path in (tmp_path / "out/images/val").iterdir()) == [f"{n:03d}" for n in range(14, 20)]
    assert len(list((tmp_path / "out/images/test").iterdir())) == 3


def _cats_and_dogs(out: Path) -> dict[str, int]:
    problems, counts = check(out)
    assert [str(problem) for problem in problems if problem.blocking] == []
    assert all(len(boxes) == 1 for boxes in read(out).labels), "every image has its own label"
    return counts


def test_an_absent_test_split_is_noted_because_its_images_are_drawn(tmp_path: Path) -> None:
    _roboflow(tmp_path / "own")
    (note,) = arrange(tmp_path / "own", tmp_path / "out").problems
    assert (note.blocking, note.altered) == (False, True)
    assert note.what == "test names ../test/images, which is not there: its images are drawn from the others"


def _labelimg(place: Path) -> None:
    write(place, place, 20)
    (place / "classes.txt").write_bytes(NAMES.encode("utf-16"))
    (place / "notes.txt").write_text("ask Ann\n")
    (place / "licence.txt").write_text("These images are mine.\n")


def _labelimg_with_a_save_folder(place: Path) -> None:
    write(place, place / "labels", 20)
    (place / "labels/classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")


def _label_studio(place: Path) -> None:
    write(place / "images", place / "labels", 20)
    (place / "classes.txt").write_text(NAMES)
    (place / "notes.json").write_text("{}")


def _nested(place: Path) -> None:
    for camera in (1, 2):
        write(place / f"images/camera{camera}", place / f"labels/camera{camera}", 10, 10 * camera)
        (place / f"labels/camera{camera}/classes.txt").write_text(NAMES)


def _names_file(place: Path) -> None:
    write(place / "images", place / "labels", 20)
    (place / "coco.names").write_text(NAMES)
    (place / "data.yaml").write_text("train: images\nnames: coco.names\n")


def _one_yaml_file_with_names(place: Path) -> None:
    write(place / "images", place / "labels", 20)
    (place / "hyp.yaml").write_text("lr0: 0.01\n")
    (place / "compose.yml").write_text("services: {}\n")
    (place / "pets.yaml").write_text("names: [cat, dog]\n")


def _yaml_files_without_names(place: Path) -> None:
    _labelimg(place)
    (place / "hyp.yaml").write_text("lr0: 0.01\n")
    (place / "compose.yml").write_text("services: {}\n")


def _below_a_folder_images(place: Path) -> None:
    _labelimg(place / "images" / "set")
    shutil.copytree(place / "images" / "set", place, dirs_exist_ok=True)
    shutil.rmtree(place / "images")


@pytest.mark.parametrize(
    "layout",
    [
        _labelimg, _labelimg_with_a_save_folder, _label_studio, _nested, _names_file, _below_a_folder_images,
        _one_yaml_file_with_names, _yaml_files_without_names,
    ],
)  # fmt: skip
@pytest.mark.parametrize("above", ["own", "images/own"])
def test_images_without_splits_are_found_with_their_labels(tmp_path: Path, layout: Callable[[Path], None], above: str) -> None:
    layout(tmp_path / above)
    assert [str(each) for each in arrange(tmp_path / above, tmp_path / "out").problems if each.unused != "ignored"] == []
    assert _cats_and_dogs(tmp_path / "out") == {"cat": 10, "dog": 10}


@pytest.mark.parametrize("nested", [False, True])
def test_images_of_the_same_name_from_several_folders_all_keep_their_labels(tmp_path: Path, nested: bool) -> None:
    for camera in (1, 2):
        names = (f"images/{camera}", f"labels/{camera}") if nested else (f"{camera}/images", f"{camera}/labels")
        write(tmp_path / "own" / names[0], tmp_path / "own" / names[1], 20)
        for number in range(20):
            draw = np.random.default_rng(100 * camera + number)
            content = png(draw.integers(0, 256, (32, 40, 3), dtype=np.uint8))
            (tmp_path / "own" / names[0] / f"{number:03d}.png").write_bytes(content)
            (tmp_path / "own" / names[1] / f"{number:03d}.txt").write_text(f"{camera - 1} 0.5 0.5 0.{number + 10} 0.3\n")
    places = "images" if nested else "[1/images, 2/images]"
    (tmp_path / "own/data.yaml").write_text(f"train: {places}\nnames: [cat, dog]\n")
    found = arrange(tmp_path / "own", tmp_path / "out")
    assert [str(each) for each in found.problems if each.unused != "ignored"] == []
    assert _cats_and_dogs(tmp_path / "out") == {"cat": 20, "dog": 20}
    for name, source in found.sources.items():
        assert (tmp_path / "out" / name).read_bytes() == source.read_bytes() or name == "data.yaml"


def test_a_linked_image_has_the_label_of_its_own_name(tmp_path: Path) -> None:
    write(tmp_path / "own/images", tmp_path / "own/labels", 20)
    (tmp_path / "own/classes.txt").write_text(NAMES)
    (tmp_path / "objects").mkdir()
    for path in (tmp_path / "own/images").iterdir():
        path.rename(tmp_path / "objects" / f"ab{path.stem}.png")
        path.symlink_to(tmp_path / "objects" / f"ab{path.stem}.png")
    assert [str(each) for each in arrange(tmp_path / "own", tmp_path / "out").problems if each.unused != "ignored"] == []
    assert _cats_and_dogs(tmp_path / "out") == {"cat": 10, "dog": 10}


def _missing_image(place: Path) -> None:
    _cvat_yolo11(place)
    (place / "obj_train_data/003.png").unlink()


def _no_images(place: Path) -> None:
    _cvat_yolo11(place)
    for path in (place / "obj_train_data").glob("*.png"):
        path.unlink()


def _wrong_val(place: Path) -> None:
    _colab(place)
    (place / "data.yaml").write_text("train: images/train\nval: images/vall\nnames: [cat, dog]\n")


def _no_train(place: Path) -> None:
    _colab(place)
    (place / "data.yaml").write_text("train: images/training\nval: images/val\nnames: [cat, dog]\n")


def _orphan_beside(place: Path) -> None:
    _labelimg(place)
    (place / "003.png").unlink()


def _two_lists_of_names(place: Path) -> None:
    _label_studio(place)
    (place / "labels/classes.txt").write_text("dog\ncat\n")


def _keypoints(place: Path) -> None:
    _colab(place)
    (place / "data.yaml").write_text("train: images/train\nkpt_shape: [4, 2]\nnames: [cat, dog]\n")


def _two_yaml_files(place: Path) -> None:
    _colab(place)
    (place / "data.yaml").rename(place / "pets.yaml")
    (place / "people.yml").write_text("names: [person]\n")


def _broken_yaml_file(place: Path) -> None:
    _label_studio(place)
    (place / "a.yaml").write_text("names: [")
    (place / "b.yaml").write_text("lr: 0.1\n")


def _another_count(place: Path) -> None:
    _cvat_yolo11(place)
    (place / "obj.data").write_text((place / "obj.data").read_text().replace("classes = 2", "classes = 80"))


def _beside_splits(place: Path) -> None:
    _roboflow_darknet(place)
    (place / "new.png").write_bytes(image(99))


def _one_label_for_two(place: Path) -> None:
    _label_studio(place)
    (place / "images/003.jpg").write_bytes(image(99))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing_image, "own/train.txt: it lists images that are not here; export them with the labels, or remove the lines"),
        (_no_images, "own/train.txt: it lists images that are not here"),
        (_wrong_val, "own/data.yaml: val names images/vall, which is not there, and 6 images belong to no split, such as "),
        (_no_train, "own/data.yaml: train names images/training, which is not there"),
        (_orphan_beside, "own/003.txt: label files have no image"),
        (_two_lists_of_names, "own/classes.txt: the class names differ from those in "),
        (_keypoints, "own/data.yaml: kpt_shape says that labels have keypoints"),
        (_two_yaml_files, "own: people.yml and pets.yaml all have class names; rename the right one to data.yaml"),
        (_broken_yaml_file, "own/a.yaml: the file is not YAML"),
        (_another_count, "own/obj.data: classes is 80, but the number of class names is 2"),
        (_beside_splits, "own: 1 images are beside the folders train, valid"),
        (_one_label_for_two, "own/images/003.png: images have the label file of another image"),
    ],
)
def test_what_an_export_lacks_is_told(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(tmp_path / "own")
    found = [str(each) for each in arrange(tmp_path / "own", tmp_path / "out").problems if each.blocking]
    assert any(f"{tmp_path}/{said}" in text for text in found), found
