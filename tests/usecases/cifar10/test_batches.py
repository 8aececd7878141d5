"""A batch is data. Whatever else a pickle says is refused, not run."""

import builtins
import copyreg
import os
import pickle
import pickletools
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openmlops.errors import DataError
from openmlops.usecases.cifar10 import batches

BATCH = {
    b"batch_label": b"training batch 1 of 5",
    b"labels": [0, 9, 255, 70_000],
    b"data": np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3072),
    b"filenames": [b"a.png", b"b" * 300, b"", b"\xff"],
}


def test_what_is_dumped_is_read_by_us_and_by_pickle(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(batches.dump(BATCH))
    for read in (batches.load(tmp_path / "b"), pickle.loads(batches.dump(BATCH), encoding="bytes")):
        assert read.keys() == BATCH.keys()
        assert np.array_equal(read.pop(b"data"), BATCH[b"data"])
        assert read == {key: value for key, value in BATCH.items() if key != b"data"}


@pytest.mark.parametrize("protocol", [3, 4])
def test_what_python_3_pickles_is_read_too(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "b").write_bytes(pickle.dumps(BATCH, protocol=protocol))
    assert np.array_equal(batches.load(tmp_path / "b")[b"data"], BATCH[b"data"])


def test_the_dump_names_what_the_official_files_name() -> None:
    names = [argument for code, argument, _ in pickletools.genops(batches.dump(BATCH)) if code.name == "GLOBAL"]
    assert names == ["numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"]


@pytest.mark.real
def test_the_official_layout_is_read_as_pickle_reads_it(real_cifar10: Path) -> None:
    ours = batches.load(real_cifar10 / "test_batch")
    theirs = pickle.loads((real_cifar10 / "test_batch").read_bytes(), encoding="bytes")
    assert np.array_equal(ours.pop(b"data"), theirs.pop(b"data"))
    assert ours == theirs


# ---------------------------------------------------------------- 15 malicious pickles


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def objects(payload: object) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = payload
    return array


EXTENSION = 0x7E
MALICIOUS: dict[str, Callable[[str], bytes]] = {
    "os.system": lambda path: pickle.dumps(Call(os.system, f"touch {path}"), 2),
    "subprocess": lambda path: pickle.dumps(Call(subprocess.check_call, ["touch", path]), 2),
    "eval": lambda path: pickle.dumps(Call(eval, f"open({path!r}, 'w').close()"), 2),
    "exec": lambda path: pickle.dumps(Call(exec, f"open({path!r}, 'w').close()"), 4),
    "open": lambda path: pickle.dumps(Call(builtins.open, path, "w"), 4),
    "copyfile": lambda path: pickle.dumps(Call(shutil.copyfile, __file__, path), 4),
    "numpy.save": lambda path: pickle.dumps(Call(np.save, path, 1), 4),
    "Path.touch": lambda path: (
        b"\x80\x04" + text("pathlib") + text("Path.touch") + b"\x93" + b"cpathlib\nPath\n" + text(path) + b"\x85R\x85R."
    ),
    "getattr": lambda path: b"cbuiltins\ngetattr\ncos\npath\n" + text("os") + b"\x86R" + b"0" + _system(path),
    "INST": lambda path: b"(" + text(f"touch {path}") + b"ios\nsystem\n.",
    "OBJ": lambda path: b"(cos\nsystem\n" + text(f"touch {path}") + b"o.",
    "EXT": lambda path: b"\x80\x02\x82" + bytes([EXTENSION]) + text(f"touch {path}") + b"\x85R.",
    "in-the-labels": lambda path: pickle.dumps(BATCH | {b"labels": [0, Call(os.system, f"touch {path}")]}, 4),
    "in-an-object-array": lambda path: pickle.dumps(BATCH | {b"data": objects(Call(os.system, f"touch {path}"))}, 4),
    "after-a-good-batch": lambda path: pickle.dumps(BATCH, 4)[:-1] + _system(path),
}


def _system(path: str) -> bytes:
    return b"cos\nsystem\n" + text(f"touch {path}") + b"\x85R."


@pytest.mark.parametrize("kind", MALICIOUS)
def test_a_malicious_pickle_is_refused_and_not_executed(kind: str, tmp_path: Path) -> None:
    made = tmp_path / "made.npy"
    copyreg.add_extension("os", "system", EXTENSION)
    try:
        content = MALICIOUS[kind](str(made))
        pickle.loads(content, encoding="bytes")
        assert made.exists(), "it would have been executed by pickle.load"
        made.unlink()
        (tmp_path / "data_batch_1").write_bytes(content)
        with pytest.raises(
            DataError, match=r"data_batch_1 cannot be read \(it references \S+, which a CIFAR-10 batch never does\)"
        ):
            batches.load(tmp_path / "data_batch_1")
    finally:
        copyreg.remove_extension("os", "system", EXTENSION)
    assert not made.exists()


def test_the_malicious_pickles_are_fifteen() -> None:
    assert len(MALICIOUS) == 15


# ---------------------------------------------------------------- broken and hostile, without code

HOSTILE = {
    "empty": b"",
    "text": b"hello",
    "no-dictionary": b"\x80\x02].",
    "memo-bomb": b"\x80\x02]r\xff\xff\xff\x7f.",
    "long-bytes": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
    "deep": b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
    "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "array-without-state": b"\x80\x02}U\x04data"
    + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    + b"s.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_batch_is_an_error_and_takes_no_memory(kind: str, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(HOSTILE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"^b (cannot be read|holds a)"):
            batches.load(tmp_path / "b")
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"U\x02u1", b"U\x01O", "array of 'O'"),
        (b"J\x04\x00\x00\x00J\x00\x0c\x00\x00t", b"J\x05\x00\x00\x00J\x00\x0c\x00\x00t", "has 12288 bytes"),
        (b"J\x04\x00\x00\x00J\x00\x0c\x00\x00t", b"J\xff\xff\xff\x7fU\x04aaaat", "has no shape"),
        (b"J\x04\x00\x00\x00J\x00\x0c\x00\x00t", b"J\xfc\xff\xff\xffJ\x00\xf4\xff\xfft", "has no shape"),
    ],
    ids=["objects", "too-few-bytes", "shape-bomb", "negative-shape"],
)
def test_an_array_that_contradicts_itself_is_refused(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    good = batches.dump(BATCH)
    assert good.count(old) == 1
    (tmp_path / "b").write_bytes(good.replace(old, new))
    with pytest.raises(DataError, match=message):
        batches.load(tmp_path / "b")


def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path: Path) -> None:
    spoiled = b"\x80\x02cnumpy\ndtype\n(N}U\x04spec]stb" + batches.dump(BATCH)[2:]
    (tmp_path / "spoiled").write_bytes(spoiled)
    (tmp_path / "good").write_bytes(batches.dump(BATCH))
    with suppress(DataError):
        batches.load(tmp_path / "spoiled")
    assert np.array_equal(batches.load(tmp_path / "good")[b"data"], BATCH[b"data"])


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BYTES", 1000)
    (tmp_path / "b").write_bytes(batches.dump(BATCH))
    with pytest.raises(DataError, match="more than 1000"):
        batches.load(tmp_path / "b")


@given(position=st.integers(0, 400), value=st.integers(0, 255), end=st.integers(0, 400))
@example(position=2, value=0x80, end=3)
@settings(deadline=None)
def test_a_garbled_batch_is_read_or_refused_never_more(
    position: int, value: int, end: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = BATCH | {b"data": BATCH[b"data"][:1, :8]}
    content = bytearray(batches.dump(small))
    content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "garbled"
    path.write_bytes(content[: len(content) - end % 7])
    with suppress(DataError):
        assert isinstance(batches.load(path), dict)
