"""The index of a data set of image files: what is known of each image without opening its file again.

Files are read and decoded once, in parallel; whatever an earlier index knows by the file's SHA-256 is not decoded again. What
is here: making the index, and its Parquet file. What is not here: the summary of one image (core.images.summary), and where the
indexes of versions lie (operations/data/rows.py).
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.core.images.summary import RECIPE, THUMBNAIL, Summary, summarize, thumbnail_columns
from openmlops.errors import DataError
from openmlops.files import opened, replacing

MAX_FILE_BYTES = 64 * 2**20
"""Largest image file that is read."""
UNREADABLE = "the file cannot be read"
"""how the problem of a file begins that is missing or not to be read"""
WORKERS = min(8, os.cpu_count() or 1)
"""Threads that read and decode: Pillow and hashlib leave Python's lock to others meanwhile."""
_CHUNK = 256
"""Images whose thumbnails are held at a time."""
_DIGEST = 32
_SCALARS = {
    "bytes": np.int64,
    "height": np.int32,
    "width": np.int32,
    "turned": np.bool_,
    "blank": np.bool_,
    "pixels": np.int64,
}
_COLUMNS = {"sha256": np.uint8, "digest": np.uint8, "sums": np.int64, "squares": np.int64}

OnProgress = Callable[[int, int], None]
"""(images done, all images)"""
OnRead = Callable[[str, bytes], None]
"""(path of an image, the bytes of its file)"""


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """What is known of n images. Columns are arrays of n rows by name, those of an image with a `problem` are 0.

    `sha256` (n, 32) of the file, `bytes` its size, `height` and `width` upright in pixels, `turned` by EXIF, `blank`, `digest`
    (n, 32) of size and pixels, `hash` perceptual, `pixels`, `sums` and `squares` (n, 3) for normalisation, and the statistics
    of core.images.statistics, of a thumbnail.
    """

    paths: tuple[str, ...]
    """relative to the folder of the data set"""
    problems: tuple[str, ...]
    """why the image cannot be used; empty if it can"""
    columns: dict[str, np.ndarray]
    _rows: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._rows.update((path, row) for row, path in enumerate(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def row(self, path: str) -> int:
        """The row of a path. Raises DataError for one that is not in the index."""
        if path not in self._rows:
            raise DataError(f"The files changed while they were read: {path} is new", "Run the command again")
        return self._rows[path]

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def digest(self, path: str) -> bytes:
        """The SHA-256 of size and pixels of an image."""
        return self.columns["digest"][self.row(path)].tobytes()

    def size(self, path: str) -> tuple[int, int]:
        """(height, width) of the upright image."""
        row = self.row(path)
        return int(self.columns["height"][row]), int(self.columns["width"][row])

    @property
    def sizes(self) -> np.ndarray:
        """int64 (n, 2): upright height and width of each image."""
        return np.stack([self.columns["height"], self.columns["width"]], axis=1).astype(np.int64)

    def of(self, paths: Sequence[str]) -> "ImageIndex":
        """The rows of these paths, in their order. Raises DataError for one that is not in the index."""
        return self.at(np.array([self.row(path) for path in paths], dtype=np.int64))

    def at(self, rows: np.ndarray) -> "ImageIndex":
        """These rows."""
        paths, problems = (tuple(column[row] for row in rows) for column in (self.paths, self.problems))
        return ImageIndex(paths, problems, {name: column[rows] for name, column in self.columns.items()})

    def updated(self, other: "ImageIndex") -> "ImageIndex":
        """With the rows of `other` in place of its own of the same paths. Raises DataError for another path."""
        rows = [self.row(path) for path in other.paths]
        problems = dict(enumerate(self.problems)) | dict(zip(rows, other.problems, strict=True))
        columns = {name: column.copy() for name, column in self.columns.items()}
        for name, column in columns.items():
            column[rows] = other.columns[name]
        return ImageIndex(self.paths, tuple(problems.values()), columns)

    def write(self, path: Path) -> None:
        """Write it to a Parquet file with checksums."""
        import pyarrow
        import pyarrow.parquet

        table = {"path": pyarrow.array(self.paths), "problem": pyarrow.array(self.problems, pyarrow.string())}
        for name, column in self.columns.items():
            table[name] = pyarrow.array(column) if column.ndim == 1 else _fixed(column)
        found = pyarrow.table(table).replace_schema_metadata({b"openmlops.recipe": str(RECIPE).encode()})
        with replacing(path) as beside:
            pyarrow.parquet.write_table(found, beside, write_page_checksum=True, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> "ImageIndex | None":
        """The index of a Parquet file; None if it is missing, damaged, or of another recipe."""
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path, page_checksum_verification=True)
            if (table.schema.metadata or {}).get(b"openmlops.recipe") != str(RECIPE).encode():
                return None
            columns = {name: _array(table.column(name)) for name in (*_names(), *_COLUMNS)}
            paths, problems = (tuple(table.column(name).to_pylist()) for name in ("path", "problem"))
        except (OSError, KeyError, ValueError, pyarrow.ArrowException):
            return None
        return cls(paths, problems, columns)


def index_of(
    folder: Path,
    paths: Sequence[str],
    known: Sequence[ImageIndex] = (),
    on_progress: OnProgress | None = None,
    on_read: OnRead | None = None,
) -> ImageIndex:
    """The index of the images `paths` of `folder`, each read once. Images that an index of `known` has by the SHA-256 of the
    file are not decoded. `on_read` gets the bytes of each, from several threads. Never raises for bad images: these have a
    problem."""

    def read(path: str) -> bytes:
        content = _content(folder / path)
        if on_read is not None:
            on_read(path, content)
        return content

    return index_of_contents(paths, read, known, on_progress)


def index_of_contents(
    names: Sequence[str],
    read: Callable[[str], bytes],
    known: Sequence[ImageIndex] = (),
    on_progress: OnProgress | None = None,
) -> ImageIndex:
    """The same of images that `read` reads by their names, from several threads; a DataError of it is the image's problem."""
    seen = {
        sha256.tobytes(): (index, row)
        for index in known
        for row, (sha256, problem) in enumerate(zip(index.columns["sha256"], index.problems, strict=True))
        if not problem
    }
    parts, done = [], 0
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="index") as threads:
        for chunk in _chunks(names):
            parts.append(_columns(list(threads.map(lambda name: _look(name, read, seen), chunk))))
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(names))
    parts = parts or [_columns([])]
    columns = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    return ImageIndex(tuple(names), tuple(problem for part in parts for problem in part[0]), columns)


def remedied(problem: str) -> str:
    """A problem of an image, with what to do."""
    return f"{problem}; {'restore or remove it' if problem.startswith(UNREADABLE) else 'replace or remove the file'}"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at one file found: a summary, or a row of a known index, or a problem."""

    sha256: bytes = bytes(_DIGEST)
    size: int = 0
    summary: Summary | None = None
    known: "tuple[ImageIndex, int] | None" = None
    problem: str = ""


def _content(file: Path) -> bytes:
    """The bytes of a file. Raises DataError."""
    try:
        with opened(file) as found:
            content = found.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{UNREADABLE} ({error.strerror})", "Restore or remove it") from error
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"the file has more than {MAX_FILE_BYTES} bytes", "Replace or remove it")
    return content


def _look(name: str, read: Callable[[str], bytes], seen: dict[bytes, tuple[ImageIndex, int]]) -> _Look:
    try:
        content = read(name)
    except DataError as error:
        return _Look(problem=error.problem)
    sha256 = hashlib.sha256(content).digest()
    if sha256 in seen:
        return _Look(sha256, len(content), known=seen[sha256])
    try:
        return _Look(sha256, len(content), summarize(content))
    except DataError as error:
        return _Look(sha256, len(content), problem=error.problem)


def _columns(looks: Sequence[_Look]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The problems and the columns of these images."""
    n = len(looks)
    columns: dict[str, np.ndarray] = {name: np.zeros(n, dtype) for name, dtype in _SCALARS.items()}
    columns |= {name: np.zeros((n, _DIGEST if dtype == np.uint8 else 3), dtype) for name, dtype in _COLUMNS.items()}
    summaries = [(row, look.summary) for row, look in enumerate(looks) if look.summary is not None]
    thumbnails = np.stack([each.thumbnail for _, each in summaries]) if summaries else np.zeros((0, *THUMBNAIL, 3), np.uint8)
    for name, column in thumbnail_columns(thumbnails).items():
        columns[name] = np.zeros(n, column.dtype)
        columns[name][[row for row, _ in summaries]] = column
    for row, each in summaries:
        for name in ("height", "width", "turned", "blank", "pixels", "sums", "squares"):
            columns[name][row] = getattr(each, name)
        columns["digest"][row] = np.frombuffer(each.digest, np.uint8)
    before: dict[int, tuple[ImageIndex, list[int], list[int]]] = {}
    for row, look in enumerate(looks):
        if look.known is not None:
            index, there = look.known
            _, rows, theirs = before.setdefault(id(index), (index, [], []))
            rows.append(row)
            theirs.append(there)
    for index, rows, theirs in before.values():
        for name, column in columns.items():
            column[rows] = index.columns[name][theirs]
    columns["sha256"][:] = np.frombuffer(b"".join(look.sha256 for look in looks), np.uint8).reshape(n, _DIGEST)
    columns["bytes"][:] = [look.size for look in looks]
    return [look.problem for look in looks], columns


def _names() -> tuple[str, ...]:
    """The columns with one value an image."""
    return (*_SCALARS, *thumbnail_columns(np.zeros((0, *THUMBNAIL, 3), np.uint8)))


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    return (paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK))


def _fixed(column: np.ndarray) -> Any:
    """A column (n, k) for Arrow: bytes of a fixed length, or lists of a fixed length."""
    import pyarrow

    if column.dtype == np.uint8:
        return pyarrow.FixedSizeBinaryArray.from_buffers(
            pyarrow.binary(column.shape[1]), len(column), [None, pyarrow.py_buffer(np.ascontiguousarray(column))]
        )
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(column.ravel()), column.shape[1])


def _array(column: Any) -> np.ndarray:
    """The reverse."""
    import pyarrow

    whole = column.combine_chunks()
    if pyarrow.types.is_fixed_size_binary(whole.type):
        found = np.frombuffer(whole.buffers()[1], np.uint8)[whole.offset * _DIGEST :][: len(whole) * _DIGEST]
        return found.reshape(-1, _DIGEST).copy()
    if pyarrow.types.is_fixed_size_list(whole.type):
        return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size)
    return whole.to_numpy(zero_copy_only=False)
