"""Tar archives of others, read within bounds: what an archive claims of itself is not believed.

tarfile reads an extended header (a long name, pax records) at once and whole, however large the archive says that it is.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from openmlops.files import opened

MOST_HEADER_BYTES = 2**20
"""most bytes that are read at once. Contents of files are read in smaller pieces"""
BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, RecursionError)
"""what reading an archive that is none, or is cut, may raise, beside OSError"""

_FORMATS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""first bytes -> how the file is decompressed"""


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive at `path`, compressed by gzip, bzip2, xz or not at all. Raises what `BROKEN` lists, and OSError."""
    with opened(path) as file:
        first = file.read(8)
        file.seek(0)
        decompress = next((function for magic, function in _FORMATS.items() if first.startswith(magic)), None)
        stream = file if decompress is None else decompress(file, "rb")
        with tarfile.open(fileobj=cast("IO[bytes]", _Bounded(stream)), mode="r:") as archive:
            yield archive


class _Bounded:
    """A file for tarfile, of which no large piece can be read at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises ReadError."""
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)
