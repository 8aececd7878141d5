"""A download from a real HTTP server that cuts, refuses, or does not know ranges."""

import gzip
import hashlib
import io
import secrets
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable
from openmlops.operations.data import download as module
from openmlops.operations.data.download import download, unpack

CONTENT = secrets.token_bytes(3 * 2**20)
CHECKSUM = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /file. `cuts`: how many answers end after a third of what was asked; `ranges`: knows ranges."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts = 0
        self.ranges = True
        self.errors: list[int] = []
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        if self.server.errors or self.path != "/file":
            self.send_error(self.server.errors.pop() if self.server.errors else 404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            body = body[: len(body) // 3]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_whole_download_reports_its_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download(server.url, tmp_path / "a", CHECKSUM, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_cut_connection_is_resumed_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.cuts = 2
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT
    assert server.asked[0] == ""
    assert server.asked[1] == f"bytes={len(CONTENT) // 3}-"
    assert len(server.asked) == 3


def test_what_an_earlier_process_left_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_finished_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT


def test_a_part_of_another_file_is_started_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", ""]


def test_a_part_longer_than_the_file_is_started_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ranges = 1, False
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    download(server.url, tmp_path / "a", CHECKSUM)
    assert server.asked == []


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match=r"/file has the checksum md5:[0-9a-f]{32}; the published one is md5:0"):
        download(server.url, tmp_path / "a", "md5:" + "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_an_error_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/none returned 404 .*--archive"):
        download(server.url.replace("file", "none"), tmp_path / "a", CHECKSUM)
    assert len(server.asked) == 1


def test_a_server_that_recovers_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 500]
    assert download(server.url, tmp_path / "a", CHECKSUM).read_bytes() == CONTENT


def test_a_server_that_does_not_recover_is_an_error_and_the_part_stays(server: Server, tmp_path: Path) -> None:
    server.cuts = 100
    with pytest.raises(ServiceUnavailable, match=r"in 5 attempts \(.*(cut|Chunked|Connection)"):
        download(server.url, tmp_path / "a", CHECKSUM)
    assert (tmp_path / "a.part").stat().st_size > len(CONTENT) // 2


def test_no_server_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    with pytest.raises(ServiceUnavailable, match="ConnectionError"):
        download("http://127.0.0.1:9/file", tmp_path / "a", CHECKSUM)


def test_a_proxy_that_needs_a_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", _no_socks)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(DataError, match=r"SOCKS proxy of the environment.*pip install 'requests\[socks\]'"):
        download("http://192.0.2.1:9/file", tmp_path / "a", CHECKSUM)


def _no_socks(*_: object, **__: object) -> None:
    """As requests has it without its extra."""
    raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")


@pytest.mark.parametrize("url", ["", "ftp://host/file", "file:///etc/passwd", "http://"])
def test_what_is_no_web_address_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a download URL"):
        download(url, tmp_path / "a", CHECKSUM)


# ---------------------------------------------------------------- unpacking


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", (tarfile.TarInfo("set/batch"), b"content"))
    assert (unpack(path, tmp_path / "out") / "set" / "batch").read_bytes() == b"content"


@pytest.mark.parametrize(
    "member",
    [tarfile.TarInfo("../escaped"), tarfile.TarInfo("set/../../escaped"), link("out", "../../..")],
    ids=lambda member: member.name,
)
def test_an_archive_cannot_write_outside(tmp_path: Path, member: tarfile.TarInfo) -> None:
    path = archive(tmp_path / "a.tar.gz", (member, b""))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "deep" / "out")
    assert not (tmp_path / "deep" / "escaped").exists()


def test_a_broken_archive_is_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", (tarfile.TarInfo("batch"), secrets.token_bytes(100_000)))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_an_archive_that_grows_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", 10**6)
    path = archive(tmp_path / "a.tar.gz", *[(tarfile.TarInfo(str(n)), bytes(300_000)) for n in range(5)])
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) <= 10**6


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE], ids=["long-name", "pax"])
def test_an_extended_header_is_not_read_however_large_it_claims_to_be(tmp_path: Path, kind: bytes) -> None:
    """tarfile reads it whole: 600 KB of gzip cost 1.8 GB."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 600 * 10**6
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf() + bytes(32 * 2**20), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"cannot be unpacked \(ReadError: a header of 600,000,000 bytes"):
        unpack(path, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_archives_are_unpacked_whatever_compresses_them(tmp_path: Path, compression: str) -> None:
    path, content = tmp_path / "archive", secrets.token_bytes(300_000)
    with tarfile.open(path, f"w:{compression}") as tar:
        info = tarfile.TarInfo("a" * 150 + "/batch")  # has an extended header
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    assert (unpack(path, tmp_path / "out") / info.name).read_bytes() == content


def test_a_server_that_compresses_what_was_not_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(DataError, match="compressed on the way"):
        download(server.url, tmp_path / "a", CHECKSUM)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_archive_is_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"coco128/images/a.jpg": b"content"})
    assert (unpack(path, tmp_path / "out") / "coco128" / "images" / "a.jpg").read_bytes() == b"content"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil"])
def test_a_zip_archive_that_would_write_outside_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is outside the archive"):
        unpack(zipped(tmp_path / "a.zip", {"good": b"", name: b"evil"}), tmp_path / "deep" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


def test_a_zip_archive_that_is_cut_or_garbled_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": bytes(range(256)) * 40})
    whole = path.read_bytes()
    for number, damaged in enumerate((whole[: len(whole) // 2], whole[:200] + b"xxxx" + whole[204:])):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="cannot be unpacked"):
            unpack(path, tmp_path / f"out{number}")


def test_a_zip_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmlops.operations.data.download.MAX_UNPACKED_BYTES", 100)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(zipped(tmp_path / "a.zip", {"a": bytes(101)}), tmp_path / "out")
    assert not (tmp_path / "out" / "a").exists()
