"""Atomic files and manifests."""

import os
import socket
from contextlib import chdir
from pathlib import Path

import pytest

from openmlops.errors import DataCorrupt, DataError
from openmlops.files import (
    MOST_NAME_BYTES,
    Manifest,
    content_of,
    copy_folder,
    replacing,
    replacing_folder,
    storable_name,
    write_bytes,
)


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


@pytest.mark.parametrize(
    "name",
    ["0001.png", "été 数据 (1).jpg", "at\u202f3.04\u202fPM.png", "👩\u200d🚀.jpg", "x" * (MOST_NAME_BYTES - len(".jpeg"))],
)
def test_a_name_that_every_store_takes_is_kept(name: str) -> None:
    assert storable_name(name) == name


@pytest.mark.parametrize(
    "names", [(b"caf\xe9", b"caf\xe8"), (b"a\\b", b"a_b\n"), (b"x" * 255, b"x" * 254), ("数".encode() * 85, "数".encode() * 84)]
)
def test_another_name_becomes_one_of_our_own_that_differs_for_each(names: tuple[bytes, bytes]) -> None:
    ours = {storable_name(os.fsdecode(name)) for name in names}
    assert len(ours) == 2
    assert all(len(name.encode()) <= MOST_NAME_BYTES and name.isprintable() for name in ours)


def test_a_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / ("x" * 255), b"a").read_bytes() == b"a"


def test_copies_of_a_read_only_folder_can_be_changed_and_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_bytes(source / "sub" / "file", b"a").chmod(0o400)
    (source / ".hidden").touch()
    for folder in (source / "sub", source):
        folder.chmod(0o500)
    copy_folder(source, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == ["file", "sub"]
    modes = [(tmp_path / "copy" / name).stat().st_mode & 0o200 for name in ("", "sub", "sub/file")]
    assert all(modes)


def test_a_file_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"gone.png cannot be copied \(No such file or directory\). Correct it, or remove it"):
        copy_folder(tmp_path / "source", tmp_path / "copy")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "device", "folder"])
def test_what_is_no_file_is_refused_and_never_waited_for(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "odd"
    if kind == "folder":
        place.mkdir()
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening, chdir(tmp_path):
            listening.bind("odd")
    else:
        os.mkfifo(place if kind == "pipe" else tmp_path / "pipe")
        if kind != "pipe":
            place.symlink_to("pipe")
    with pytest.raises(OSError, match=r"Not a regular file|Is a directory|No such device or address"):
        content_of(place)
