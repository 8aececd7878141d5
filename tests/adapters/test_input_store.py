"""Kept inputs: by content, once, pruned from the oldest, never returned damaged."""

import os

import pytest

from openmlops.adapters.input_store import InputStore, sha256_of
from openmlops.errors import DataCorrupt, DataError


@pytest.fixture
def store(tmp_path) -> InputStore:
    return InputStore(tmp_path / "inputs")


def kept(store: InputStore, content: bytes) -> str:
    sha256 = sha256_of(content)
    store.put(content, sha256)
    return sha256


def aged(store: InputStore, content: bytes, seconds: float) -> str:
    sha256 = kept(store, content)
    os.utime(store.path(sha256), (seconds, seconds))
    return sha256


def test_what_was_put_is_read_back_by_its_hash(store):
    sha256 = kept(store, b"image")
    assert store.read(sha256) == b"image"
    assert store.path(sha256).parent.name == sha256[:2]


def test_the_same_content_is_kept_once_and_counts_as_new_again(store):
    sha256 = aged(store, b"image", 1000)
    assert kept(store, b"image") == sha256
    assert store.prune(max_bytes=1000, oldest=2000).files == 1


def test_an_input_that_is_not_kept_says_so(store):
    with pytest.raises(DataError, match="not stored"):
        store.read("ab" * 32)


def test_a_damaged_input_is_not_returned(store):
    sha256 = kept(store, b"image")
    store.path(sha256).write_bytes(b"another")
    with pytest.raises(DataCorrupt):
        store.read(sha256)


def test_inputs_older_than_the_limit_go(store):
    old, new = aged(store, b"old", 1000), aged(store, b"new", 3000)
    assert store.prune(max_bytes=10**6, oldest=2000).removed == 1
    assert store.path(new).exists()
    assert not store.path(old).exists()


def test_beyond_the_limit_in_bytes_the_oldest_go(store):
    names = [aged(store, bytes([i]) * 100, 1000 + i) for i in range(10)]
    pruned = store.prune(max_bytes=500, oldest=0)
    assert (pruned.removed, pruned.files, pruned.bytes) == (6, 4, 400)
    assert [store.path(name).exists() for name in names] == [False] * 6 + [True] * 4


def test_pruning_an_empty_store_removes_nothing(store):
    assert store.prune(max_bytes=1, oldest=10**12).removed == 0
