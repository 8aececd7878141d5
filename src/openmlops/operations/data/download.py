"""Download of published archives: resumable, verified by checksum, safely unpacked.

Not here: the content of an archive (the use case) and the destination of the folder (operations/data/datasets.py).
"""

import hashlib
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from openmlops import disk
from openmlops.archives import BROKEN, open_tar
from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the total, None if unknown."""

ATTEMPTS = 5
PAUSE_SECONDS = 1.0
"""pause before the second attempt; doubled for each further one"""
TIMEOUT_SECONDS = (10, 30)
"""connect and read timeout"""
PIECE_BYTES = 2**18
MAX_UNPACKED_BYTES = 2 * 2**30
MAX_MEMBERS = 1000
REMEDY = "Get the official archive"


class _Interrupted(Exception):
    """A failed attempt that is worth retrying."""


def download(url: str, target: Path, checksum: str, on_progress: Progress | None = None) -> Path:
    """Download `url` to `target` and verify its checksum (`md5:` or `sha256:` and hexadecimal digits).

    Resumes from `<target>.part`; an existing `target` is only verified. `target` appears complete or not at all. Raises
    DataError (invalid address), DataCorrupt (checksum mismatch), ServiceUnavailable (after ATTEMPTS attempts).
    """
    if target.is_file() and checksum_of(target, checksum) == checksum:
        return target
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists()
    _fetch(url, part, on_progress or (lambda done, total: None))
    if resumed and checksum_of(part, checksum) != checksum:  # the partial file was of another version: download it again
        part.unlink()
        _fetch(url, part, on_progress or (lambda done, total: None))
    try:
        verify(part, checksum, url)
    except DataCorrupt:
        part.unlink()
        raise
    return part.replace(target)


def verify(path: Path, checksum: str, source: str) -> None:
    """Raise DataCorrupt unless the file has the published checksum."""
    if (found := checksum_of(path, checksum)) != checksum:
        remedy = "Get the official archive, or use another mirror"
        raise DataCorrupt(f"{source} has the checksum {found}; the published one is {checksum}", remedy)


def checksum_of(path: Path, like: str) -> str:
    """The checksum of a file, with the algorithm of `like`."""
    kind = like.partition(":")[0]
    with path.open("rb") as handle:
        return f"{kind}:{hashlib.file_digest(handle, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()}"


def _fetch(url: str, part: Path, on_progress: Progress) -> None:
    cause = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            return _append(url, part, on_progress)
        except (_Interrupted, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            cause = str(error) if isinstance(error, _Interrupted) else type(error).__name__
    remedy = "Run the command again to resume, or download the archive yourself and pass it with --archive"
    raise ServiceUnavailable(f"{url} could not be downloaded in {ATTEMPTS} attempts ({cause})", remedy)


def _append(url: str, part: Path, on_progress: Progress) -> None:
    """One attempt: request the missing range and append it. A server without range support sends the whole file again."""
    done = part.stat().st_size if part.exists() else 0
    with _response(url, {"Range": f"bytes={done}-"} if done else {}) as response:
        if response.status_code == 416:  # nothing is missing, or the partial file is too long
            if response.headers.get("Content-Range", "").endswith(f"/{done}"):
                return
            part.unlink()
            raise _Interrupted("the part on disk is longer than the file")
        if response.status_code != 206:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        with disk.named(part, None if total is None else total - done), part.open("ab" if done else "wb") as file:
            for piece in response.iter_content(PIECE_BYTES):
                file.write(piece)
                done += len(piece)
                if done > MAX_UNPACKED_BYTES:
                    part.unlink()
                    raise DataError(f"{url} is larger than {MAX_UNPACKED_BYTES} bytes", REMEDY)
                on_progress(done, total)
    if total is not None and done < total:
        raise _Interrupted(f"the connection was cut after {done} of {total} bytes")


@contextmanager
def _response(url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    try:
        response = requests.get(url, headers=headers | {"Accept-Encoding": "identity"}, stream=True, timeout=TIMEOUT_SECONDS)
    except (
        ValueError,
        requests.TooManyRedirects,
    ) as error:  # URL errors of requests, urllib3 and the idna codec
        if "SOCKS" in str(error):
            problem = f"{url} cannot be reached through the SOCKS proxy of the environment (ALL_PROXY or another)"
            raise DataError(problem, "Run pip install 'requests[socks]', or set https_proxy to another proxy") from error
        raise DataError(f"'{url[:200]}' is not a download URL", "Give an http or https URL") from error
    with response:
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise _Interrupted(f"the server returned {response.status_code}")
        if response.status_code not in (200, 206, 416):
            raise DataError(
                f"{url} returned {response.status_code} ({response.reason})", "Pass a mirror with --url, or --archive"
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":  # a few bytes could become any number
            raise DataError(
                f"{url} was compressed on the way, which was not asked for", "Pass a mirror with --url, or --archive"
            )
        yield response


def unpack(archive: Path, folder: Path) -> Path:
    """Extract a tar or zip archive into `folder`. Raises DataError if it is not an archive, too large, or would write outside
    of `folder`."""
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        else:
            _untar(archive, folder)
    except (*BROKEN, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked ({type(error).__name__}: {error})", REMEDY) from error
    return folder


def _untar(archive: Path, folder: Path) -> None:
    with open_tar(archive) as tar:
        size = 0
        for number, member in enumerate(tar):
            size += member.size
            _require_moderate(archive, size, number)
            tar.extract(member, folder, filter="data")


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        _require_moderate(archive, sum(member.file_size for member in members), len(members) - 1)
        for member in members:
            if not (folder / member.filename).resolve().is_relative_to(folder.resolve()):
                raise DataError(f"{archive} has the member '{member.filename[:80]}', which is outside the archive", REMEDY)
        zipped.extractall(folder)


def _require_moderate(archive: Path, size: int, number: int) -> None:
    if size > MAX_UNPACKED_BYTES or number >= MAX_MEMBERS:
        limits = f"{MAX_UNPACKED_BYTES} bytes in {MAX_MEMBERS} members"
        raise DataError(f"{archive} unpacks to more than {limits}", REMEDY)
