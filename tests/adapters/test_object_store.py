"""Both object stores keep the same promises; S3 is a real server."""

import errno
import fcntl
import os
import secrets
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr

from openmlops.adapters import object_store
from openmlops.adapters.object_store import FolderStore, ObjectStore, Put
from openmlops.adapters.s3_store import S3Store
from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable, SettingsError
from openmlops.files import copying, sha256_of


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    server = request.getfixturevalue("s3_server")
    return S3Store(server.endpoint, server.access_key, server.secret_key, f"bucket-{secrets.token_hex(4)}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "batch"
    path.write_bytes(secrets.token_bytes(10_000))
    return path


def test_what_was_put_is_what_is_got(store: ObjectStore, file: Path, tmp_path: Path) -> None:
    assert store.put_file("data/a/batch", file, sha256_of(file))
    assert store.get_file("data/a/batch", tmp_path / "back").read_bytes() == file.read_bytes()
    assert store.size("data/a/batch") == 10_000
    assert store.exists("data/a/batch")


def test_the_same_content_is_sent_once(store: ObjectStore, file: Path) -> None:
    sent = [store.put_file("k", file, sha256_of(file)) for _ in range(3)]
    assert sent == [True, False, False]


def test_many_files_are_put_as_each_of_them(store: ObjectStore, tmp_path: Path) -> None:
    files = {}
    for number in range(3):
        (path := tmp_path / f"file{number}").write_bytes(secrets.token_bytes(100))
        files[f"data/v/{number}"] = Put(path, sha256_of(path))
    assert store.put_files("data/v/", files) == 3
    assert store.put_files("data/v/", files) == 0
    files["data/v/1"].path.write_bytes(secrets.token_bytes(100))
    with pytest.raises(DataCorrupt, match="file1 differs from its recorded content"):
        store.put_files("data/v/", files)
    files["data/v/1"] = Put(path := files["data/v/1"].path, sha256_of(path))
    assert store.put_files("data/v/", files) == 1
    assert [(found.key, found.size) for found in store.stored("data/")] == [(key, 100) for key in files]


def test_a_new_file_of_many_is_sent_without_asking_and_a_known_one_asked_for_once(s3_server, tmp_path: Path) -> None:
    store = S3Store(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, f"bucket-{secrets.token_hex(4)}")
    store.ready()
    asked: list[str] = []
    store._connected().meta.events.register("before-send.s3", lambda request, **_: asked.append(request.method))
    files = {}
    for number in range(5):
        (path := tmp_path / f"file{number}").write_bytes(secrets.token_bytes(100))
        files[f"v/{number}"] = Put(path, sha256_of(path))
    store.put_files("v/", files)
    assert Counter(asked) == {"GET": 1, "PUT": 10}, "one listing; each file and its hash"
    asked.clear()
    store.put_files("v/", files)
    assert Counter(asked) == {"GET": 6}, "one listing, and the hash of each"


def test_small_content_is_put_and_got_as_it_is(store: ObjectStore) -> None:
    store.put_bytes("content/data/f/set.dvc", b"outs: []")
    assert store.get_bytes("content/data/f/set.dvc") == b"outs: []"
    with pytest.raises(DataError, match="There is no object"):
        store.get_bytes("content/data/f/other")


def test_other_content_of_the_same_size_is_sent(store: ObjectStore, file: Path, tmp_path: Path) -> None:
    store.put_file("k", file, sha256_of(file))
    file.write_bytes(secrets.token_bytes(10_000))
    assert store.put_file("k", file, sha256_of(file))
    assert store.get_file("k", tmp_path / "back").read_bytes() == file.read_bytes()


def test_a_file_that_is_not_what_was_recorded_is_not_sent(store: ObjectStore, file: Path) -> None:
    recorded = sha256_of(file)
    file.write_bytes(b"changed")
    with pytest.raises(DataCorrupt, match="batch differs from its recorded content"):
        store.put_file("k", file, recorded)
    assert not store.exists("k")


def test_a_missing_object_is_an_error_that_names_it(store: ObjectStore, tmp_path: Path) -> None:
    assert store.size("data/none") is None
    with pytest.raises(DataError, match=r"There is no object .*data/none"):
        store.get_file("data/none", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_list_gives_the_keys_below_a_prefix(store: ObjectStore, file: Path) -> None:
    store.ready()
    assert store.list("data/") == []
    for key in ("data/b", "data/a/x", "other"):
        store.put_file(key, file, sha256_of(file))
    assert store.list("data/") == ["data/a/x", "data/b"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a\\..\\b", "a\nb"])
def test_keys_that_could_leave_the_store_are_refused(store: ObjectStore, key: str, file: Path, tmp_path: Path) -> None:
    for act in (lambda: store.put_file(key, file, sha256_of(file)), lambda: store.get_file(key, tmp_path / "back")):
        with pytest.raises(DataError, match="is not allowed"):
            act()


def test_a_large_file_is_sent_in_parts(s3_server, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "MULTIPART_BYTES", 5 * 2**20)
    file.write_bytes(secrets.token_bytes(12 * 2**20))
    store = S3Store(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, "multipart")
    assert store.put_file("big", file, sha256_of(file))
    assert not store.put_file("big", file, sha256_of(file))
    assert sha256_of(store.get_file("big", tmp_path / "back")) == sha256_of(file)


def test_an_object_that_changed_on_the_server_is_detected(s3_server, file: Path, tmp_path: Path) -> None:
    store = S3Store(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, "changed")
    store.put_file("k", file, sha256_of(file))
    stored = s3_server.folder / "changed" / "k"
    stored.write_bytes(bytes([stored.read_bytes()[0] ^ 1]) + stored.read_bytes()[1:])
    with pytest.raises(DataCorrupt, match="s3://changed/k differs from what was sent"):
        store.get_file("k", tmp_path / "back")
    assert not (tmp_path / "back").exists()


# ---------------------------------------------------------------- a folder shares the bytes of what is put into it


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    monkeypatch.setattr(fcntl, "ioctl", refuses)


def test_only_a_read_only_file_is_linked(file: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.put_file("writable", file, sha256_of(file))
    assert file.stat().st_nlink == 1
    file.chmod(0o444)
    store.put_file("read-only", file, sha256_of(file))
    shares = (tmp_path / "store" / "read-only").samefile(file)
    assert shares or can_reflink(file)
    assert not store.put_file("read-only", file, sha256_of(file))


def can_reflink(file: Path) -> bool:
    return copying._reflinked(file, file.with_name("probe"))


def test_without_links_an_object_is_a_copy(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    file.chmod(0o444)
    store = FolderStore(tmp_path / "store")
    assert store.put_file("k", file, sha256_of(file))
    assert not store.put_file("k", file, sha256_of(file))
    assert not (tmp_path / "store" / "k").samefile(file)


def test_a_damaged_object_is_replaced_also_if_it_is_a_link_of_what_is_put(file: Path, tmp_path: Path) -> None:
    store, content = FolderStore(tmp_path / "store"), file.read_bytes()
    file.chmod(0o444)
    store.put_file("k", file, sha256_of(file))
    recorded = sha256_of(file)
    file.chmod(0o644)
    file.write_bytes(content[::-1])
    with pytest.raises(DataCorrupt, match="differs from its recorded content"):
        store.put_file("k", file, recorded)
    file.unlink()
    file.write_bytes(content)
    store.put_file("k", file, recorded)
    assert (tmp_path / "store" / "k").read_bytes() == content


def test_a_full_disk_leaves_the_object_as_it_was(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, content = FolderStore(tmp_path / "store"), file.read_bytes()
    store.put_file("k", file, sha256_of(file))
    file.write_bytes(content[::-1])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    without_links(monkeypatch)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        ServiceUnavailable, match=r"store/k cannot be stored \(No space left on device\)\. Free disk space"
    ) as caught:
        store.put_file("k", file, sha256_of(file))
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["k"]
    assert (tmp_path / "store" / "k").read_bytes() == content


def test_a_bucket_that_cannot_be_named_so_is_one_line(s3_server) -> None:
    with pytest.raises(SettingsError, match=r"'no bucket', which is not a valid bucket name\. Set MINIO_BUCKET"):
        S3Store(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, "no bucket")


@pytest.mark.parametrize("wrong", ["access", "secret"])
def test_a_wrong_key_is_one_line_without_the_key(s3_server, wrong: str, file: Path) -> None:
    access = SecretStr("nobody") if wrong == "access" else s3_server.access_key
    secret = SecretStr("not-the-secret") if wrong == "secret" else s3_server.secret_key
    with pytest.raises(ServiceUnavailable) as caught:
        S3Store(s3_server.endpoint, access, secret, "b").put_file("k", file, sha256_of(file))
    text = str(caught.value)
    assert s3_server.endpoint in text
    assert "'b'" in text
    assert "refused the access" in text
    assert "MINIO_SECRET_KEY" in text
    assert "\n" not in text
    assert "not-the-secret" not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "no url at all"])
def test_a_server_that_does_not_answer_is_named(endpoint: str, file: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="did not respond") as caught:
        S3Store(endpoint, SecretStr("a"), SecretStr("b"), "data").put_file("k", file, sha256_of(file))
    assert endpoint in str(caught.value)
    assert "MINIO_ENDPOINT_URL" in str(caught.value)
