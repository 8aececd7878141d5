"""`data add` of a folder as label tools and people write it: read by the same code as by `init`, and told by the same names."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openmlops.cli import app
from openmlops.errors import DataInvalid
from openmlops.operations.projects.create import create
from openmlops.settings import Settings
from shapes import folders
from usecases.yolo_folder import test_yolo_exports as exports
from usecases.yolo_folder.test_yolo_arrange import write


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a detector's data."""
    place = tmp_path_factory.mktemp("tools")
    write(place / "own" / "images", place / "own" / "labels", 12)
    (place / "own" / "classes.txt").write_text("cat\ndog\n")
    create(place / "some-pets", "detection", place / "own")
    return place / "some-pets"


def add(folder: Path, *words: str) -> dict:
    done = CliRunner().invoke(app, ["data", "add", str(folder), "--json", *words])
    if done.exception:
        raise done.exception
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "layout",
    [exports._cvat_yolo11, exports._roboflow, exports._label_studio, exports._labelimg, exports._colab],
    ids=["CVAT", "Roboflow", "Label Studio", "LabelImg", "Ultralytics"],
)
def test_the_export_of_a_label_tool_becomes_the_next_version(
    layout: Callable[[Path], None], pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets)
    layout(tmp_path / "export")
    added = add(tmp_path / "export")
    raw = pets / "data" / "raw" / "some_pets"
    assert (added["rows"], added["path"], added["account"]["used"]) == (20, str(raw), 20)
    assert exports._cats_and_dogs(raw) == {"cat": 10, "dog": 10}
    assert not list((pets / ".openmlops").glob("arranged-*"))
    drawn = [note for note in added["notes"] if "its images are drawn from the others" in note["what"]]
    expected = [str(tmp_path / "export" / "data.yaml")] if layout is exports._roboflow else []
    assert [note["where"] for note in drawn] == expected


def test_what_an_export_lacks_is_told_by_its_own_names_and_nothing_is_added(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets)
    before = (pets / "data/raw/some_pets.dvc").read_text()
    own = tmp_path / "export"
    exports._labelimg(own)
    (own / "003.txt").write_text("7 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.3 0.1 0.3 0.3\n")
    with pytest.raises(DataInvalid, match=f"{own} did not pass the data checks: {own}/003.txt: the class 7 is not one of 0..1"):
        add(own)
    with pytest.raises(DataInvalid, match=f"{own}/003.txt: polygons are read as the boxes around them"):
        add(own, "--strict", "--on-bad-label", "skip")
    (own / "classes.txt").unlink()
    with pytest.raises(DataInvalid, match=f"{own}: there are no class names"):
        add(own)
    assert (pets / "data/raw/some_pets.dvc").read_text() == before
    (own / "classes.txt").write_text("cat\ndog\n")
    (own / "004.png").write_bytes(b"no image")
    added = add(own, "--on-bad-label", "skip", "--on-left-out", "skip")
    notes = {(note["where"], note["what"].split(",")[0]) for note in added["notes"]}
    assert notes == {(f"{own}/003.txt", "left out"), (f"{own}/003.txt", "polygons are read as the boxes around them")}
    assert added["account"]["left_out"] == 1
    assert any(f"{own}/004.png" in reason for reason in added["account"]["reasons"])
    assert (own / "004.png").exists()


def test_the_own_folder_is_never_arranged_anew(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets)
    raw = pets / "data" / "raw" / "some_pets"
    text = (raw / "data.yaml").read_text()
    (raw / "data.yaml").write_text(text.replace("test: images/test\n", ""))
    with pytest.raises(DataInvalid, match=r"data\.yaml: test is missing; name its folder"):
        add(raw)
    assert (raw / "images" / "test").is_dir()
    (raw / "data.yaml").write_text(text)


def test_folders_of_classes_are_split_as_init_splits_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = create(tmp_path / "some-shapes", "classification", folders(tmp_path / "own", 8))
    monkeypatch.chdir(tmp_path / "some-shapes")
    more = folders(tmp_path / "more", 10, seed=1)
    (more / "disc" / "0000.png").write_bytes(b"no image")
    added = add(more, "--on-left-out", "skip")
    assert (created.train, added["rows"], added["account"]["left_out"]) == (15, 29, 1)
    assert f"{more}/disc/0000.png" in added["account"]["reasons"][0]
    (more / "disc").rename(more / "disk")
    with pytest.raises(DataInvalid, match=f"{more}/disk: the folder is not one of the classes disc, square, triangle"):
        add(more, "--on-left-out", "skip")
    assert Settings.load({}, tmp_path / "some-shapes" / ".env").use_case == "some_shapes:USE_CASE"
