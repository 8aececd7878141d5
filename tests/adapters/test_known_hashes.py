"""What was read is not read again, unless it may have changed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from openmlops.adapters import known_hashes
from openmlops.adapters.known_hashes import COARSE_TICK_NS, TICK_NS, Hashes, KnownHashes
from openmlops.errors import DataError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "data" / name for name in "abc"]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    read = known_hashes._read_file

    def noting(path: Path):  # type: ignore[no-untyped-def]
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(known_hashes, "_read_file", noting)
    return names


def of(content: bytes) -> Hashes:
    return Hashes(hashlib.sha256(content).hexdigest(), hashlib.md5(content, usedforsecurity=False).hexdigest())


def kept(home: Path, files: list[Path]) -> None:
    known = KnownHashes(home / "known")
    known.of(files)
    known.save()


def test_a_later_process_reads_only_what_changed(tmp_path: Path, files: list[Path], reads: list[str]) -> None:
    kept(tmp_path, files)
    files[1].write_bytes(b"B" * 1000)
    reads.clear()
    later = KnownHashes(tmp_path / "known")
    assert later.of(files) == [of(b"a" * 1000), of(b"B" * 1000), of(b"c" * 1000)]
    assert reads == ["b"]
    assert later.read(files) == later.of(files)
    assert sorted(reads) == ["a", "b", "b", "c"]


def test_an_edit_that_restores_size_and_modification_time_is_noticed(tmp_path: Path, files: list[Path]) -> None:
    kept(tmp_path, files)
    before = files[0].stat()
    files[0].write_bytes(b"x" * 1000)
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert KnownHashes(tmp_path / "known").of(files[:1]) == [of(b"x" * 1000)]


def test_what_is_not_older_than_the_record_is_read_again(files: list[Path], reads: list[str]) -> None:
    """As in git: a second change in the same tick of the clock would leave the same times."""
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(files[0], ns=(ahead, ahead))
    known = KnownHashes()
    known.of(files)
    known.of(files)
    assert sorted(reads) == ["a", "a", "b", "c"]


def test_a_clock_of_whole_seconds_is_given_more_time() -> None:
    def remembered(age: int, ctime: int) -> bool:
        known = KnownHashes()
        known._remember((1, 1, ctime, ctime), of(b""), ctime + age)
        return bool(known._new)

    assert remembered(2 * TICK_NS, 10**18 + 1)
    assert not remembered(2 * TICK_NS, 10**18)
    assert remembered(COARSE_TICK_NS + 1, 10**18)


def test_a_hard_link_is_known_and_does_not_make_its_file_unknown(tmp_path: Path, files: list[Path], reads: list[str]) -> None:
    known = KnownHashes(tmp_path / "known")
    known.of(files)
    os.link(files[0], tmp_path / "data" / "link")  # this changes the change time
    known.follow(files)
    known.save()
    reads.clear()
    assert KnownHashes(tmp_path / "known").of([files[0], tmp_path / "data" / "link"]) == [of(b"a" * 1000)] * 2
    assert reads == []


def test_an_edit_between_reading_and_following_is_not_taken_for_a_link(files: list[Path]) -> None:
    known = KnownHashes()
    known.of(files)
    files[0].write_bytes(b"y" * 1000)
    known.follow(files)
    assert known.of(files[:1]) == [of(b"y" * 1000)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(path.read_bytes().replace(of(b"a" * 1000).sha256.encode(), of(b"?").sha256.encode())),
        lambda path: path.write_bytes(b"\xff\n" * 9),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, files: list[Path], reads: list[str], damage) -> None:  # type: ignore[no-untyped-def]
    kept(tmp_path, files)
    damage(tmp_path / "known")
    reads.clear()
    known = KnownHashes(tmp_path / "known")
    assert known.of(files)[0] == of(b"a" * 1000)
    assert sorted(reads) == ["a", "b", "c"]
    known.save()


def test_a_memory_that_cannot_be_kept_is_no_error(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(known_hashes, "write_bytes", full)
    kept(tmp_path, files)
    kept(tmp_path / "missing", files)
    assert not (tmp_path / "missing").exists()


def test_two_processes_keep_what_both_read(tmp_path: Path, files: list[Path], reads: list[str]) -> None:
    first, second = KnownHashes(tmp_path / "known"), KnownHashes(tmp_path / "known")
    first.of(files[:1])
    second.of(files[1:])
    first.save()
    second.save()
    reads.clear()
    KnownHashes(tmp_path / "known").of(files)
    assert reads == []


def test_entries_that_nobody_used_for_long_are_dropped(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path, files)
    later = time.time() + known_hashes.MOST_DAYS * 86_400
    files[0].write_bytes(b"new")
    known = KnownHashes(tmp_path / "known")
    known.of(files[:2])
    monkeypatch.setattr(time, "time", lambda: later)
    known.save()
    assert len(known_hashes._load(tmp_path / "known")) == 2, "the new one, and the one that was used"


def test_a_file_that_vanishes_is_one_line_that_names_it(files: list[Path]) -> None:
    files[1].unlink()
    for act in (KnownHashes().of, KnownHashes().read):
        with pytest.raises(
            DataError, match=r"data/b cannot be read \(No such file or directory\)\. Restore or remove it"
        ) as caught:
            act(files)
        assert "\n" not in str(caught.value)
