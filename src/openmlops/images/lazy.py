"""Images on demand: read and decoded when they are needed, in batches, ahead of their use.

`Images` are n images, all in memory (an array) or on demand (LazyImages); the functions here take both. What is not here: how
images become model input (each use case), and what is known of them without their pixels (index.py).
"""

import hashlib
import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from openmlops.core.images import decoding
from openmlops.core.images.corruptions import corrupt, corrupt_one, require
from openmlops.core.validation import content_hashes, packed_hashes, perceptual_hashes
from openmlops.errors import DataCorrupt, DataError, OpenMLOpsError
from openmlops.files import content_of
from openmlops.images.index import WORKERS, ImageIndex

AHEAD = 2
"""batches that are decoded before they are asked for"""
SHARE = 8
"""images that a thread decodes at a time"""

Elsewhere = Callable[[str], bytes]
"""path of an image in the data set -> the bytes of its file, from another place. Raises OpenMLOpsError"""

log = logging.getLogger(__name__)


class DecodedFile:
    """Decoded images of one size, kept for the next time they are needed, in a temporary file without a name.

    The operating system holds it in memory as long as there is room, and removes it with the process, however that ends. It is
    written at random, by any thread. Where the disk is full nothing more is kept.
    """

    def __init__(self, folder: Path, n: int, shape: tuple[int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the images)
        self._shape = (*shape, 3)
        self._length = shape[0] * shape[1] * 3
        self._kept = np.zeros(n, dtype=bool)
        self._full = False

    def take(self, row: int) -> np.ndarray | None:
        """The image uint8 (height, width, 3), or None."""
        if not self._kept[row]:
            return None
        pixels = np.empty(self._length, np.uint8)
        if os.preadv(self._file.fileno(), [pixels.data], row * self._length) != self._length:
            return None
        return pixels.reshape(self._shape)

    def keep(self, row: int, pixels: np.ndarray) -> None:
        """Keep an image of this size."""
        if self._full:
            return
        content = np.ascontiguousarray(pixels).reshape(-1)
        try:
            self._kept[row] = os.pwrite(self._file.fileno(), content.data, row * self._length) == self._length
        except OSError as error:
            self._full = True
            log.warning("Decoded images are not kept any more (%s): they are decoded again", error.strerror)


@dataclass
class Decoded:
    """Room for the decoded images of one data set: files in `folder`, at most `memory` bytes in all."""

    folder: Path
    memory: int
    _files: dict[tuple[tuple[int, int], str], DecodedFile | None] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def file(self, n: int, frame: tuple[int, int], kind: str) -> DecodedFile | None:
        """The file of the n images at this height and width, made in the way `kind`; None if there is no room for all."""
        needed = n * frame[0] * frame[1] * 3
        with self._lock:
            if (frame, kind) not in self._files:
                fits = 0 < needed <= self.memory
                self._files[frame, kind] = DecodedFile(self.folder, n, frame) if fits else None
                self.memory -= needed if fits else 0
            return self._files[frame, kind]


@dataclass(frozen=True, eq=False)
class _Source:
    """Where images come from, by row."""

    image: Callable[[int], np.ndarray]
    """row -> uint8 (height, width, 3)"""
    content: Callable[[int], bytes] | None
    """row -> the bytes of its file; None if no file has these pixels"""
    frame: tuple[int, int] | None
    """height and width of every image; None if each has its own"""
    sizes: np.ndarray
    """int64 (n, 2): height and width of each"""
    index: ImageIndex | None = None
    room: Decoded | None = None

    def keeping(self, kind: str = "default") -> "_Source":
        """The same, which keeps what it decodes, if there is room."""
        if self.room is None or self.frame is None or self.index is None:
            return self
        kept = self.room.file(len(self.index), self.frame, kind)
        return self if kept is None else replace(self, image=_Keeping(self.image, kept))


class LazyImages:
    """n images on demand. A row gives the pixels of one image; a slice or an array of rows gives other LazyImages."""

    def __init__(self, source: _Source, rows: np.ndarray) -> None:
        self._source, self._rows = source, rows

    @classmethod
    def of_files(
        cls,
        folder: Path,
        index: ImageIndex,
        decode: Callable[[bytes], np.ndarray],
        frame: tuple[int, int] | None,
        elsewhere: Elsewhere | None = None,
    ) -> "LazyImages":
        """The images of an index, all of `frame` (height, width) when decoded, or each of its own size.

        A file that is gone from `folder` or has changed since the index was made is read from `elsewhere`; if that does not
        have it, reading the image raises DataError or DataCorrupt.
        """
        return cls.of_contents(_Files(folder, index, elsewhere), index.sizes, decode, frame, index)

    @classmethod
    def of_contents(
        cls,
        content: Callable[[int], bytes],
        sizes: np.ndarray,
        decode: Callable[[bytes], np.ndarray],
        frame: tuple[int, int] | None,
        index: ImageIndex | None = None,
    ) -> "LazyImages":
        """n images of files, whose bytes `content` gives by their number. `sizes` int64 (n, 2): upright height and width."""
        found = sizes if frame is None else _all(len(sizes), frame)
        return cls(_Source(lambda row: decode(content(row)), content, frame, found, index), np.arange(len(sizes)))

    def decoded(self, decode: Callable[[bytes], np.ndarray]) -> "LazyImages":
        """The same images, each decoded by `decode` at its own size; unchanged if they are of no files, or of one size."""
        content = self._source.content
        if content is None or self.frame is not None:
            return self
        return LazyImages(replace(self._source, image=lambda row: decode(content(row))), self._rows)

    def kept_in(self, room: Decoded) -> "LazyImages":
        """The same images; those of one size are kept in `room` once they are decoded, if all fit."""
        return LazyImages(replace(self._source, room=room).keeping(), self._rows)

    def fitted(self, fit: Callable[[np.ndarray], np.ndarray], frame: tuple[int, int], kind: str = "default") -> "LazyImages":
        """The images as `fit` makes them of `frame` (height, width), one function for each frame and `kind`; kept as `kept_in`
        says."""
        before = self._source
        source = replace(before, image=lambda row: fit(before.image(row)), frame=frame, sizes=_all(len(before.sizes), frame))
        return LazyImages(source.keeping(kind), self._rows)

    def changed(self, change: Callable[[np.ndarray, int], np.ndarray]) -> "LazyImages":
        """The images as `change` makes them, at their sizes, of each and its row here. Nothing is kept of them."""
        source = _Source(lambda row: change(self[row], row), None, self.frame, self.sizes)
        return LazyImages(source, np.arange(len(self)))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: slice | np.ndarray | Sequence[int]) -> "LazyImages": ...
    def __getitem__(self, key: Any) -> "np.ndarray | LazyImages":
        if isinstance(key, int | np.integer):
            return self._source.image(int(self._rows[key]))
        return LazyImages(self._source, self._rows[key])

    def __iter__(self) -> Iterator[np.ndarray]:
        for batch in self.batches(np.array_split(np.arange(len(self)), max(1, len(self) // WORKERS))):
            yield from batch

    def content(self, row: int) -> bytes | None:
        """The bytes of the file of one image; None if it was changed."""
        return None if self._source.content is None else self._source.content(int(self._rows[row]))

    def batches(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The pixels of each of `parts` (rows), decoded in parallel and AHEAD of their use: uint8 (m, height, width, 3), or an
        object array (m,) of images of different sizes."""
        waiting: deque[tuple[np.ndarray, list[Future[None]]]] = deque()
        threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="decode")
        try:
            for part in parts:
                waiting.append(self._begun(threads, np.asarray(part)))
                if len(waiting) > AHEAD:
                    yield _done(*waiting.popleft())
            while waiting:
                yield _done(*waiting.popleft())
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def _begun(self, threads: ThreadPoolExecutor, part: np.ndarray) -> tuple[np.ndarray, list[Future[None]]]:
        frame, rows = self.frame, self._rows[part]
        batch = np.empty(len(part), dtype=object) if frame is None else np.empty((len(part), *frame, 3), dtype=np.uint8)

        def fill(places: np.ndarray) -> None:
            for place in places:
                batch[place] = self._source.image(int(rows[place]))

        shares = np.array_split(np.arange(len(part)), max(1, -(-len(part) // SHARE)))
        return batch, [threads.submit(fill, share) for share in shares if len(share)]

    @property
    def frame(self) -> tuple[int, int] | None:
        """Height and width of every image; None if each has its own."""
        return self._source.frame

    @property
    def sizes(self) -> np.ndarray:
        """int64 (n, 2): height and width of each image in pixels."""
        return self._source.sizes[self._rows]

    @property
    def index(self) -> ImageIndex:
        """What is known of these images, which images that were `changed` do not have."""
        assert self._source.index is not None
        return self._source.index.at(self._rows)

    def column(self, name: str) -> np.ndarray:
        """A column of the index for these images (index.py), which images that were `changed` do not have."""
        assert self._source.index is not None
        return self._source.index.columns[name][self._rows]


Images = np.ndarray | LazyImages
"""n images: uint8 (n, height, width, 3); an object array (n,) of uint8 (height, width, 3) of different sizes; or LazyImages"""


def pixels(images: Images) -> np.ndarray:
    """All images in memory."""
    if isinstance(images, np.ndarray):
        return images
    return next(images.batches([np.arange(len(images))]))


def batches(images: Images, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The images of each of `parts` (rows), in memory one after the other."""
    return images.batches(parts) if isinstance(images, LazyImages) else (images[part] for part in parts)


def sizes(images: Images) -> np.ndarray:
    """int64 (n, 2): height and width of each image in pixels; nothing is decoded."""
    if isinstance(images, LazyImages):
        return images.sizes
    if images.dtype != object:
        return _all(len(images), (images.shape[1], images.shape[2]))
    return np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2)


def digests(images: Images) -> list[bytes]:
    """SHA-256 of the content of each image: equal for equal images of one data set."""
    if isinstance(images, LazyImages):
        return [row.tobytes() for row in images.column("digest")]
    return content_hashes(images)


def hashes(images: Images) -> np.ndarray:
    """uint64 (n,): perceptual hashes."""
    return images.column("hash") if isinstance(images, LazyImages) else packed_hashes(perceptual_hashes(images))


def fitted(images: Images, fit: Callable[[np.ndarray], np.ndarray], frame: tuple[int, int], kind: str = "default") -> Images:
    """The images as `fit` makes them of `frame` (height, width); `kind` as in `LazyImages.fitted`."""
    if isinstance(images, LazyImages):
        return images.fitted(fit, frame, kind)
    return np.stack([fit(image) for image in images]) if len(images) else np.zeros((0, *frame, 3), np.uint8)


def corrupted(images: Images, kind: str, severity: int, seed: int) -> Images:
    """The images as `core.images.corruptions.corrupt` changes them. Raises DataError for another kind or severity."""
    if isinstance(images, LazyImages):
        require(kind, severity)
        return images.changed(lambda image, row: corrupt_one(image, kind, severity, seed, row))
    return corrupt(images, kind, severity, seed)


def file_of(images: Images, row: int) -> tuple[bytes, str]:
    """The bytes of an image's file and its suffix: the file as it is, or a PNG of its pixels."""
    content = images.content(row) if isinstance(images, LazyImages) else None
    return (decoding.png(images[row]), ".png") if content is None else (content, decoding.suffix(content))


class _Keeping:
    """Images that are decoded once: what is in the file is not decoded again."""

    def __init__(self, image: Callable[[int], np.ndarray], kept: DecodedFile) -> None:
        self._image, self._kept = image, kept

    def __call__(self, row: int) -> np.ndarray:
        if (found := self._kept.take(row)) is None:
            found = self._image(row)
            self._kept.keep(row, found)
        return found


class _Files:
    """Reads the files of an index, each verified: from the folder, else from `elsewhere`, if that has the file."""

    def __init__(self, folder: Path, index: ImageIndex, elsewhere: Elsewhere | None) -> None:
        self._folder, self._index, self._elsewhere = folder, index, elsewhere

    def __call__(self, row: int) -> bytes:
        path = self._index.paths[row]
        try:
            return self._verified(row, _content(self._folder / path))
        except DataError:
            if self._elsewhere is not None:
                with suppress(OpenMLOpsError):
                    return self._verified(row, self._elsewhere(path))
            raise

    def _verified(self, row: int, content: bytes) -> bytes:
        if hashlib.sha256(content).digest() != self._index.columns["sha256"][row].tobytes():
            path = self._folder / self._index.paths[row]
            raise DataCorrupt(f"{path} has changed since its version was made", "Restore it: `openmlops data pull`")
        return content


def _content(path: Path) -> bytes:
    try:
        return content_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "Restore the data: `openmlops data pull`") from error


def _all(n: int, size: tuple[int, int]) -> np.ndarray:
    return np.broadcast_to(np.array(size, np.int64), (n, 2))


def _done(batch: np.ndarray, futures: list[Future[None]]) -> np.ndarray:
    for future in futures:
        future.result()
    return batch
