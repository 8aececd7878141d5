"""Label lines as tools write them: what is read as a box, with which note, and what is refused or left out."""

from pathlib import Path

import numpy as np
import pytest

from openmlops.errors import DataError
from openmlops.usecases.yolo_folder.arrange import arrange
from openmlops.usecases.yolo_folder.data import check, leave_out_bad_labels, read
from openmlops.usecases.yolo_folder.labelled import labelled
from openmlops.usecases.yolo_folder.labels import CONFIDENCE, OVER, POLYGON, have_keypoints, parse
from usecases.yolo_folder.test_yolo_arrange import image, write

BOX = [30, 20, 70, 60, 1]
"""in an image of 200x100 pixels, as `1 0.25 0.4 0.2 0.4`"""


def parsed(path: Path, content: str | bytes) -> tuple[list[list[float]], list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    boxes, problems = parse(path, "a.txt", 2, (100, 200))
    return boxes.astype(float).round(3).tolist(), [problem.what for problem in problems]


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("1 0.25 0.4 0.2 0.4", []),
        ("# made by a tool\n1 0.25 0.4 0.2 0.4 # sure\n#\n", []),
        ("\ufeff1\t0.25\t0.4 0.2  0.4\r\n\r\n", []),
        ("1 0.25 0.4 0.2 0.4\n".encode("utf-16"), []),
        ("1.0 2.5e-1 .4 0.2 0.4", []),
        ("1 0.25 0.4 0.2 0.4 0.91", [CONFIDENCE]),
        ("1 0.25 0.4 0.2 0.4 17", [CONFIDENCE]),
        ("1 0.15 0.2 0.35 0.2 0.35 0.6 0.15 0.6", [POLYGON]),
        ("1 0.15 0.6 0.3 0.2 0.35 0.5", [POLYGON]),
        ("1 0.35 0.4 0.25 0.2 0.15 0.4 0.25 0.6 0.3 0.5", [POLYGON]),
    ],
)
def test_what_tools_write_is_read_as_the_box_that_is_meant(tmp_path: Path, content: str | bytes, notes: list[str]) -> None:
    assert parsed(tmp_path / "a.txt", content) == ([BOX], notes)


@pytest.mark.parametrize(
    ("line", "box", "notes"),
    [
        ("0 0.0495 0.5 0.1 0.2", [0, 40, 19.9, 60, 0], []),
        ("0 0.045 0.5 0.1 0.2", [0, 40, 19, 60, 0], [OVER]),
        ("0 0.01 0.5 0.04 0.2", [0, 40, 6, 60, 0], [OVER]),
        ("0 0.5 0.957 0.2 0.1", [80, 90.7, 120, 100, 0], [OVER]),
        ("0 -0.005 0.1 0.2 0.1 0.2 1.005", [0, 10, 40, 100, 0], [POLYGON]),
    ],
)
def test_a_box_that_reaches_over_the_edge_a_little_is_cut(
    tmp_path: Path, line: str, box: list[float], notes: list[str]
) -> None:
    assert parsed(tmp_path / "a.txt", line) == ([box], notes)


BAD = {
    "0 0.039 0.5 0.1 0.2": "a box is outside the image",
    "0 0.5 0.5 0.2 1.03": "a box is outside the image",
    "0 30 40 20 20": "a box is outside the image",
    "0 0.1 0.1 0.2 0.1 0.2 1.2": "a box is outside the image",
    "0 0.1 0.1 0.2 0.1 0.3 0.1": "a box has no area",
    "0 0.5 0.5 0 0.2": "a box has no area",
    "2 0.5 0.5 0.1 0.2": "the class 2 is not one of 0..1",
    "-1 0.5 0.5 0.1 0.2": "the class -1 is not one of 0..1",
    "0 0.1 0.1 0.2 0.1 0.2 0.2 0.3": "a line has 8 numbers, neither a box nor a polygon",
    "0 0.5 0.5 0.1": "a line is not five numbers",
    "0 0.5 0.5 0.1 nan": "a line is not five numbers",
    "0 0,5 0,5 0,1 0,2": "a line is not five numbers",
    "cat 0.5 0.5 0.1 0.2": "a line is not five numbers",
}


@pytest.mark.parametrize("line", BAD)
def test_what_could_be_meant_otherwise_is_refused(tmp_path: Path, line: str) -> None:
    boxes, (wrong,) = parsed(tmp_path / "a.txt", f"1 0.25 0.4 0.2 0.4\n{line}\n")
    assert boxes == [BOX]
    assert wrong.startswith(BAD[line])


def test_bad_lines_are_left_out_by_name_and_stay_as_comments(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "images" / split / f"{number}.png").write_bytes(image(hash((split, number)) % 1000))
            (tmp_path / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\ntest: images/test\nnames: [cat, dog]\n")
    labels = tmp_path / "labels" / "train" / "1.txt"
    labels.write_text("".join(f"{line}\n" for line in ("# by hand", "1 0.25 0.4 0.2 0.4", *BAD)), encoding="utf-16")
    untouched = (tmp_path / "labels" / "train" / "0.txt").read_bytes()
    assert any(problem.blocking for problem in check(tmp_path)[0])

    left_out = leave_out_bad_labels(tmp_path)
    assert sum(problem.count for problem in left_out) == len(BAD)
    assert all(problem.altered and not problem.blocking and problem.where == "labels/train/1.txt" for problem in left_out)
    assert str(left_out[2]).endswith("left out, because the class 2 is not one of 0..1 (row 9)")
    text = labels.read_text()
    assert all(line in text for line in BAD)
    assert not any(problem.blocking for problem in check(tmp_path)[0])
    assert [len(boxes) for boxes in read(tmp_path).labels] == [1, 1, 1, 1]
    assert (tmp_path / "labels" / "train" / "0.txt").read_bytes() == untouched
    assert leave_out_bad_labels(tmp_path) == ()


def _line(values: np.ndarray) -> str:
    return " ".join(["0", *(f"{value:.5f}" for value in values.ravel())])


def poses(count: int, points: int, seed: int, marked: bool) -> list[str]:
    """Lines of boxes with so many points; some of them were not seen."""
    draw, lines = np.random.default_rng(seed), []
    for _ in range(count):
        size = draw.uniform(0.05, 0.9, 2)
        centre = draw.uniform(size / 2, 1 - size / 2)
        found = centre + size * draw.uniform(-0.5, 0.5, (points, 2))
        seen = draw.random((points, 1)) < 0.9
        rest = np.hstack([found * seen, 2 * seen]) if marked else found * seen
        lines.append(_line(np.concatenate([centre, size, rest.ravel()])))
    return lines


def polygons(count: int, corners: int, seed: int, small: bool) -> list[str]:
    """Lines of so many corners around a centre, `small` ones all in the half of the image where they may be read as boxes."""
    draw, lines = np.random.default_rng(seed), []
    for _ in range(count):
        size = draw.uniform(0.02, 0.1 if small else 0.3)
        centre = draw.uniform(0.3, 0.55 if small else 0.7, 2)
        angles = np.sort(draw.uniform(0, 2 * np.pi, corners) if corners > 4 else draw.uniform(0, 6) + np.arange(corners) * 1.5)
        lines.append(_line(centre + size * np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    return lines


@pytest.mark.parametrize("count", [10, 30])
def test_lines_of_poses_are_told_from_polygons(count: int) -> None:
    for seed in range(20):
        for corners in (3, 4, 5, 9):
            for small in (False, True):
                assert not have_keypoints(["\n".join(polygons(count, corners, seed, small))])
        for points in (1, 2, 4, 17):
            assert have_keypoints(poses(count, points, seed, marked=False))
            if points % 2 == 0:  # the number of others is even, which is no polygon
                assert have_keypoints(poses(count, points, seed, marked=True))
    assert not have_keypoints([*poses(count, 4, 0, marked=False), *polygons(count, 5, 0, small=True)])
    assert not have_keypoints(["0 0.5 0.5 0.2 0.2", "x", ""])


def test_poses_without_kpt_shape_are_refused_and_not_read_as_polygons(tmp_path: Path) -> None:
    write(tmp_path / "own/images", tmp_path / "own/labels", 12)
    (tmp_path / "own/classes.txt").write_text("cat\n")
    for number, line in enumerate(poses(12, 4, 1, marked=False)):
        (tmp_path / f"own/labels/{number:03d}.txt").write_text(f"{line}\n")
    arrange(tmp_path / "own", tmp_path / "out")
    (wrong,) = [each for each in check(tmp_path / "out")[0] if each.blocking]
    assert wrong.what.startswith("the lines are boxes with keypoints, which are not supported; export boxes")
    with pytest.raises(DataError, match="boxes with keypoints"):
        labelled(tmp_path / "own")


@pytest.mark.parametrize("line", ["0 0.5_0 0.5 0.5 0.5", "\uff10 0.5 0.5 0.5 0.5", "0 0,5 0,5 0,5 0,5", "0x0 .5 .5 .5 .5"])
def test_what_only_python_reads_as_a_number_is_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"{line}\n")
    boxes, (wrong,) = parse(tmp_path / "a.txt", "a.txt", 2, (32, 32))
    assert (len(boxes), wrong.what.startswith("a line is not five numbers"), wrong.rows) == (0, True, (1,))
