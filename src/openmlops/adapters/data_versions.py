"""Versions of a data folder: DVC stores and transfers the bytes, our SHA-256 manifest verifies them.

DVC by default verifies nothing: a flipped byte in its cache or remote passes `dvc pull` with exit code 0. So every object is
hashed before it is used, and a version replaces the folder only as a whole and after comparison with the manifest.

Folder and cache share their bytes where the file system can (dvc_repository.py). Hard links are read-only; whoever edits one
all the same changes the object too, which is noticed: the object is restored from the remote before it is used.

A version consists of two small files next to the folder: `<folder>.dvc` and `<folder>.manifest.json`. `record` returns them,
and `restore` needs nothing else. What is not here: the meaning of the files, and locking between processes
(operations/data/datasets.py).
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from glob import escape as glob_escape
from itertools import chain, count
from pathlib import Path
from shlex import quote

from openmlops.adapters import dvc_config, dvc_repository
from openmlops.adapters.dvc_config import Remote
from openmlops.adapters.dvc_repository import DvcRepository
from openmlops.adapters.known_hashes import Key, KnownHashes, read_file, state_of
from openmlops.core.types import Value
from openmlops.errors import DataCorrupt, DataError
from openmlops.files import Manifest, copy_file, copy_folder, placing, real, replacing_folder, share_file, write_text

__all__ = ["DataVersions", "OwnVersion", "Remote"]

_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}")
"""how `files.placing` names what it has not placed yet"""

log = logging.getLogger(__name__)


class OwnVersion(Value):
    """A version that was added to the cache of this home, at `at` the last time.

    `listing` is DVC's object of the folder named `folder`. `is_pushed_first`: the remote is the one that openmlops made, and
    did not have the version before. `places`: where it was added, empty in notes of earlier releases.
    """

    fingerprint: str
    folder: str
    listing: str
    at: datetime
    is_pushed_first: bool
    places: tuple[str, ...] = ()


class DataVersions:
    """DVC with this remote. `cache` is the folder of its objects; other files are written next to it. `known`: hashes of files
    that need not be read again."""

    def __init__(self, remote: Remote, cache: Path, known: KnownHashes | None = None) -> None:
        self.remote = remote
        self.cache = cache
        self.known = known or KnownHashes()
        self._brought: set[Key] = set()

    def bring(self, source: Path, out: Path, wanted: Callable[[Path], bool], folder: Path) -> None:
        """Copy a folder into the empty `out`, which will be added as `folder`: with the bytes of cached objects where they have
        the same content. Every file and every such object is read. Raises DataError that names a file that cannot be."""
        folder = real(folder)
        root = dvc_config.find(folder.parent) if self.cache.is_dir() else None
        if root is None:
            copy_folder(source, out, wanted)
            return
        with dvc_repository.opened(root, self.remote, self.cache, self.known) as repo:
            self._brought.clear()
            copy_folder(source, out, wanted, lambda old, new: self._bring(repo, old, new))
            self.known.follow(path for path in out.rglob("*") if path.is_file())

    def _bring(self, repo: DvcRepository, old: Path, new: Path) -> None:
        """Put the content of a file at `new`: the bytes of its object, if the cache has it intact, else a copy."""
        _, hashes = read_file(old)
        stored = repo.path(hashes.md5)
        state, found = read_file(stored) if repo.shares and stored.is_file() else (None, None)
        if state and found == hashes:
            share_file(stored, new)
            self._brought.add(self.known.seen(state, hashes))
        else:
            copy_file(old, new)

    def add(self, folder: Path) -> Manifest:
        """Create a version of the folder's content: manifest, `dvc add`, push. Run it again to finish an interrupted one.

        Uses the DVC repository that contains the folder; otherwise creates one in the current folder if the data is below it,
        else in the parent. Raises DataError, DataCorrupt if files change meanwhile, and ServiceUnavailable if the push fails;
        the version is then recorded locally only.
        """
        folder = real(folder)
        _remove_leftovers(folder)
        below = list(folder.rglob("*"))
        if strange := [path for path in below if not _is_text(path.name)]:
            others = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise DataError(f"The file name {strange[0]} is not UTF-8{others}", "Rename it, then add the data again")
        found = {path: state_of(path) for path in below if path.is_file()}
        manifest = Manifest.of(folder, partial(self.known.read_sha256s, but=self._brought))
        if not manifest.files:
            raise DataError(f"{folder} contains no files", "Name the folder of a data set")
        with dvc_repository.opened(self._home_of(folder), self.remote, self.cache, self.known) as repo:
            known = {path: (found[path], hashes.md5) for path, hashes in zip(found, self.known.of(list(found)), strict=True)}
            if repo.shares:
                known = {path: each for path, each in known.items() if not self._made_own(repo, path, *each)}
            oid = repo.add(folder, known)
            manifest.write(_beside(folder, ".manifest.json"))  # at once, else a kill leaves the two inconsistent
            self.known.follow(found)
            objects = _intact_objects(repo, oid)
            if objects is None:  # the cache had damaged ones, which are gone now
                oid = repo.add(folder, {})
                objects = _intact_objects(repo, oid)
            if objects is None:
                problem = f"Files of {folder} could not be stored in {self.cache}"
                raise DataCorrupt(problem, "Check the disk of OPENMLOPS_HOME, then add it again")
            if changed := self._changed(repo, manifest, objects):
                raise DataCorrupt(f"{', '.join(changed)} of {folder} changed while being added", "Add it again")
            if repo.shares:
                repo.share(folder, objects)
                self.known.follow(found)
            repo.push(list(objects.values()))
            is_new = bool(repo.push([oid])) and repo.remote_is_ours
            if self._holds(repo, oid):
                self._note(manifest, folder, oid, is_new)
        self.known.save()
        return manifest

    def _made_own(self, repo: DvcRepository, path: Path, state: os.stat_result, md5: str) -> bool:
        """Make a copy of a file that is a link to another than its object, and whether it was one.

        What is added becomes read-only, and whoever wrote to the other one would change the version. An edited link is one too:
        to the object of the old version.
        """
        if not path.is_symlink() and (state.st_nlink == 1 or repo.is_object(state, md5)):
            return False
        with placing(path) as beside:
            shutil.copyfile(path, beside)
        return True

    def _changed(self, repo: DvcRepository, manifest: Manifest, objects: dict[str, str]) -> list[str]:
        """The files whose objects are not what the manifest says."""
        stored = [name for name in manifest.files if name in objects]
        sha256s = dict(zip(stored, self.known.sha256s([repo.path(objects[name]) for name in stored]), strict=True))
        return [name for name, entry in manifest.files.items() if sha256s.get(name) != entry.sha256]

    def own(self) -> tuple[OwnVersion, ...]:
        """The versions that were added in this home and not discarded since, oldest first."""
        notes = (OwnVersion.model_validate_json(path.read_bytes()) for path in self._notes.glob("*.json"))
        return tuple(sorted(notes, key=lambda note: note.at))

    def discard(self, versions: Sequence[OwnVersion], folder: Path, dry: bool = False) -> int:
        """Delete versions of our own from the cache, and from the remote those that we were the first to push; returns bytes.

        Only from the cache and the remote that openmlops made itself: a user's own may be shared. What another version there
        names stays. `folder` is in the DVC repository. Raises ServiceUnavailable.
        """
        root = dvc_config.find(real(folder).parent)
        if root is None or not versions:
            return 0
        size = 0
        with dvc_repository.opened(root, self.remote, self.cache, self.known) as repo:
            pushed = [found.listing for found in versions if found.is_pushed_first]
            if pushed and repo.remote_is_ours:
                size += repo.discard(pushed, True, dry)[1]
            if self._holds(repo, versions[0].listing):
                size += repo.discard([found.listing for found in versions], False, dry)[1]
        for found in () if dry else versions:
            (self._notes / f"{found.fingerprint}.json").unlink(missing_ok=True)
        return size

    def _holds(self, repo: DvcRepository, oid: str) -> bool:
        """Whether the repository uses our cache, not one that the user configured and may share."""
        return repo.path(oid).is_relative_to(real(self.cache))

    @property
    def _notes(self) -> Path:
        return self.cache.parent / "data-versions"

    def _note(self, manifest: Manifest, folder: Path, oid: str, is_new: bool) -> None:
        """Remember that this version is ours."""
        path = self._notes / f"{manifest.fingerprint}.json"
        before = OwnVersion.model_validate_json(path.read_bytes()) if path.is_file() else None
        note = OwnVersion(
            fingerprint=manifest.fingerprint,
            folder=folder.name,
            listing=oid,
            at=datetime.now(UTC),
            is_pushed_first=is_new or bool(before and before.is_pushed_first),
            places=tuple(sorted({str(folder.parent), *(before.places if before else ())})),
        )
        write_text(path, note.model_dump_json())

    def pull(self, folder: Path, read_all: bool = True) -> Manifest:
        """Restore the folder to its recorded version; does nothing if it matches already.

        `read_all=False`: only files that changed since they were last read are read, because whoever uses one verifies it.
        Modified files are not lost: the replaced folder is kept as `replaced/<name>` next to the cache, a later one as
        `<name>-2`. Raises DataError (no version is recorded), DataCorrupt that names the files, or ServiceUnavailable; the
        folder is then unchanged.
        """
        folder = real(folder)
        manifest = self._recorded(folder)
        hashed = self.known.read_sha256s if read_all else self.known.sha256s
        if manifest and folder.is_dir() and not manifest.differences(folder, hashed):
            self.known.save()
            return manifest
        found = self._retrieve(self.record(folder), folder, self._home_of(folder))
        if manifest is None:  # a version that a plain `dvc add` made: its MD5s were checked, from now on our manifest is
            found.write(_beside(folder, ".manifest.json"))
        self.known.save()
        return found

    def check(self, folder: Path) -> tuple[str, ...]:
        """How the folder differs from its recorded version, one phrase per file. All files are read. Raises DataError if there
        is no version."""
        return self._manifest(real(folder)).differences(folder, self.known.read_sha256s)

    def differences(self, folder: Path) -> tuple[str, ...]:
        """`check`, which reads only the files that changed since they were last read."""
        return self._manifest(real(folder)).differences(folder, self.known.sha256s)

    def changed(self, folder: Path) -> tuple[str, ...]:
        """The files of the recorded version that are there with another content. Raises DataError if there is no version."""
        files = self._manifest(real(folder)).files
        there = {name: path for name in files if (path := folder / name).is_file()}
        found = dict(zip(there, self.known.sha256s(list(there.values())), strict=True))
        return tuple(name for name, sha256 in found.items() if files[name].sha256 != sha256)

    def manifest(self, folder: Path) -> Manifest:
        """The manifest of the recorded version. Raises DataError if none is recorded."""
        return self._manifest(real(folder))

    def fingerprint(self, folder: Path) -> str:
        """The fingerprint of the recorded version; empty if none is recorded."""
        found = self._recorded(real(folder))
        return found.fingerprint if found else ""

    def is_pushed(self, folder: Path) -> bool:
        """Whether the remote has all objects of the recorded version. Raises ServiceUnavailable."""
        oid = _object_of(self.record(real(folder)))
        with dvc_repository.opened(self._home_of(real(folder)), self.remote, self.cache, self.known) as repo:
            if not repo.holds([oid]):
                return False
            self._fetch(repo, {"the listing of the folder": oid})
            return repo.holds(list(repo.listing(oid).values()))

    def is_recorded(self, folder: Path) -> bool:
        """Whether there is a record of a version, whole or not."""
        return any(_beside(real(folder), suffix).is_file() for suffix in (".dvc", ".manifest.json"))

    def copies(self, folder: Path) -> dict[str, bool]:
        """Where the recorded version should be, and whether its files seem to be there: by their names, without DVC. What is no
        folder of ours is left out. Raises DataError if there is no version, or its `.dvc` file names none."""
        folder = real(folder)
        text = self.record(folder)[f"{folder.name}.dvc"].decode(errors="replace")
        if "md5:" not in text:
            remedy = f"Restore it, or run `openmlops data add {quote(str(folder))}`, which writes it again"
            raise DataCorrupt(f"{folder}.dvc is not a readable DVC file", remedy)
        stores = {"cache": self.cache, "remote": Path(self.remote.url)} if dvc_config.is_ours(folder) else {}
        stores = {name: place for name, place in stores.items() if place.is_absolute()}
        found = {name: dvc_repository.seems_complete(place, text) for name, place in stores.items()}
        return {"folder": folder.is_dir() and any(folder.iterdir()), **found}

    def record(self, folder: Path) -> dict[str, bytes]:
        """The small files that identify the recorded version, to be logged with a run. Raises DataError if there is none."""
        folder = real(folder)
        files = [_beside(folder, suffix) for suffix in (".dvc", ".manifest.json")]
        found = {path.name: path.read_bytes() for path in files if path.is_file()}
        if f"{folder.name}.dvc" not in found:
            remedy = "Run `openmlops data fetch`, `openmlops data sample` or `openmlops data add FOLDER`"
            raise DataError(f"No version of {folder} is recorded (there is no {folder.name}.dvc)", remedy)
        return found

    def restore(self, record: dict[str, bytes], folder: Path) -> Manifest:
        """Restore the version identified by `record` into any folder, verified. Raises as `pull` does."""
        folder = real(folder)
        root = dvc_config.find(folder.parent) or dvc_config.find(Path.cwd())
        return self._retrieve(record, folder, root or dvc_config.initialise(self.cache.parent, self.remote, self.cache))

    def _retrieve(self, record: dict[str, bytes], folder: Path, root: Path) -> Manifest:
        oid = _object_of(record)
        manifest = _manifest_of(record)
        with dvc_repository.opened(root, self.remote, self.cache, self.known) as repo:
            self._fetch(repo, {"the listing of the folder": oid})
            objects = repo.listing(oid)
            self._fetch(repo, objects)
            with replacing_folder(folder) as new:
                for name, found in objects.items():
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    (share_file if repo.shares else copy_file)(repo.path(found), new / name)
                self.known.follow(new / name for name in objects)
                if manifest and (wrong := manifest.differences(new, self.known.sha256s)):
                    remedy = "Restore both files from the same version, or add the data again"
                    raise DataCorrupt(
                        f"{folder.name}.dvc and its manifest name different versions ({'; '.join(wrong)})", remedy
                    )
                self._set_aside(folder)
        return manifest or Manifest.of(folder, self.known.sha256s)

    def _fetch(self, repo: DvcRepository, objects: dict[str, str]) -> None:
        """Ensure that these files (name -> object) are intact in the cache; missing ones are pulled from the remote."""
        absent = repo.absent(objects.values())
        if not absent:
            return
        had = repo.pull(absent)
        if still := set(repo.absent(absent, known=True)):
            corrupt = sorted(name for name, oid in objects.items() if oid in still and oid in had)
            missing = sorted(name for name, oid in objects.items() if oid in still and oid not in had)
            what = [f"{', '.join(corrupt)}: corrupt in"] if corrupt else []
            what += [f"{', '.join(missing)}: neither in the cache nor in"] if missing else []
            remedy = "Restore the remote, or run `openmlops data add` with a good copy, which replaces damaged files"
            raise DataCorrupt(f"{'; '.join(what)} the DVC remote {repo.remote_url}", remedy)

    def keep_changes(self, folder: Path) -> None:
        """Keep a folder that is about to be replaced, unless it is as its version was recorded, which can be restored."""
        if folder.is_symlink():  # only the link is replaced
            return
        try:
            found = self._recorded(folder)
            is_recorded = found is not None and not found.differences(folder, self.known.sha256s)
        except (DataCorrupt, DataError):
            is_recorded = False
        if not is_recorded:
            self._set_aside(folder)

    def _set_aside(self, folder: Path) -> None:
        """Keep the folder that is about to be replaced, because its changes may be somebody's work, as those kept before."""
        if folder.is_dir() and any(folder.iterdir()):
            place = self.cache.parent / "replaced"
            names = chain([folder.name], (f"{folder.name}-{number}" for number in count(2)))
            kept = next(place / name for name in names if not os.path.lexists(place / name))
            kept.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.move(folder, kept)
            except OSError:  # another disk, which is full: the folder is whole, what was copied of it is not
                shutil.rmtree(kept, ignore_errors=True)
                raise
            log.warning("%s differed from its recorded version; its previous contents are in %s", folder, kept)

    def _home_of(self, folder: Path) -> Path:
        """The repository that tracks the folder, created if there is none."""
        here = real(Path.cwd())
        root, home = here if here in folder.parents else folder.parent, self.cache.parent
        skipped = [path for path in (home, root / ".venv") if path not in folder.parents]
        return dvc_config.find(folder.parent) or dvc_config.initialise(root, self.remote, self.cache, skipped)

    def _recorded(self, folder: Path) -> Manifest | None:
        path = _beside(folder, ".manifest.json")
        return Manifest.read(path) if path.is_file() else None

    def _manifest(self, folder: Path) -> Manifest:
        found = self._recorded(folder)
        if found is None:
            raise DataError(f"No manifest of {folder} is recorded", "Run `openmlops data pull` or `openmlops data add FOLDER`")
        return found


def _is_text(name: str) -> bool:
    """Whether the name was UTF-8 on the disk: other bytes are surrogates in Python, which DVC's database refuses."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _remove_leftovers(folder: Path) -> None:
    """Delete the hidden file that a killed process left beside each file it was about to replace: DVC would add it. Whoever
    writes here holds the data set's lock, so that no living process needs it."""
    for path in folder.rglob(".*"):
        if (fits := _LEFTOVER.fullmatch(path.name)) and path.is_file() and any(path.parent.glob(f"{glob_escape(fits[1])}*")):
            path.unlink()


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _intact_objects(repo: DvcRepository, oid: str) -> dict[str, str] | None:
    """Name -> object of the files of a listing; None if it or one of them is not intact in the cache."""
    if repo.absent([oid], known=True):
        return None
    objects = repo.listing(oid)
    return None if repo.absent(objects.values(), known=True) else objects


def fingerprint_of(record: dict[str, bytes]) -> str:
    """The fingerprint of the version that a record identifies; empty if it has no manifest. Raises DataCorrupt."""
    found = _manifest_of(record)
    return found.fingerprint if found else ""


def _manifest_of(record: dict[str, bytes]) -> Manifest | None:
    content = next((content for name, content in record.items() if name.endswith(".manifest.json")), None)
    return None if content is None else Manifest.parse(content, "the recorded manifest")


def _object_of(record: dict[str, bytes]) -> str:
    """The object of the folder's listing, which a .dvc file names."""
    from dvc.utils.serialize import ParseError, parse_yaml

    name, content = next((name, content) for name, content in record.items() if name.endswith(".dvc"))
    try:
        (out,) = parse_yaml(content.decode(), name)["outs"]
        oid, kind = str(out["md5"]), out.get("hash")
    except (ParseError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataCorrupt(f"{name} is not a readable DVC file", "Restore it or add the data again") from error
    if kind != "md5" or not dvc_repository.is_listing(oid):
        raise DataError(f"{name} does not describe a folder added by DVC 3", "Run `openmlops data add` with the folder")
    return oid
