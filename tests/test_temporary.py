"""Temporary files and folders of killed processes are removed by the next; those of living processes are not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openmlops.files import replacing, write_bytes
from openmlops.temporary import OLD_SECONDS, temporary_folder

WRITER = """
import sys, time
from pathlib import Path
from openmlops.files import replacing
from openmlops.temporary import temporary_folder
folder = Path(sys.argv[1])
with replacing(folder / "confusion_matrix.png") as beside, temporary_folder(folder, "arranged-") as scratch:
    beside.write_bytes(b"half")
    (scratch / "half").mkdir()
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """A process that is writing a file and a folder."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def write(folder: Path) -> None:
    write_bytes(folder / "confusion_matrix.png", b"whole")
    with temporary_folder(folder, "arranged-"):
        pass


def left(folder: Path) -> list[str]:
    return sorted(path.name.partition(".png")[0][:9] for path in folder.iterdir() if path.name != "confusion_matrix.png")


def test_what_a_killed_process_left_is_removed_by_the_next(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    writer.kill()
    writer.wait()
    assert len(left(tmp_path)) == 2
    write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["confusion_matrix.png"]


def test_what_a_living_process_writes_is_left_alone(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    write(tmp_path)
    assert left(tmp_path) == [".confusio", "arranged-"]


def make_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + OLD_SECONDS + 1
    monkeypatch.setattr("openmlops.temporary.time.time", lambda: later)


@pytest.mark.parametrize(("change", "remains"), [(lambda path, patch: None, True), (make_old, False)], ids=["new", "old"])
def test_a_file_without_the_name_of_a_locked_one_is_removed_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, pytest.MonkeyPatch], None], remains: bool
) -> None:
    """As `placing` and earlier releases named them."""
    (unlocked := tmp_path / ".confusion_matrix.png.0a1b2c3d").touch()
    change(unlocked, monkeypatch)
    write(tmp_path)
    assert unlocked.exists() is remains


@pytest.mark.parametrize(
    "name", [".confusion_matrix.png", ".confusion_matrix.png.bak", ".other.png.0a1b2c3d.part", "arranged-by-hand"]
)
def test_files_of_others_stay(tmp_path: Path, name: str) -> None:
    (theirs := tmp_path / name).mkdir(mode=0o700)
    write(tmp_path)
    assert theirs.is_dir()


def test_nothing_follows_a_link(tmp_path: Path) -> None:
    (target := tmp_path / "target").touch()
    (link := tmp_path / ".confusion_matrix.png.0a1b2c3d.part").symlink_to(target)
    write(tmp_path)
    assert target.exists()
    assert link.is_symlink()


def test_nothing_is_removed_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (unknown := tmp_path / ".confusion_matrix.png.0a1b2c3d.part").touch()

    def refuse(*arguments: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("openmlops.temporary.fcntl.flock", refuse)
    with replacing(tmp_path / "confusion_matrix.png") as beside:
        beside.write_bytes(b"whole")
    assert unknown.exists()
