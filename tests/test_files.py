"""Atomic files and manifests."""

from pathlib import Path

import pytest

from openmlops.errors import DataCorrupt
from openmlops.files import Manifest, replacing, replacing_folder, write_bytes


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), replacing(path) as beside:
        beside.write_bytes(b"half of the n")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    with replacing_folder(tmp_path / "set") as new:
        (new / "new").touch()
        assert [path.name for path in (tmp_path / "set").iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]


def test_a_replacement_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "set") as new:
        (new / "half").touch()
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "set", tmp_path / "set" / "old"]


def test_what_a_killed_replacement_left_is_put_right(tmp_path: Path) -> None:
    (tmp_path / ".set.old").mkdir()  # killed between the two renames
    (tmp_path / ".set.old" / "old").touch()
    (tmp_path / ".set.new" / "sub").mkdir(parents=True)
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "set") as new:
        assert list(new.iterdir()) == []
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "set", tmp_path / "set" / "old"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bytes(tmp_path / "f" / "a", b"aaa")
    write_bytes(tmp_path / "f" / "sub" / "b", b"bbb")
    return tmp_path / "f"


def test_a_folder_that_is_as_recorded_has_no_differences(folder: Path) -> None:
    assert Manifest.of(folder).differences(folder) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "a").write_bytes(b"aab"), "a differs from its recorded content"),
        (lambda f: (f / "a").write_bytes(b"aa"), "a has 2 bytes instead of 3"),
        (lambda f: (f / "sub" / "b").unlink(), "sub/b is missing"),
        (lambda f: (f / "c").write_bytes(b""), "c is not in the manifest"),
    ],
)
def test_every_change_is_a_difference(folder: Path, change: object, said: str) -> None:
    manifest = Manifest.of(folder)
    change(folder)  # type: ignore[operator]
    (difference,) = manifest.differences(folder)
    assert said in difference


def test_the_fingerprint_does_not_depend_on_the_place(folder: Path, tmp_path: Path) -> None:
    before = Manifest.of(folder).fingerprint
    assert Manifest.of(folder.rename(tmp_path / "elsewhere")).fingerprint == before


def test_a_manifest_survives_writing(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.of(folder)
    assert Manifest.read(manifest.write(tmp_path / "m.json")) == manifest


def test_rubbish_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match=r"m\.json is not a readable manifest"):
        Manifest.read(write_bytes(tmp_path / "m.json", b"{"))
