"""DVC moves the bytes; nothing that it brings is believed before it was hashed."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from openmlops.adapters import dvc_repository, known_hashes
from openmlops.adapters.data_versions import DataVersions, Remote
from openmlops.adapters.dvc_repository import DvcRepository
from openmlops.adapters.s3_store import S3Store
from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable, SettingsError
from openmlops.files import Manifest

NAMES = ("batches.meta", "data_batch_1", "data_batch_2", "sub/test_batch")


@dataclass
class Place:
    """A project folder with an added data set, its cache and its folder remote."""

    root: Path
    versions: DataVersions
    folder: Path
    manifest: Manifest

    @property
    def cache(self) -> Path:
        return self.root / "home" / "cache" / "files" / "md5"

    @property
    def remote(self) -> Path:
        return self.root / "home" / "remote" / "files" / "md5"

    def object_of(self, name: str, store: Path) -> Path:
        """The stored object of one file, or of the folder's listing."""
        listing = next(self.remote.rglob("*.dir"))
        if name == "listing":
            return store / listing.relative_to(self.remote)
        md5 = next(entry["md5"] for entry in json.loads(listing.read_bytes()) if entry["relpath"] == name)
        return store / md5[:2] / md5[2:]


def write_set(folder: Path, seed: bytes = b"a") -> Path:
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(seed * (1000 + number) + name.encode())
    return folder


def embedded(root: Path) -> DataVersions:
    return DataVersions(Remote(url=str(root / "home" / "remote"), is_default=True), root / "home" / "cache")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which a data set was added, once for all tests; each gets a copy."""
    root = tmp_path_factory.mktemp("added")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        embedded(root).add(write_set(root / "data" / "raw" / "set"))
    return root


@pytest.fixture
def place(root: Path, added: Path) -> Place:
    shutil.copytree(added, root, dirs_exist_ok=True)
    folder = root / "data" / "raw" / "set"
    return Place(root, embedded(root), folder, Manifest.of(folder))


# ---------------------------------------------------------------- 30 corruptions


def keeping_mode_and_time(path: Path, content: bytes) -> None:
    """Write as a failing disk does: same mode (DVC leaves 0444), same modification time, same inode."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(position: float) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(position * (len(content) - 1))] ^= 1
        keeping_mode_and_time(path, bytes(content))

    return act


def truncate(share: float) -> Callable[[Path], None]:
    return lambda path: keeping_mode_and_time(path, path.read_bytes()[: int(share * path.stat().st_size)])


STORED = {
    "flip-first-byte": ("batches.meta", flip(0)),
    "flip-middle-byte": ("data_batch_1", flip(0.5)),
    "flip-last-byte": ("sub/test_batch", flip(1)),
    "flip-listing": ("listing", flip(0.4)),
    "truncate-one-byte": ("data_batch_2", truncate(0.9995)),
    "truncate-half": ("data_batch_1", truncate(0.5)),
    "truncate-to-nothing": ("sub/test_batch", truncate(0)),
    "truncate-listing": ("listing", truncate(0.5)),
    "delete-file": ("data_batch_2", Path.unlink),
    "delete-listing": ("listing", Path.unlink),
}
WORKING = {
    "flip-first-byte": ("batches.meta", flip(0)),
    "flip-middle-byte": ("data_batch_1", flip(0.5)),
    "flip-last-byte": ("sub/test_batch", flip(1)),
    "truncate-one-byte": ("data_batch_2", truncate(0.9995)),
    "truncate-half": ("data_batch_1", truncate(0.5)),
    "truncate-to-nothing": ("sub/test_batch", truncate(0)),
    "delete-file": ("data_batch_2", Path.unlink),
    "delete-meta": ("batches.meta", Path.unlink),
    "swap": ("data_batch_1", lambda path: shutil.copyfile(path.with_name("data_batch_2"), path)),
    "extra-file": ("data_batch_1", lambda path: shutil.copyfile(path, path.with_name("data_batch_9"))),
}


@pytest.mark.parametrize("kind", STORED)
def test_a_corrupt_cache_is_healed_from_the_remote(kind: str, place: Place) -> None:
    name, act = STORED[kind]
    act(place.object_of(name, place.cache))
    shutil.rmtree(place.folder)
    assert place.versions.pull(place.folder) == place.manifest
    assert place.manifest.differences(place.folder) == ()
    assert place.object_of(name, place.cache).read_bytes() == place.object_of(name, place.remote).read_bytes()


@pytest.mark.parametrize("kind", STORED)
def test_a_corrupt_remote_is_named_and_the_last_good_stays(kind: str, place: Place) -> None:
    name, act = STORED[kind]
    act(place.object_of(name, place.remote))
    shutil.rmtree(place.cache)
    (place.folder / "data_batch_2").unlink()  # so that there is something to pull
    before = Manifest.of(place.folder)
    with pytest.raises(DataCorrupt, match=name) as caught:
        place.versions.pull(place.folder)
    assert str(place.root / "home" / "remote") in str(caught.value)
    assert Manifest.of(place.folder) == before
    assert [path.name for path in place.folder.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", WORKING)
def test_a_corrupt_working_copy_is_detected_and_replaced(kind: str, place: Place) -> None:
    name, act = WORKING[kind]
    act(place.folder / name)
    damaged = Manifest.of(place.folder)
    expected = "data_batch_9" if kind == "extra-file" else name
    assert [difference.split()[0] for difference in place.versions.check(place.folder)] == [expected]
    assert place.versions.pull(place.folder) == place.manifest
    assert place.manifest.differences(place.folder) == ()
    assert Manifest.of(place.root / "home" / "replaced" / "set") == damaged, "what differed is kept aside"


def test_the_corruptions_are_thirty() -> None:
    assert 2 * len(STORED) + len(WORKING) == 30


def test_a_corrupt_cache_and_remote_are_never_accepted(place: Place) -> None:
    for store in (place.cache, place.remote):
        flip(0.5)(place.object_of("data_batch_1", store))
    shutil.rmtree(place.folder)
    with pytest.raises(DataCorrupt, match="data_batch_1: corrupt in"):
        place.versions.pull(place.folder)
    assert not place.folder.exists()


def test_adding_a_good_copy_again_repairs_the_remote(place: Place) -> None:
    flip(0.5)(place.object_of("data_batch_1", place.remote))
    place.object_of("data_batch_2", place.remote).unlink()
    flip(0.5)(place.object_of("sub/test_batch", place.cache))
    assert place.versions.add(place.folder) == place.manifest
    shutil.rmtree(place.cache)
    shutil.rmtree(place.folder)
    assert place.versions.pull(place.folder) == place.manifest


# ---------------------------------------------------------------- pull


def test_a_failing_dvc_pull_stops_the_pipeline(place: Place) -> None:
    """Defect 8 of this field's examples: `dvc pull` fails, nobody looks, and training goes on with what lies there."""
    shutil.rmtree(place.root / "home" / "cache")
    shutil.rmtree(place.root / "home" / "remote")
    flip(0.5)(place.folder / "data_batch_1")
    with pytest.raises(DataError, match="neither in the cache nor in the DVC remote"):
        place.versions.pull(place.folder)


def test_an_unreachable_remote_is_named_with_its_cause(place: Place) -> None:
    shutil.rmtree(place.root / "home" / "cache")
    shutil.rmtree(place.folder)
    remote = Remote(url="s3://bucket/dvc", is_default=True, endpoint_url="http://127.0.0.1:9", access_key=SecretStr("key"))
    with pytest.raises(ServiceUnavailable, match=r"s3://bucket/dvc cannot be used.*127\.0\.0\.1:9") as caught:
        DataVersions(remote, place.root / "home" / "cache").pull(place.folder)
    assert "\n" not in str(caught.value)
    assert not place.folder.exists()


def test_a_folder_without_a_version_says_what_to_run(root: Path) -> None:
    with pytest.raises(DataError, match="openmlops data fetch"):
        embedded(root).pull(root / "data" / "set")


def test_nothing_is_pulled_when_the_folder_is_as_recorded(place: Place) -> None:
    shutil.rmtree(place.root / "home")
    assert place.versions.pull(place.folder) == place.manifest
    assert not (place.root / "home").exists()


def test_changes_that_were_kept_stay_when_more_are_kept(place: Place) -> None:
    kept = place.root / "home" / "replaced"
    for name, where in (("first", ""), ("second", "-2"), ("third", "-3")):
        (place.folder / name).write_text("somebody's work")
        place.versions.pull(place.folder)
        assert (kept / f"{place.folder.name}{where}" / name).is_file()
    assert (kept / place.folder.name / "first").is_file()


@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_was_never_added_is_kept_before_it_is_replaced(place: Place, is_recorded: bool) -> None:
    place.versions.keep_changes(place.folder)
    assert place.folder.is_dir(), "it can be restored"
    (place.folder / "mine").write_text("somebody's work")
    if not is_recorded:
        place.folder.with_name(f"{place.folder.name}.manifest.json").write_text("damaged")
    place.versions.keep_changes(place.folder)
    assert not place.folder.exists()
    assert (place.root / "home" / "replaced" / place.folder.name / "mine").is_file()


def test_the_small_files_of_two_versions_do_not_pass_as_one(place: Place) -> None:
    first = (place.folder.parent / "set.dvc").read_bytes()
    place.versions.add(write_set(place.folder, b"b"))
    (place.folder.parent / "set.dvc").write_bytes(first)
    (place.folder / "data_batch_1").unlink()
    with pytest.raises(DataCorrupt, match="name different versions"):
        place.versions.pull(place.folder)


def test_a_listing_cannot_write_outside_the_folder(place: Place) -> None:
    listing = json.dumps([{"md5": "0" * 32, "relpath": "../../escaped"}]).encode()
    oid = hashlib.md5(listing).hexdigest() + ".dir"
    stored = place.remote / oid[:2] / oid[2:]
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(listing)
    record = {"set.dvc": f"outs:\n- md5: {oid}\n  hash: md5\n  path: set\n".encode()}
    with pytest.raises(DataCorrupt, match=r"forbidden file '\.\./\.\./escaped'"):
        place.versions.restore(record, place.root / "other")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"outs: 3", b"outs:\n- path: set\n", b"outs: [{md5: ../../x, hash: md5}]", b"{"]
)
def test_a_broken_dvc_file_is_an_error_of_ours(place: Place, content: bytes) -> None:
    (place.folder.parent / "set.dvc").write_bytes(content)
    shutil.rmtree(place.folder)
    with pytest.raises(DataError, match=r"set\.dvc"):
        place.versions.pull(place.folder)


# ---------------------------------------------------------------- versions


def test_an_old_version_is_restored_from_its_record_into_any_folder(place: Place) -> None:
    record = place.versions.record(place.folder)
    place.versions.add(write_set(place.folder, b"b"))
    assert place.versions.restore(record, place.root / "old") == place.manifest
    assert place.manifest.differences(place.root / "old") == ()
    assert place.manifest.differences(place.folder) != ()


def test_a_version_that_was_not_pushed_says_so(place: Place) -> None:
    assert place.versions.is_pushed(place.folder)
    place.object_of("data_batch_2", place.remote).unlink()
    assert not place.versions.is_pushed(place.folder)


def test_a_push_that_fails_is_an_error_and_is_made_up_for_by_adding_again(root: Path) -> None:
    (root / "home").mkdir()
    (root / "home" / "remote").write_text("a file where a folder should be")
    folder = write_set(root / "set")
    with pytest.raises(ServiceUnavailable, match="home/remote cannot be used"):
        embedded(root).add(folder)
    (root / "home" / "remote").unlink()
    embedded(root).add(folder)
    assert embedded(root).is_pushed(folder)


def test_an_empty_folder_is_no_version(root: Path) -> None:
    (root / "set").mkdir()
    with pytest.raises(DataError, match="contains no files"):
        embedded(root).add(root / "set")


# ---------------------------------------------------------------- kept once


@pytest.fixture
def shared(root: Path) -> Place:
    """A project whose folder and cache share their bytes, as a copy of one does not."""
    folder = write_set(root / "data" / "raw" / "set")
    return Place(root, embedded(root), folder, embedded(root).add(folder))


def edit(path: Path) -> None:
    """What an editor does to a read-only file that it was told to write anyway, or any program that runs as root."""
    path.chmod(0o644)
    path.write_bytes(b"edited" + path.read_bytes()[6:])
    path.chmod(0o444)


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has neither reflinks nor hard links."""

    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    monkeypatch.setattr(fcntl, "ioctl", refuses)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_folder_and_cache_share_their_bytes_and_the_remote_has_its_own(shared: Place) -> None:
    for name in NAMES:
        file, cached, sent = shared.folder / name, shared.object_of(name, shared.cache), shared.object_of(name, shared.remote)
        if file.stat().st_nlink > 1:  # else they share by reflink, or cannot
            assert file.samefile(cached)
            assert stat.S_IMODE(file.stat().st_mode) == 0o444
        assert sent.stat().st_nlink == 1
        assert file.read_bytes() == sent.read_bytes()


def test_an_edit_in_place_is_noticed_and_never_changes_the_version(shared: Place) -> None:
    before, sent = contents(shared.folder), Manifest.of(shared.remote)
    edit(shared.folder / "data_batch_1")
    assert shared.versions.check(shared.folder) == ("data_batch_1 differs from its recorded content (SHA-256)",)
    assert shared.versions.differences(shared.folder) == shared.versions.check(shared.folder)
    assert embedded(shared.root).pull(shared.folder) == shared.manifest
    assert contents(shared.folder) == before
    aside = shared.root / "home" / "replaced" / "set" / "data_batch_1"
    assert aside.read_bytes().startswith(b"edited")
    assert not aside.samefile(shared.object_of("data_batch_1", shared.cache))
    assert Manifest.of(shared.remote) == sent


def test_what_was_edited_in_place_becomes_a_version_and_the_old_one_comes_back(shared: Place) -> None:
    before, record = contents(shared.folder), shared.versions.record(shared.folder)
    edit(shared.folder / "data_batch_1")
    (shared.folder / "data_batch_2").unlink()
    after = embedded(shared.root).add(shared.folder)
    assert after.files["data_batch_1"] != shared.manifest.files["data_batch_1"]
    assert embedded(shared.root).restore(record, shared.root / "old") == shared.manifest
    assert contents(shared.root / "old") == before
    assert shared.versions.check(shared.folder) == ()
    assert after.differences(shared.folder) == ()
    shutil.rmtree(shared.cache)
    assert embedded(shared.root).restore(shared.versions.record(shared.folder), shared.root / "new") == after


def test_a_version_that_comes_back_shares_its_bytes_with_the_cache(shared: Place) -> None:
    linked = (shared.folder / "data_batch_1").stat().st_nlink > 1
    shutil.rmtree(shared.folder)
    shared.versions.pull(shared.folder)
    assert (shared.folder / "data_batch_1").samefile(shared.object_of("data_batch_1", shared.cache)) is linked


def test_an_edit_during_the_push_does_not_get_into_the_remote(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(root / "set")
    push = DvcRepository.push

    def late(self: DvcRepository, oids: list[str]) -> list[str]:
        edit(folder / "data_batch_1")
        return push(self, oids)

    monkeypatch.setattr(DvcRepository, "push", late)
    with pytest.raises(DataCorrupt, match=r"is damaged\. Add the data again"):
        embedded(root).add(folder)
    sent = [path for path in (root / "home" / "remote").rglob("*") if path.is_file()]
    assert sent
    for path in sent:
        assert path.parent.name + path.name.removesuffix(".dir") == hashlib.md5(path.read_bytes()).hexdigest()


def test_links_of_the_users_own_are_not_shared_and_stay_writable(root: Path) -> None:
    photo, other = root / "photo", root / "other"
    photo.write_bytes(b"photo" * 1000)
    other.write_bytes(b"other" * 1000)
    folder = write_set(root / "set")
    os.link(photo, folder / "linked")
    (folder / "pointed").symlink_to(other)
    manifest = embedded(root).add(folder)
    for path in (photo, other):
        assert (path.stat().st_nlink, stat.S_IMODE(path.stat().st_mode) & 0o200) == (1, 0o200)
        path.write_bytes(b"mine")
    assert manifest.differences(folder) == ()


def test_files_of_the_same_content_share_one_object(root: Path) -> None:
    folder = write_set(root / "set")
    for name in ("once", "twice"):
        (folder / name).write_bytes(b"same" * 1000)
        (folder / f"empty-{name}").touch()
    versions = embedded(root)
    manifest = versions.add(folder)
    if (folder / "once").stat().st_nlink > 1:
        assert (folder / "once").samefile(folder / "twice")
        assert (folder / "empty-twice").stat().st_nlink == 1, "a file may have some thousand links only"
    shutil.rmtree(folder)
    assert versions.pull(folder) == manifest


def test_without_links_everything_is_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    folder = write_set(root / "data" / "raw" / "set")
    place = Place(root, embedded(root), folder, embedded(root).add(folder))
    assert {path.stat().st_nlink for path in root.rglob("*") if path.is_file()} == {1}
    edit(folder / "data_batch_1")
    assert place.versions.pull(folder) == place.manifest
    with embedded_bring(place, root / "brought") as brought:
        assert Manifest.of(brought) == place.manifest


def test_what_the_cache_has_is_not_copied_again(shared: Place, tmp_path: Path) -> None:
    with embedded_bring(shared, tmp_path / "brought") as brought:
        linked = (shared.folder / "data_batch_1").stat().st_nlink > 2
        assert (brought / "data_batch_1").samefile(shared.object_of("data_batch_1", shared.cache)) is linked


def test_a_damaged_object_is_not_used_for_what_is_added(shared: Place, tmp_path: Path) -> None:
    own = shutil.copytree(shared.folder, tmp_path / "own")
    edit(shared.folder / "data_batch_1")
    with embedded_bring(shared, tmp_path / "brought", own) as brought:
        assert Manifest.of(brought) == shared.manifest


@contextmanager
def embedded_bring(place: Place, out: Path, source: Path | None = None) -> Iterator[Path]:
    own = source or shutil.copytree(place.folder, out.with_name("own"))
    embedded(place.root).bring(own, out, lambda path: True, place.folder)
    yield out


def test_a_full_disk_leaves_the_last_version(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before, record = contents(shared.folder), shared.versions.record(shared.folder)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (shared.folder / "data_batch_9").write_bytes(b"new" * 1000)
    with monkeypatch.context() as patch:
        patch.setattr(dvc_repository, "write_all", full)
        with pytest.raises(ServiceUnavailable, match=r"remote cannot be used \(OSError: .*No space left") as caught:
            embedded(shared.root).add(shared.folder)
    assert "\n" not in str(caught.value)
    assert embedded(shared.root).restore(record, shared.root / "old") == shared.manifest
    assert contents(shared.root / "old") == before
    assert embedded(shared.root).add(shared.folder).files.keys() == {*NAMES, "data_batch_9"}
    assert shared.versions.is_pushed(shared.folder)


def test_a_file_that_vanishes_while_it_is_added_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(root / "set")
    read = known_hashes._read_file

    def vanishes(path: Path):  # type: ignore[no-untyped-def]
        path.unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(known_hashes, "_read_file", vanishes)
    with pytest.raises(DataError, match=r"batches\.meta cannot be read \(No such file or directory\)"):
        embedded(root).add(folder)


# ---------------------------------------------------------------- the user's own repository and console


@pytest.fixture
def own_repository(root: Path) -> Path:
    """A DVC repository that the user made himself, with a default remote."""
    remotes = "".join(f"['remote \"{name}\"']\n    url = {root / name}\n" for name in ("mine", "second"))
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(f"[core]\n    no_scm = True\n    remote = mine\n{remotes}")
    return root


def dvc(root: Path, *arguments: str) -> str:
    environment = os.environ | {"DVC_SITE_CACHE_DIR": str(root / "site"), "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_default_remote_of_the_users_repository_comes_first(own_repository: Path) -> None:
    folder = write_set(own_repository / "set")
    embedded(own_repository).add(folder)
    assert list((own_repository / "mine").rglob("*.dir"))
    assert list((own_repository / ".dvc" / "cache").rglob("*.dir"))
    assert not (own_repository / "home").exists() or not list((own_repository / "home").iterdir())


@pytest.mark.parametrize("url", ["second", "{root}/asked"])
def test_a_remote_that_was_asked_for_by_name_or_url_is_used(own_repository: Path, url: str) -> None:
    remote = Remote(url=url.format(root=own_repository), is_default=False)
    DataVersions(remote, own_repository / "home" / "cache").add(write_set(own_repository / "set"))
    assert list((own_repository / Path(remote.url).name).rglob("*.dir"))
    assert not (own_repository / "mine").exists()


def test_what_a_plain_dvc_add_made_is_pulled_and_gets_a_manifest(own_repository: Path) -> None:
    folder = write_set(own_repository / "set")
    expected = Manifest.of(folder)
    dvc(own_repository, "add", "set")
    dvc(own_repository, "push")
    shutil.rmtree(folder)
    assert embedded(own_repository).pull(folder) == expected
    assert Manifest.read(own_repository / "set.manifest.json") == expected


def test_the_dvc_command_finds_what_we_added(root: Path) -> None:
    versions, folder = embedded(root), write_set(root / "data" / "set")
    versions.add(folder)
    shutil.rmtree(folder)
    shutil.rmtree(root / "home" / "cache")
    dvc(root, "pull")
    assert versions.check(folder) == ()


def test_a_folder_inside_a_tracked_one_is_refused_in_one_line(own_repository: Path) -> None:
    folder = write_set(own_repository / "data" / "set")
    dvc(own_repository, "add", "data")
    with pytest.raises(DataError, match="which DVC tracks as a whole") as caught:
        embedded(own_repository).add(folder)
    assert "\n" not in str(caught.value)


def test_dvc_says_nothing_on_the_console(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_set(root / "set")
    embedded(root).add(folder)
    shutil.rmtree(root / "home" / "cache")
    flip(0.5)(next(path for path in (root / "home" / "remote").rglob("*") if path.is_file()))
    shutil.rmtree(folder)
    with pytest.raises(DataCorrupt):
        embedded(root).pull(folder)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_outside_the_project(root: Path, tmp_path: Path) -> None:
    write_set(root / "set")
    code = (
        "from pathlib import Path; from openmlops.adapters.data_versions import DataVersions, Remote;"
        "home = Path('home').resolve();"
        "DataVersions(Remote(url=str(home / 'remote'), is_default=True), home / 'cache').add(Path('set'))"
    )
    (tmp_path / "user").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "XDG_"))}
    site = Path("/var/tmp/dvc")
    before = sorted(site.rglob("*")) if site.exists() else None
    subprocess.run([sys.executable, "-c", code], cwd=root, env=environment | {"HOME": str(tmp_path / "user")}, check=True)
    assert list((tmp_path / "user").iterdir()) == []
    assert (sorted(site.rglob("*")) if site.exists() else None) == before


# ---------------------------------------------------------------- S3


@pytest.fixture
def s3_remote(s3_server) -> Remote:  # type: ignore[no-untyped-def]
    S3Store(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, "versions").ready()  # the server sees no new folder
    return Remote(
        url="s3://versions/dvc",
        is_default=True,
        endpoint_url=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )


def test_a_version_goes_through_s3_and_no_secret_is_written(root: Path, s3_remote: Remote) -> None:
    versions, folder = DataVersions(s3_remote, root / "home" / "cache"), write_set(root / "set")
    manifest = versions.add(folder)
    shutil.rmtree(folder)
    shutil.rmtree(root / "home" / "cache")
    assert versions.pull(folder) == manifest
    assert versions.is_pushed(folder)
    secret = s3_remote.secret_key.get_secret_value().encode()
    assert not [path for path in root.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_flipped_byte_in_s3_is_detected(root: Path, s3_remote: Remote, s3_server) -> None:  # type: ignore[no-untyped-def]
    versions, folder = DataVersions(s3_remote, root / "home" / "cache"), write_set(root / "set", b"flipped")
    versions.add(folder)
    size = (folder / "data_batch_1").stat().st_size
    flip(0.5)(
        next(path for path in (s3_server.folder / "versions").rglob("*") if path.is_file() and path.stat().st_size == size)
    )
    shutil.rmtree(folder)
    shutil.rmtree(root / "home" / "cache")
    with pytest.raises(DataCorrupt, match=r"data_batch_1: corrupt in the DVC remote s3://versions/dvc"):
        versions.pull(folder)


def test_a_wrong_key_is_one_line_without_the_key(root: Path, s3_remote: Remote) -> None:
    wrong = s3_remote.model_copy(update={"secret_key": SecretStr("not-the-secret")})
    with pytest.raises(ServiceUnavailable, match="s3://versions/dvc cannot be used") as caught:
        DataVersions(wrong, root / "home" / "cache").add(write_set(root / "set"))
    assert "not-the-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["données", "数据", "a{y}b", "50 %", "a'b\"c", "#a, b"])
def test_a_project_may_lie_in_a_folder_of_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the `dvc` command reads the same places from the configuration that is left there."""
    from dvc.config import Config

    root = tmp_path / name
    root.mkdir()
    monkeypatch.chdir(root)
    folder = write_set(root / "set")
    manifest = embedded(root).add(folder)
    shutil.rmtree(folder)
    assert embedded(root).pull(folder) == manifest
    stored = Config(str(root / ".dvc"))
    assert (stored["cache"]["dir"], stored["remote"]["openmlops"]["url"]) == (f"{root}/home/cache", f"{root}/home/remote")


def test_a_path_that_dvc_would_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the project it is relative, so that only a home elsewhere can have one."""
    root, home = tmp_path / "%(x)s", tmp_path / "%(y)s"
    root.mkdir()
    monkeypatch.chdir(root)
    outside = DataVersions(Remote(url=str(home / "remote"), is_default=True), home / "cache")
    with pytest.raises(SettingsError, match=r"cannot express the path .*%\(y\)s.*set OPENMLOPS_HOME"):
        outside.add(write_set(root / "set"))
    embedded(root).add(root / "set")


def test_a_file_name_in_another_encoding_is_named(root: Path) -> None:
    folder = write_set(root / "set")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"The file name .*caf\\udce9.png is not UTF-8. Rename it"):
        embedded(root).add(folder)


# ---------------------------------------------------------------- what is gone


def test_copies_that_somebody_deleted_are_told_without_dvc(place: Place) -> None:
    everywhere = {"folder": True, "cache": True, "remote": True}
    assert place.versions.copies(place.folder) == everywhere
    place.object_of("data_batch_1", place.remote).unlink()
    assert place.versions.copies(place.folder) == everywhere | {"remote": False}
    shutil.rmtree(place.cache)
    shutil.rmtree(place.folder)
    assert place.versions.copies(place.folder) == dict.fromkeys(everywhere, False)


def test_a_repository_of_others_is_not_judged_by_our_stores(place: Place) -> None:
    config = place.root / ".dvc" / "config.local"
    config.write_text(config.read_text().replace('remote "openmlops"', 'remote "theirs"'))
    shutil.rmtree(place.cache)
    assert place.versions.copies(place.folder) == {"folder": True}
