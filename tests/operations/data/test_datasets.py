"""A data set from archive or folder to a verified, uploaded, split version; bad or broken ones change nothing."""

import dataclasses
import hashlib
import http.server
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from openmlops.adapters import known_hashes
from openmlops.adapters.contents import key_of
from openmlops.core.types import DatasetRef
from openmlops.errors import DataCorrupt, DataError, DataInvalid, OpenMLOpsError, ServiceUnavailable
from openmlops.files import Manifest, sha256_of
from openmlops.operations.data import datasets
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from openmlops.usecases.base import Archive
from openmlops.usecases.cifar10 import batches
from openmlops.usecases.cifar10.data import META, TEST, TRAIN


def write_set(folder: Path, seed: int = 0) -> Path:
    """A small valid data set of noise: six files of 40 images, ten classes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    meta = {b"num_cases_per_batch": 40, b"label_names": [b"c%d" % number for number in range(10)]}
    (folder / META).write_bytes(batches.dump(meta))
    for name in (*TRAIN, TEST):
        content = {b"labels": [row % 10 for row in range(40)], b"data": rng.integers(0, 256, (40, 3072), dtype=np.uint8)}
        (folder / name).write_bytes(batches.dump(content))
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Workspace(Settings())


@pytest.fixture
def added(workspace: Workspace, tmp_path: Path) -> DatasetRef:
    return datasets.add(workspace, write_set(tmp_path / "first"))


# ---------------------------------------------------------------- add, ingest, status


def test_the_sample_is_a_version_like_any_other(workspace: Workspace) -> None:
    ref = datasets.make_sample(workspace)
    assert (ref.name, ref.rows) == ("cifar10", 4200)
    assert workspace.data_folder == Path("data/raw/cifar-10-batches-py").resolve()
    assert ref.fingerprint == Manifest.of(workspace.data_folder).fingerprint
    assert datasets.ingest(workspace) == ref
    assert datasets.check(workspace).passed


def test_the_last_good_version_stays_when_a_bad_one_is_added(workspace: Workspace, added: DatasetRef, tmp_path: Path) -> None:
    bad = write_set(tmp_path / "bad", seed=1)
    (bad / "data_batch_2").unlink()
    shutil.copyfile(bad / TEST, bad / "data_batch_3")
    with pytest.raises(DataInvalid, match="data_batch_2: the file is missing") as caught:
        datasets.add(workspace, bad)
    assert [problem.where for problem in caught.value.problems] == ["data_batch_2"]
    assert datasets.ingest(workspace) == added
    shutil.copyfile(write_set(tmp_path / "other", seed=2) / TEST, bad / "data_batch_2")
    with pytest.raises(DataInvalid, match="test images are also in the data batches"):
        datasets.add(workspace, bad)
    assert datasets.ingest(workspace) == added


def test_what_was_broken_in_place_is_not_added_and_comes_back(workspace: Workspace, added: DatasetRef) -> None:
    (workspace.data_folder / "data_batch_1").write_bytes(b"oops")
    with pytest.raises(DataInvalid, match="data_batch_1: cannot be read"):
        datasets.add(workspace, workspace.data_folder)
    assert datasets.ingest(workspace) == added


def test_damage_that_changes_no_times_is_found_before_packed_images_are_used(workspace: Workspace, added: DatasetRef) -> None:
    """A failing disk writes other bytes, and no time: here the memory of hashes is told so."""
    path = workspace.data_folder / "data_batch_1"
    known = workspace.known_hashes.of([path])[0]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    workspace.known_hashes._new[known_hashes._stamp_of(path)] = known
    assert workspace.data_versions.differences(workspace.data_folder) == ()
    assert datasets.ingest(workspace) == added
    assert workspace.data_versions.check(workspace.data_folder) == ()
    assert path.read_bytes()[-1:] != b"?"


def test_a_changed_folder_is_added_in_place(workspace: Workspace, added: DatasetRef) -> None:
    write_set(workspace.data_folder, seed=5)
    changed = datasets.add(workspace, workspace.data_folder)
    assert changed.fingerprint != added.fingerprint
    assert datasets.ingest(workspace) == changed


def test_an_add_that_dies_between_copy_and_record_leaves_the_old_version(
    workspace: Workspace, added: DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(_: Path) -> Manifest:
        raise ServiceUnavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(workspace.data_versions, "add", dies)
        with pytest.raises(ServiceUnavailable):
            datasets.add(workspace, write_set(tmp_path / "second", seed=2))
    assert datasets.ingest(workspace) == added
    kept = workspace.home / "replaced" / "cifar-10-batches-py"
    assert Manifest.of(kept) == Manifest.of(tmp_path / "second")


def test_an_old_version_is_restored_for_an_old_model(workspace: Workspace, added: DatasetRef, tmp_path: Path) -> None:
    record = workspace.data_versions.record(workspace.data_folder)
    datasets.add(workspace, write_set(tmp_path / "second", seed=2))
    restored = workspace.data_versions.restore(record, tmp_path / "restored")
    assert restored.fingerprint == added.fingerprint


def test_a_failing_pull_stops_ingest(workspace: Workspace, added: DatasetRef) -> None:
    shutil.rmtree(workspace.data_folder)
    shutil.rmtree(workspace.home / "dvc-cache")
    shutil.rmtree(workspace.home / "dvc-remote")
    with pytest.raises(DataCorrupt, match="neither in the cache nor in the DVC remote"):
        datasets.ingest(workspace)


def test_status_tells_what_is_here_and_whether_it_is_safe(workspace: Workspace, tmp_path: Path) -> None:
    before = datasets.status(workspace)
    assert (before.present, before.fingerprint, before.rows, before.pushed) == (False, None, None, None)
    ref = datasets.add(workspace, write_set(tmp_path / "first"))
    found = datasets.status(workspace)
    assert (found.present, found.fingerprint, found.rows, found.pushed) == (True, ref.fingerprint, 240, True)
    (workspace.data_folder / "data_batch_4").unlink()
    shutil.rmtree(workspace.home / "dvc-remote")
    after = datasets.status(workspace)
    assert after.differences == ("data_batch_4 is missing",)
    assert (after.rows, after.pushed) == (None, False)


def test_status_answers_when_the_remote_does_not(workspace: Workspace, added: DatasetRef) -> None:
    offline = Workspace(workspace.settings.model_copy(update={"minio_endpoint_url": "http://127.0.0.1:9"}))
    found = datasets.status(offline)
    assert found.fingerprint == added.fingerprint
    assert found.pushed is None
    assert "s3://openmlops/dvc cannot be used" in found.remote_problem


def test_check_reports_what_is_not_as_recorded(workspace: Workspace, added: DatasetRef) -> None:
    write_set(workspace.data_folder, seed=5)
    report = datasets.check(workspace)
    assert not report.passed
    assert "data_batch_1 differs from its recorded content (SHA-256)" in [problem.what for problem in report.problems]


@pytest.mark.parametrize("act", [datasets.ingest, datasets.check], ids=["ingest", "check"])
def test_without_a_data_set_the_error_says_what_to_run(workspace: Workspace, act) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="openmlops data fetch"):
        act(workspace)


def test_names_that_cannot_be_stored_are_refused_when_they_are_added(workspace: Workspace, tmp_path: Path) -> None:
    """All of them are named, in full: the upload, before a training, would be too late."""
    long = "é" * 101
    folder = write_set(tmp_path / "mine")
    for name in (long, "back\\slash", "line\nbreak"):
        (folder / name).touch()
    with pytest.raises(DataInvalid) as caught:
        datasets.add(workspace, folder)
    said = [str(problem) for problem in caught.value.problems]
    assert f"{long}: the name has more than 200 bytes; rename it" in said
    assert "back\\slash: the name has a backslash; rename it" in said
    assert any("the name has characters that cannot be printed" in each for each in said)


def test_validate_stops_what_blocks_and_reports_the_rest(workspace: Workspace, added: DatasetRef) -> None:
    assert datasets.validate(workspace, added).class_counts == {f"c{number}": 24 for number in range(10)}
    (workspace.data_folder / "data_batch_5").unlink()
    bad = workspace.data_versions.add(workspace.data_folder).fingerprint  # as nobody does who uses `datasets.add`
    with pytest.raises(DataInvalid, match="data_batch_5: the file is missing"):
        datasets.validate(workspace, added.model_copy(update={"fingerprint": bad}))


def test_processes_at_once_end_with_one_whole_version(workspace: Workspace, added: DatasetRef, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_set(tmp_path / str(seed), seed)
    code = (
        "import sys; from pathlib import Path; from openmlops.operations.data import datasets;"
        "from openmlops.operations.workspace import Workspace; from openmlops.settings import Settings;"
        "w = Workspace(Settings());"
        "[datasets.add(w, Path(sys.argv[1])) if len(sys.argv) > 1 else datasets.ingest(w) for _ in range(3)]"
    )
    folders: list[list[str]] = [[str(tmp_path / "1")], [str(tmp_path / "2")], []]
    running = [subprocess.Popen([sys.executable, "-c", code, *more]) for more in folders]
    assert [process.wait(600) for process in running] == [0, 0, 0]
    possible = {Manifest.of(tmp_path / name).fingerprint for name in ("1", "2")}
    assert datasets.ingest(workspace).fingerprint in possible
    assert datasets.status(workspace).pushed


@pytest.mark.slow
def test_an_add_that_is_killed_anywhere_never_leaves_a_wrong_version(
    workspace: Workspace, added: DatasetRef, tmp_path: Path
) -> None:
    """kill -9 at ten moments of an add: afterwards the folder is the old or the new version, or an error says to add again. The
    first version, whose files are links to the cache's, comes back from its record each time."""
    code = (
        "import sys; from pathlib import Path; from openmlops.operations.data import datasets;"
        "from openmlops.operations.workspace import Workspace; from openmlops.settings import Settings;"
        "import dvc.repo, numpy; w = Workspace(Settings()); w.use_case; print('go', flush=True);"
        "datasets.add(w, Path(sys.argv[1]))"
    )
    good, record = {added.fingerprint}, workspace.data_versions.record(workspace.data_folder)
    for moment in range(10):
        folder = write_set(tmp_path / f"killed-{moment}", seed=10 + moment)
        good.add(Manifest.of(folder).fingerprint)
        with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.08 * moment)
            process.kill()
        try:
            assert datasets.ingest(workspace).fingerprint in good
        except DataCorrupt:  # killed between the two small files: what the error says to do is enough
            datasets.add(workspace, folder)
        assert Manifest.of(workspace.data_folder).fingerprint in good
        assert workspace.data_versions.restore(record, tmp_path / "first-again").fingerprint == added.fingerprint


# ---------------------------------------------------------------- fetch


@pytest.fixture
def published(workspace: Workspace, tmp_path: Path) -> Iterator[Path]:
    """A published archive of a small data set, served over HTTP, as the use case's own."""
    (tmp_path / "www").mkdir()
    path = tmp_path / "www" / "small.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(write_set(tmp_path / "published"), "cifar-10-batches-py")
    handler = partial(_Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        checksum = f"md5:{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
        archive = Archive(f"http://127.0.0.1:{server.server_address[1]}/small.tar.gz", checksum, "cifar-10-batches-py")
        workspace.__dict__["use_case"] = dataclasses.replace(workspace.use_case, archive=archive)
        yield path
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_fetch_downloads_checks_and_adds(workspace: Workspace, published: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    ref = datasets.fetch(workspace, on_progress=lambda done, total: seen.append(done))
    assert ref.fingerprint == Manifest.of(tmp_path / "published").fingerprint
    assert seen[-1] == published.stat().st_size
    assert [path.name for path in (workspace.home / "downloads").iterdir()] == ["small.tar.gz"]
    published.unlink()
    assert datasets.fetch(workspace) == ref, "what was downloaded is not downloaded again"


def test_fetch_takes_an_archive_that_is_here_if_it_is_the_official_one(
    workspace: Workspace, published: Path, tmp_path: Path
) -> None:
    assert datasets.fetch(workspace, archive_file=published).rows == 240
    (tmp_path / "other.tar.gz").write_bytes(published.read_bytes() + b"\0")
    with pytest.raises(DataCorrupt, match=r"other\.tar\.gz has the checksum md5:"):
        datasets.fetch(workspace, archive_file=tmp_path / "other.tar.gz")
    with pytest.raises(DataError, match="There is no file"):
        datasets.fetch(workspace, archive_file=tmp_path / "none")


def test_fetch_from_a_mirror_keeps_to_the_published_checksum(workspace: Workspace, published: Path) -> None:
    mirror = workspace.use_case.archive.url.replace("small", "mirror")
    published.with_name("mirror.tar.gz").write_bytes(b"something else")
    with pytest.raises(DataCorrupt, match=r"mirror\.tar\.gz has the checksum"):
        datasets.fetch(workspace, url=mirror)
    assert not workspace.data_folder.exists()


# ---------------------------------------------------------------- upload


def test_upload_sends_each_content_once_below_the_prefix(workspace: Workspace, added: DatasetRef) -> None:
    first, second = datasets.upload(workspace, added), datasets.upload(workspace, added)
    assert (first.sent, first.skipped) == (7, 0)
    assert (second.sent, second.skipped) == (0, 7)
    assert first.keys == second.keys
    assert f"data/cifar-10-batches-py/{added.fingerprint}/test_batch" in first.keys
    assert tuple(workspace.object_store.list("data/")) == first.keys


def test_an_upload_never_sends_another_version_under_this_ones_name(workspace: Workspace, added: DatasetRef) -> None:
    write_set(workspace.data_folder, seed=5)
    sealed = workspace.data_versions.manifest(workspace.data_folder).files
    sent = datasets.upload(workspace, added).keys
    assert {key.rpartition("/")[2]: sha256_of(workspace.home / "object-store" / key) for key in sent} == {
        name: entry.sha256 for name, entry in sealed.items()
    }


def test_data_set_and_versions_go_to_one_bucket_of_a_real_s3(workspace: Workspace, s3_server, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = workspace.settings.model_copy(
        update={
            "minio_endpoint_url": s3_server.endpoint,
            "minio_access_key": s3_server.access_key,
            "minio_secret_key": s3_server.secret_key,
            "minio_bucket": "whole",
            "minio_data_prefix": "/raw/sets/",
        }
    )
    remote = Workspace(settings)
    ref = datasets.add(remote, write_set(tmp_path / "first"))
    assert datasets.upload(remote, ref).sent == 7
    assert datasets.upload(remote, ref).skipped == 7
    shutil.rmtree(remote.data_folder)
    shutil.rmtree(remote.home / "dvc-cache")
    assert datasets.ingest(remote) == ref
    wrong = Workspace(settings.model_copy(update={"minio_secret_key": SecretStr("wrong")}))
    with pytest.raises(OpenMLOpsError, match="refused the access"):
        datasets.upload(wrong, ref)


# ---------------------------------------------------------------- split


def test_splits_are_kept_and_named_by_what_they_contain(workspace: Workspace, added: DatasetRef) -> None:
    ref = datasets.split(workspace, added, seed=3)
    indices = datasets.indices_of(workspace, ref)
    assert {name: len(indices[name]) for name in indices} == {
        "train": ref.train,
        "validation": ref.validation,
        "test": ref.test,
    }
    assert ref.train + ref.validation + ref.test + ref.dropped == added.rows
    assert sha256_of(workspace.home / "splits" / ref.fingerprint) == ref.fingerprint
    assert datasets.split(workspace, added, seed=3) == ref
    assert datasets.split(workspace, added, seed=4).fingerprint != ref.fingerprint


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damaged_splits_come_back_from_the_object_store(workspace: Workspace, added: DatasetRef, damage: str) -> None:
    ref = datasets.split(workspace, added, seed=3)
    before = datasets.indices_of(workspace, ref)
    path = workspace.home / "splits" / ref.fingerprint
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        other = datasets.split(workspace, added, seed=4)
        shutil.copyfile(path.with_name(other.fingerprint), path)
    found = datasets.indices_of(workspace, ref)
    assert all(np.array_equal(found[name], before[name]) for name in before)
    path.unlink()
    workspace.object_store.delete(key_of(ref.content))
    with pytest.raises(DataError, match=r"neither at .* nor in the object store: .* Run the pipeline again"):
        datasets.indices_of(workspace, ref)
