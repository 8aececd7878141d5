"""Contents are kept once and given back as they were, from a folder and from a real S3 server."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openmlops.adapters.contents import Contents, key_of
from openmlops.adapters.object_store import FolderStore
from openmlops.adapters.s3_store import S3Store
from openmlops.core.types import Content
from openmlops.errors import DataCorrupt, DataError
from openmlops.files import MANIFEST, Manifest, sha256_of


@pytest.fixture(params=["folder", "s3"])
def contents(request: pytest.FixtureRequest, tmp_path: Path) -> Contents:
    if request.param == "folder":
        return Contents(FolderStore(tmp_path / "store"))
    server = request.getfixturevalue("s3_server")
    return Contents(S3Store(server.endpoint, server.access_key, server.secret_key, f"bucket-{secrets.token_hex(4)}"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(secrets.token_bytes(1000))
    return path


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "sealed"
    (folder / "below").mkdir(parents=True)
    for name in ("model.onnx", "below/notes.txt"):
        (folder / name).write_bytes(secrets.token_bytes(100))
    Manifest.of(folder).write(folder / MANIFEST)
    return folder


def test_a_content_is_named_by_its_sha256_and_verified_where_it_is_used(contents: Contents, file: Path, tmp_path: Path) -> None:
    content = contents.keep("weights", file)
    assert content.sha256 == sha256_of(file)
    assert not contents.has(Content(kind="weights", sha256="0" * 64))
    there = contents.local(content, tmp_path / "other" / "home")
    assert there.read_bytes() == file.read_bytes()
    there.write_bytes(b"damaged")
    assert contents.local(content, there).read_bytes() == file.read_bytes()


def test_a_folder_comes_back_whole_and_a_damaged_copy_is_replaced(contents: Contents, sealed: Path, tmp_path: Path) -> None:
    content = contents.keep_folder("export", sealed)
    there = contents.local_folder(content, tmp_path / "there")
    assert Manifest.of(there) == Manifest.of(sealed)
    (there / "model.onnx").write_bytes(b"damaged")
    (there / "another").touch()
    assert Manifest.of(contents.local_folder(content, there)) == Manifest.of(sealed)
    (sealed / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(DataCorrupt, match=r"model\.onnx differs from its recorded content"):
        contents.keep_folder("export", sealed)


def test_what_is_gone_and_what_is_damaged_is_told_with_what_to_do(contents: Contents, file: Path, tmp_path: Path) -> None:
    content = contents.keep("window", file)
    contents.store.put_file(key_of(content), other := _other(tmp_path), sha256_of(other))
    with pytest.raises(DataCorrupt, match=f"content/window/{content.sha256} differs from its SHA-256. Delete it"):
        contents.local(content, tmp_path / "there")
    assert not (tmp_path / "there").exists()
    contents.store.delete(key_of(content))
    with pytest.raises(DataError, match=r"neither at .*there nor in the object store: .* Run the pipeline again"):
        contents.local(content, tmp_path / "there")


def _other(place: Path) -> Path:
    (other := place / "other").write_bytes(b"another content")
    return other


def test_what_is_used_again_counts_as_new_for_retention(file: Path, tmp_path: Path) -> None:
    contents = Contents(FolderStore(tmp_path / "store"))
    key = key_of(contents.keep("splits", file))
    month_ago = datetime.now(UTC) - timedelta(days=30)
    os.utime(tmp_path / "store" / key, (0, month_ago.timestamp()))
    contents.keep("splits", file)
    written = contents.store.written(key)
    assert written is not None
    assert datetime.now(UTC) - written < timedelta(hours=1)
