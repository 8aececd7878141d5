"""A class is called what people wrote into data.yaml or a list of names, and has the number that they gave it."""

from pathlib import Path

import pytest
import yaml

from openmlops.usecases.yolo_folder import config
from openmlops.usecases.yolo_folder.arrange import arrange
from openmlops.usecases.yolo_folder.data import read
from openmlops.usecases.yolo_folder.layout import data_yaml


def names_in(tmp_path: Path, text: str | bytes) -> tuple[tuple[str, ...], str]:
    (tmp_path / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    content, wrong = config.read(tmp_path / "data.yaml")
    return ((), wrong) if wrong else config.class_names(content)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [yes, no, on, off, y, N]", ("yes", "no", "on", "off", "y", "N")),
        ("names: {0: on, 1: off}", ("on", "off")),
        ("names: [null, Null, ~, true, False]", ("null", "Null", "~", "true", "False")),
        ("names: [007, 0o17, 1e3, 0x1f, 1_000, 12:30:45, 2026-11-29, .inf, 1.50, =]",
         ("007", "0o17", "1e3", "0x1f", "1_000", "12:30:45", "2026-11-29", ".inf", "1.50", "=")),
        ("names: ['yes', \"no\"]", ("yes", "no")),
        ("names: {1: dog, 0: cat}", ("cat", "dog")),
        ("names: {'0': cat, '1': dog}", ("cat", "dog")),
        ("names:\n" + "".join(f"  {number:02}: n{number}\n" for number in range(11)), tuple(f"n{n}" for n in range(11))),
        ("names: [cat, dog]\nnc: 2", ("cat", "dog")),
        ("names: [cat, dog]\nnc:", ("cat", "dog")),
        ("names: [chat, \u00e9l\u00e9phant, \u72ac]".encode("utf-16"), ("chat", "\u00e9l\u00e9phant", "\u72ac")),
        ("\ufeffnames: [cat]", ("cat",)),
    ],
)  # fmt: skip
def test_names_are_the_texts_that_people_wrote(tmp_path: Path, text: str | bytes, names: tuple[str, ...]) -> None:
    assert names_in(tmp_path, text) == (names, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: {0: person, 2: car, 5: bus}", "names has the numbers 0, 2, 5, not 0 to 2"),
        ("names: {1: cat, 2: dog}", "names has the numbers 1, 2, not 0 to 1; label files mean these numbers"),
        ("names: {1: cat, 2: dog}", "add the missing names, such as 0: unused"),
        ("names: {-1: cat, 0: dog}", "names has '-1' where a class number must be"),
        ("names: {0.0: cat, 1.0: dog}", "names has '0.0' where a class number must be"),
        ("names: {cat: 0, dog: 1}", "names has 'cat' where a class number must be"),
        ("names: {0: cat, 0: dog}", "the key '0', which is no text or there twice"),
        ("names: {0: cat, 00: dog}", "names has a class number twice"),
        ("names: [cat]\nnames: [dog]", "the key 'names', which is no text or there twice"),
        ("names: [cat, dog, cat]", "names has 'cat' twice"),
        ("names: {0: cat, 1: }", "class 1 has no name"),
        ("names: [cat, {dog: 1}]", "where a class name must be; put it into quotes"),
        ("names: [cat, dog]\nnc: 3", "nc is 3, but the number of class names is 2"),
        ("names: [cat, dog]\nnc: 1", "nc is 1, but the number of class names is 2"),
        ("names: [cat, dog]\nnc: two", "nc is two, but the number of class names is 2"),
        ("names: [cat, dog]\nnc: 2.0", "nc is 2.0, but the number of class names is 2"),
        ("names: !!python/object/apply:os.listdir ['.']", "has the tag"),
        ("names: [!!int 7]", "has the tag"),
        ("names: ['caf\u00e9']".encode("latin-1"), "not UTF-8 text"),
    ],
)  # fmt: skip
def test_names_that_could_mean_other_classes_are_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in names_in(tmp_path, text)[1]


@pytest.mark.parametrize("names", [("yes", "no"), ("007", "1e3"), ("null", "~"), ("a: b", "#c"), (" x", "[y]"), ("1", "2")])
def test_what_is_written_is_read_again_by_us_and_by_yaml(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert names_in(tmp_path, data_yaml(names)) == (names, "")
    assert tuple(yaml.safe_load(data_yaml(names))["names"].values()) == names


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"\xef\xbb\xbfcat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("cat\r\ndog\r\n".encode("utf-16"), ("cat", "dog")),
        ("\ufeffcat\ndog".encode("utf-16-be"), ("cat", "dog")),
        (b" cat \nhot dog\n", ("cat", "hot dog")),
    ],
)
def test_a_list_of_names_is_read_as_editors_save_it(tmp_path: Path, content: bytes, names: tuple[str, ...]) -> None:
    (tmp_path / "classes.txt").write_bytes(content)
    text, wrong = config.read_text(tmp_path / "classes.txt")
    assert wrong == ""
    assert config.listed_names(text) == (names, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cat\n\ndog\n", "line 2 is empty"),
        (b"\ncat\n", "line 1 is empty"),
        (b"", "no class names"),
        (b"cat\ncat\n", "'cat' twice"),
        (b"caf\xe9\n", "not UTF-8 text"),
        (b"\x00\x01\x02", "cannot be printed"),
    ],
)
def test_a_list_of_names_is_refused_under_its_own_name(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "classes.txt").write_bytes(content)
    (wrong, *_) = arrange(tmp_path / "own", tmp_path / "out").problems
    assert wrong.where == str(tmp_path / "own" / "classes.txt")
    assert said in wrong.what


def test_a_number_in_a_label_file_is_the_name_that_has_it(tmp_path: Path) -> None:
    from test_yolo_arrange import write

    write(tmp_path / "own" / "images", tmp_path / "own" / "labels", 20)
    (tmp_path / "own" / "data.yaml").write_text("train: images\nnames: {1: yes, 0: no}\n")
    assert arrange(tmp_path / "own", tmp_path / "out").problems == ()
    rows = read(tmp_path / "out")
    assert rows.names == ("no", "yes")
    assert sorted(int(boxes[0, 4]) for boxes in rows.labels) == [0] * 10 + [1] * 10


def test_a_count_that_contradicts_a_list_of_names_is_refused_too(tmp_path: Path) -> None:
    from test_yolo_arrange import write

    write(tmp_path / "own" / "images", tmp_path / "own" / "labels", 20)
    (tmp_path / "own" / "data.yaml").write_text("train: images\nnc: 3\n")
    (tmp_path / "own" / "classes.txt").write_text("cat\ndog\n")
    (wrong,) = arrange(tmp_path / "own", tmp_path / "out").problems
    assert str(wrong) == f"{tmp_path}/own/data.yaml: nc is 3, but the number of class names is 2; correct one of them"
