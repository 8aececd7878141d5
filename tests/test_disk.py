"""A full disk is one line with what is missing, whoever meets it; nothing half-made stays, and the same command goes on."""

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert

from openmlops import disk, terminal
from openmlops.adapters.database import connect, writing
from openmlops.adapters.mlflow_client import translating_errors
from openmlops.adapters.schema import PROGRESS
from openmlops.errors import DiskFull, ServiceUnavailable
from openmlops.files import copy_file, place_bytes, share_file, write_bytes
from openmlops.operations.projects import doctor
from openmlops.operations.retries import retry
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from test_whole_files import LIMIT, short_writes

LARGE = bytes(7 * 2**20)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    (place := tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def told(error: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    assert terminal.exit_code(error) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


WRITES: dict[str, Callable[[Path, Path], object]] = {
    "write_bytes": lambda path, source: write_bytes(path, LARGE),
    "place_bytes": lambda path, source: place_bytes(path, LARGE),
    "copy_file": lambda path, source: copy_file(source, path),
    "share_file": lambda path, source: share_file(source, path),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_file_that_does_not_fit_is_named_with_the_bytes_that_are_missing(
    write: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source := tmp_path / "source").write_bytes(LARGE)
    free = disk.free_bytes(small)
    line = told(lambda: WRITES[write](small / "model.onnx", source), capsys)
    assert line.startswith(f"error: The disk of {small}/model.onnx is full: {free:,} bytes are free; ")
    assert f"{len(LARGE):,} were to be written, {len(LARGE) - free:,} are missing. Free some space" in line
    assert list(small.iterdir()) == []


def test_a_database_on_a_full_disk_says_so_and_goes_on_when_there_is_room(small: Path) -> None:
    engine = connect(f"sqlite:///{small / 'openmlops.db'}")
    (filler := small / "filler").write_bytes(bytes(disk.free_bytes(small) - 8192))

    def write(first: int) -> None:
        rows = [{"name": f"{'n' * 200}{number}", "position": number} for number in range(first, first + 2000)]
        with writing(engine) as connection:
            connection.execute(insert(PROGRESS), rows)

    says = r"openmlops\.db cannot be used \(database or disk is full\): [\d,]+ bytes are free\. .* the same command goes on"
    with pytest.raises(DiskFull, match=says):
        write(0)
    filler.unlink()
    write(2000)
    with closing(sqlite3.connect(small / "openmlops.db")) as connection:
        assert connection.execute("SELECT count(*) FROM progress").fetchone() == (2000,)
    engine.dispose()


class Wrapped(Exception):
    """What a library makes of it."""


def wrapped() -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise Wrapped("the step failed") from error


def said() -> None:
    raise Wrapped("I/O error: No space left on device (os error 28)")


def of_mlflow() -> None:
    with translating_errors("sqlite:///mlflow.db"):
        raise OSError("(sqlite3.OperationalError) database or disk is full")


@pytest.mark.parametrize("error", [wrapped, said, of_mlflow])
def test_what_a_library_makes_of_a_full_disk_is_no_bug(error: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    line = told(error, capsys)
    assert "bug" not in line
    assert any(words in line for words in ("No space left", "disk is full"))
    assert "the same command goes on then" in line


def test_an_error_of_another_kind_stays_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise Wrapped("not a disk")

    assert "This is a bug in openmlops; details are in" in told(fail, capsys)


def test_a_bug_whose_report_cannot_be_written_is_still_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise Wrapped("not a disk")

    def refuse() -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(terminal, "_crash_file", refuse)
    assert "This is a bug in openmlops; details could not be written (No space left on device)" in told(fail, capsys)


def test_nobody_waits_for_a_full_disk(tmp_path: Path) -> None:
    """As one does for a server that is away."""
    calls: list[int] = []

    def operation(workspace: Workspace) -> None:
        calls.append(1)
        raise DiskFull("full")

    with pytest.raises(ServiceUnavailable):
        retry(operation, Workspace(Settings(openmlops_home=tmp_path, service_patience_seconds=60)))
    assert calls == [1]


def test_doctor_fails_where_a_disk_is_full(small: Path, tmp_path: Path) -> None:
    (small / "filler").write_bytes(bytes(disk.free_bytes(small) - 100_000))
    found = Workspace(Settings(openmlops_home=tmp_path / "home", artifacts_dir=small / "artifacts"))
    (home,) = [finding for finding in doctor.examine(found, "http://127.0.0.1:9") if finding.service == "home"]
    assert (home.status, home.remedy) == ("failed", disk.AGAIN)
    assert home.says.startswith(f"{small} is full, ")
    assert sorted(path.name for path in small.iterdir()) == ["filler"]


def test_a_limit_on_file_sizes_is_told_like_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with short_writes():
        line = told(lambda: write_bytes(tmp_path / "file", bytes(LIMIT + 1)), capsys)
    assert f"{tmp_path}/file" in line
    assert "bug" not in line


def test_a_disk_that_has_no_room_for_a_journal_is_told_as_full(small: Path) -> None:
    """SQLite calls it an I/O error."""
    connect(url := f"sqlite:///{small / 'openmlops.db'}").dispose()
    (small / "filler").write_bytes(bytes(disk.free_bytes(small)))
    with pytest.raises(DiskFull, match=r"openmlops\.db cannot be used \(.*\): 0 bytes are free"):
        connect(url)
