"""A label file gives boxes in pixels, or a problem with its lines; never an exception."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmlops.core.types import Problem
from openmlops.usecases.yolo_folder.labels import MAX_BOXES, MAX_BYTES, parse
from openmlops.usecases.yolo_folder.layout import label_text

SIZE = (100, 200)


def parsed(folder: Path, content: str | bytes, classes: int = 2) -> tuple[np.ndarray, list[Problem]]:
    (folder / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return parse(folder / "a.txt", "labels/a.txt", classes, SIZE)


def test_shares_become_pixels(tmp_path: Path) -> None:
    boxes, problems = parsed(tmp_path, "1 0.5 0.5 0.2 0.4\n\n0 0.05 0.9 0.1 0.2\n")
    assert problems == []
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[80, 30, 120, 70, 1], [0, 80, 20, 100, 0]], atol=1e-4)


@pytest.mark.parametrize("content", ["", "\n  \n", "\ufeff"])
def test_an_empty_file_holds_nobody(content: str, tmp_path: Path) -> None:
    boxes, problems = parsed(tmp_path, content)
    assert (boxes.shape, problems) == ((0, 5), [])


def test_no_file_means_nobody(tmp_path: Path) -> None:
    boxes, problems = parse(tmp_path / "none.txt", "labels/none.txt", 1, SIZE)
    assert (boxes.shape, boxes.dtype, problems) == ((0, 5), np.float32, [])


def test_a_box_that_touches_the_border_within_the_tolerance_is_cut_off(tmp_path: Path) -> None:
    boxes, problems = parsed(tmp_path, "0 0.5 0.5 1.0015 1.0015\n")
    assert problems == []
    assert boxes.tolist() == [[0, 0, 200, 100, 0]]


def test_equal_lines_are_one_box_and_reported(tmp_path: Path) -> None:
    boxes, (problem,) = parsed(tmp_path, "0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n0 0.50 0.5 0.1 0.1\n")
    assert len(boxes) == 2
    assert (problem.rows, problem.blocking) == ((3,), False)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    corners = np.sort(np.random.default_rng(0).integers(0, 100, (50, 2, 2)), axis=1)
    corners[:, 1] += 1
    written = np.column_stack([corners.reshape(-1, 4), np.arange(50) % 2]).astype(np.float32)
    boxes, problems = parsed(tmp_path, label_text(written, (101, 200)).replace("\n", "\r\n"))
    assert [problem for problem in problems if problem.blocking] == []
    expected = written * np.array([1, 100 / 101, 1, 100 / 101, 1])
    np.testing.assert_allclose(boxes, expected[: len(boxes)], atol=1e-3)


WRONG = {
    "four-numbers": ("0 0.5 0.5 0.1", "not five numbers"),
    "a-word": ("0 0.5 0.5 0.1 wide", "not five numbers"),
    "commas": ("0,0.5,0.5,0.1,0.1", "not five numbers"),
    "nan": ("0 nan 0.5 0.1 0.1", "not five numbers"),
    "infinite": ("0 0.5 0.5 inf 0.1", "not five numbers"),
    "keypoints": ("0 0.1 0.1 0.2 0.1 0.2 0.2 2", "8 numbers, neither a box nor a polygon; keypoints are not supported"),
    "class-2": ("2 0.5 0.5 0.1 0.1", "the class 2 is not one of 0..1"),
    "class-minus-1": ("-1 0.5 0.5 0.1 0.1", "the class -1 is not one of 0..1"),
    "class-half": ("0.5 0.5 0.5 0.1 0.1", "the class 0.5 is not one of 0..1"),
    "no-width": ("0 0.5 0.5 0 0.1", "no area"),
    "negative-height": ("0 0.5 0.5 0.1 -0.1", "no area"),
    "in-the-tolerance-only": ("0 1.0005 0.5 0.0005 0.1", "no area"),
    "pixels": ("0 100 50 20 10", "is outside the image; use coordinates"),
    "too-far-left": ("0 0.04 0.5 0.1 0.1", "is outside the image"),
    "too-far-down": ("0 0.5 0.96 0.1 0.1", "is outside the image"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_line_is_named_and_gives_no_box(kind: str, tmp_path: Path) -> None:
    line, what = WRONG[kind]
    boxes, (problem,) = parsed(tmp_path, f"0 0.5 0.5 0.2 0.2\n{line}\n1 0.3 0.3 0.1 0.1\n")
    assert what in problem.what
    assert (problem.where, problem.rows, problem.blocking) == ("labels/a.txt", (2,), True)
    assert boxes[:, 4].tolist() == [0, 1]


def test_too_many_boxes_are_refused(tmp_path: Path) -> None:
    lines = [f"0 0.5 0.5 0.1 {0.1 + number * 1e-5:.6f}\n" for number in range(MAX_BOXES + 1)]
    assert parsed(tmp_path, "".join(lines[:-1]))[1] == []
    boxes, (problem,) = parsed(tmp_path, "".join(lines))
    assert "more than 1000 boxes" in problem.what
    assert len(boxes) == 0


@pytest.mark.parametrize(("content", "what"), [(b"0 \xff", "UTF-8"), (b"0" * (MAX_BYTES + 1), "bytes")])
def test_what_is_no_small_text_is_refused(content: bytes, what: str, tmp_path: Path) -> None:
    _, (problem,) = parsed(tmp_path, content)
    assert what in problem.what


def test_a_folder_in_place_of_a_label_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    _, (problem,) = parse(tmp_path / "a.txt", "labels/a.txt", 1, SIZE)
    assert "cannot be read" in problem.what


@given(content=st.one_of(st.binary(max_size=80), st.text("0123456789. -e\nnaif+_", max_size=80).map(str.encode)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_it_holds_boxes_are_inside_the_image(content: bytes, tmp_path: Path) -> None:
    boxes, _ = parsed(tmp_path, content)
    assert np.isfinite(boxes).all()
    assert (boxes[:, :2] < boxes[:, 2:4]).all()
    assert (boxes[:, :4] >= 0).all()
    assert (boxes[:, 2:4] <= (200, 100)).all()
