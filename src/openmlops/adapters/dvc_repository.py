"""One DVC repository, opened so that no content is trusted without verification.

DVC is configured in memory only: the remote with its credentials, verification, and a temporary folder for its state (hashes by
modification time, indexes of remotes), which is deleted at the end. Objects have DVC's names: the MD5 of a file, or that of a
folder's listing with '.dir'. What is not here: versions and their verification (data_versions.py), and what is written of the
configuration (dvc_config.py).

A cache of ours shares its bytes with the folder, by reflink or by hard links that are read-only. A remote in a folder never
does: damaged objects are restored from it, so its bytes are copied, and hashed on the way.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache as once
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from openmlops.adapters.dvc_config import LINKS, OURS, Remote, chosen
from openmlops.adapters.known_hashes import BLOCK_BYTES, THREADS, Hashes, KnownHashes
from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable
from openmlops.files import placing, share_file, write_all
from openmlops.renamed import moved
from openmlops.temporary import temporary_folder

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB

LOOKED_AT = 1000
"""most files of a version whose presence is looked at"""
_OBJECT = re.compile(r"[0-9a-f]{32}")
_LOGGERS = ("dvc", "dvc.progress", "dvc_data", "dvc_objects")


@contextmanager
def opened(root: Path, remote: Remote, cache: Path, known: KnownHashes) -> Iterator["DvcRepository"]:
    """The repository at `root`. It keeps a cache that the user configured; one created by `initialise` uses `cache`."""
    from dvc.config import Config
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    _allow_braces_in_paths()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(cache.parent, "dvc-memory-") as memory, _quiet():
        try:
            stored = Config(str(root / ".dvc"))
            name, options = chosen(stored, remote)
            config: dict[str, Any] = {"core": {"site_cache_dir": str(memory)}, "remote": {name: options}}
            is_ours = OURS in stored["remote"]
            if is_ours:
                config["cache"] = {"dir": str(cache), "type": LINKS}
            repo = Repo(str(root), config=config)
        except DvcException as error:
            raise DataError(f"The DVC repository {root} cannot be opened ({error})", "Correct its .dvc/config") from error
        try:
            yield DvcRepository(repo, name, known, is_ours, name == OURS and remote.is_default)
        finally:
            repo.close()


@once
def _allow_braces_in_paths() -> None:
    """DVC formats the text of its progress bars, which contains the cache's path, a second time: `{y}` in it is a KeyError."""
    from dvc_data.hashfile import _progress

    class Progress(_progress.QueryingProgress):
        def __init__(self, iterable: Any = None, total: Any = None, name: str | None = None, phase: str = "Querying") -> None:
            super().__init__(iterable, total, name and name.replace("{", "{{").replace("}", "}}"), phase)

    setattr(_progress, "QueryingProgress", Progress)  # noqa: B010 (a class, which mypy lets nobody assign)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep DVC's log and progress bars off the console."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.CRITICAL + 1)  # progress bars are drawn unless their logger is above this level
    try:
        yield
    finally:
        for log, level in zip(loggers, before, strict=True):
            log.setLevel(level)


class DvcRepository:
    """An opened repository: its object cache and the selected remote. `shares`: whether files may share the cache's bytes.
    `remote_is_ours`: whether the remote is the one that openmlops made, not one that the user named by name or address."""

    def __init__(self, repo: "Repo", remote_name: str, known: KnownHashes, shares: bool, remote_is_ours: bool) -> None:
        self._repo = repo
        self._remote_name = remote_name
        self._known = known
        self.shares = shares
        self.remote_is_ours = remote_is_ours
        self.remote_url: str = repo.config["remote"][remote_name]["url"]

    def add(self, folder: Path, md5s: Mapping[Path, tuple[os.stat_result, str]]) -> str:
        """`dvc add`: write `<folder>.dvc`, add the files to the cache, and return the object of the folder's listing.

        `md5s`: what is known of the files, each with its state before it was read; DVC reads only the others.
        """
        from dvc.exceptions import DvcException, OutputNotFoundError

        self._tell(md5s)
        try:
            with suppress(OutputNotFoundError):
                (tracked,) = self._repo.find_outs_by_path(str(folder), strict=False)
                if Path(tracked.fs_path) != folder:
                    remedy = f"Run `dvc remove {tracked.stage.relpath}`, then add again"
                    raise DataError(f"{folder} is part of {tracked.fs_path}, which DVC tracks as a whole", remedy)
            (stage,) = self._repo.add([str(folder)])
        except DvcException as error:
            raise DataError(
                f"DVC cannot add {folder} ({error})", "Correct it with the `dvc` command, then add again"
            ) from error
        return stage.outs[0].hash_info.value

    def _tell(self, md5s: Mapping[Path, tuple[os.stat_result, str]]) -> None:
        from dvc_data.hashfile.hash_info import HashInfo

        rows = (
            (str(path), HashInfo("md5", md5), {"ino": found.st_ino, "mtime": found.st_mtime, "size": found.st_size})
            for path, (found, md5) in md5s.items()
        )
        self._repo.state.save_many(rows, self._repo.cache.local.fs)

    def is_object(self, state: os.stat_result, oid: str) -> bool:
        """Whether the file that has this state is the cached object, as a hard link to it is."""
        try:
            return os.path.samestat(state, os.stat(self._repo.cache.local.oid_to_path(oid)))
        except FileNotFoundError:
            return False

    def share(self, folder: Path, objects: Mapping[str, str]) -> None:
        """Make hard links to their cached objects of files that are copies of them, if the file system has no reflinks."""
        from dvc_objects.fs.generic import test_links

        cache = self._repo.cache.local
        if test_links(["reflink", "hardlink"], cache.fs, cache.path, cache.fs, str(folder)) != ["hardlink"]:
            return
        for name, oid in objects.items():
            state = os.stat(folder / name)
            if state.st_size and not self.is_object(state, oid):
                share_file(self.path(oid), folder / name)

    def path(self, oid: str) -> Path:
        """The path of an object in the cache."""
        return Path(self._repo.cache.local.oid_to_path(oid))

    def listing(self, oid: str) -> dict[str, str]:
        """Relative path -> object of each file of a cached folder. Raises DataCorrupt for paths outside the folder."""
        try:
            entries = {entry["relpath"]: entry["md5"] for entry in json.loads(self.path(oid).read_bytes())}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataCorrupt(f"The object {oid} is not a DVC directory listing", "Add the data again") from error
        for name, found in entries.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not _OBJECT.fullmatch(found):
                raise DataCorrupt(f"The object {oid} lists the forbidden file '{name}'", "Do not use this remote")
        return entries

    def absent(self, oids: Iterable[str], known: bool = False) -> list[str]:
        """The objects that the cache does not hold intact. Corrupt ones are deleted from it.

        All of them are read, with `known` those that changed since.
        """
        unique = list(dict.fromkeys(oids))
        sound = self._sound(unique, [self.path(oid) for oid in unique], self._known.of if known else self._known.read)
        return [oid for oid in unique if oid not in sound]

    def pull(self, oids: list[str]) -> set[str]:
        """Copy objects from the remote to the cache; returns those that the remote had. Raises ServiceUnavailable."""
        with self._speaking():
            failed = self._copied(self._remote, self._repo.cache.local, oids)
        self._explain(error for error in failed.values() if not isinstance(error, FileNotFoundError | DataCorrupt))
        return {oid for oid in oids if not isinstance(failed.get(oid), FileNotFoundError)}

    def push(self, oids: list[str]) -> list[str]:
        """Copy cached objects to the remote, replacing those that are corrupt there; returns those that it did not have.

        Raises ServiceUnavailable, and DataCorrupt if an object is damaged by then.
        """
        with self._speaking():
            held = self._intact(oids)
            new = [oid for oid in oids if oid not in held]
            failed = self._copied(self._repo.cache.local, self._remote, new)
        self._explain(failed.values())
        return new

    def discard(self, listings: Collection[str], remotely: bool, dry: bool) -> tuple[int, int]:
        """Delete folders from the cache, or from the remote: their listings, and the files that no other listing there names.

        Returns number and bytes. What a .dvc file of the repository names stays. A killed deletion can be repeated: files go
        before their listing. Raises ServiceUnavailable, and DataCorrupt, with nothing deleted, if a listing cannot be read:
        nobody knows what it needs.
        """
        with self._speaking():
            store = self._remote if remotely else self._repo.cache.local
            gone = self._only_in(store, listings)
            size = sum(store.fs.size(store.oid_to_path(oid)) or 0 for oid in gone)
            for oid in () if dry else gone:
                store.delete(oid)
        return len(gone), size

    def _only_in(self, store: "HashFileDB", listings: Collection[str]) -> list[str]:
        """The objects of these listings that nothing else needs, files first."""
        present, used = set(store.all()), {str(out.hash_info.value) for out in self._repo.index.outs if out.hash_info}
        known = {oid for oid in present if oid.endswith(".dir")}
        doomed = [oid for oid in listings if oid in known - used]
        needed = used.union(*(_files_of(store, oid) for oid in known - set(doomed)))
        files = set().union(*(_files_of(store, oid) for oid in doomed))
        return [*sorted(files & present - needed), *doomed]

    def holds(self, oids: list[str]) -> bool:
        """Whether the remote has all these objects. Raises ServiceUnavailable."""
        with self._speaking():
            return set(oids) <= self._held(oids)

    def _held(self, oids: list[str]) -> set[str]:
        if self._is_folder:
            return {oid for oid in oids if os.path.isfile(self._remote.oid_to_path(oid))}
        return set(self._remote.oids_exist(oids))

    @cached_property
    def _remote(self) -> "HashFileDB":
        return self._repo.cloud.get_remote_odb(self._remote_name)

    @property
    def _is_folder(self) -> bool:
        """Whether the remote is a folder on this machine."""
        return self._remote.fs.protocol == "local"

    def _intact(self, oids: list[str]) -> set[str]:
        """The objects that the remote has. Corrupt ones are deleted, because DVC would not replace them: found by hash in a
        folder, by size in other remotes."""
        remote = self._remote
        if self._is_folder:
            return self._sound(oids, [Path(remote.oid_to_path(oid)) for oid in oids], self._known.of)
        for oid in oids:
            path = remote.oid_to_path(oid)
            if remote.fs.exists(path) and remote.fs.size(path) != self.path(oid).stat().st_size:
                remote.fs.remove(path)
        return self._held(oids)

    def _sound(self, oids: list[str], paths: list[Path], hashed: Callable[[Sequence[Path]], list[Hashes]]) -> set[str]:
        """The objects that exist at their paths and match their hashes. Corrupt content is deleted, even if it is read-only."""
        present = {oid: path for oid, path in zip(oids, paths, strict=True) if path.is_file()}
        sound = set()
        for (oid, path), hashes in zip(present.items(), hashed(list(present.values())), strict=True):
            if hashes.md5 == oid.removesuffix(".dir"):
                sound.add(oid)
            else:
                path.unlink()
        return sound

    def _copied(self, source: "HashFileDB", target: "HashFileDB", oids: list[str]) -> dict[str, BaseException]:
        """Copy objects between cache and remote, verified; returns the failures by object."""
        failed: dict[str, BaseException] = {}
        if not self._is_folder:
            if oids:
                paths = [source.oid_to_path(oid) for oid in oids]
                target.add(paths, source.fs, oids, check_exists=False, on_error=failed.__setitem__)
            return failed
        for parent in {os.path.dirname(target.oid_to_path(oid)) for oid in oids}:
            target.makedirs(parent)
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(lambda oid: _copy(source, target, oid), oids))
        for oid, result in zip(oids, results, strict=True):
            if isinstance(result, Exception):
                failed[oid] = result
            else:
                self._known.seen(*result)
        self._known.follow(Path(target.oid_to_path(oid)) for oid in oids if oid not in failed)
        return failed

    def _explain(self, causes: Iterable[BaseException]) -> None:
        for cause in causes:
            raise cause if isinstance(cause, DataCorrupt) else self._unavailable(cause)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Translate exceptions of DVC and its file systems into one line that names the remote."""
        from botocore.exceptions import BotoCoreError, ClientError
        from dvc.exceptions import DvcException
        from dvc_objects.errors import ObjectDBError
        from dvc_objects.fs.errors import AuthError, ConfigError, RemoteMissingDepsError

        known = (
            DvcException,
            OSError,
            BotoCoreError,
            ClientError,
            ObjectDBError,
            AuthError,
            ConfigError,
            RemoteMissingDepsError,
        )
        try:
            yield
        except known as error:
            raise self._unavailable(error) from None

    def _unavailable(self, cause: BaseException) -> ServiceUnavailable:
        why = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
        wrong = (
            "MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
            if isinstance(cause, PermissionError)
            else "DVC_REMOTE and MINIO_ENDPOINT_URL"
        )
        remedy = f"Start it, or correct {wrong}, then repeat the command"
        return ServiceUnavailable(f"The DVC remote {self.remote_url} cannot be used ({why})", remedy)


def _copy(source: "HashFileDB", target: "HashFileDB", oid: str) -> tuple[os.stat_result, Hashes] | Exception:
    """Write the bytes of an object into another folder, where they share nothing with it, unless they are not what it names."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    path = Path(target.oid_to_path(oid))
    try:
        with placing(path) as beside:
            with open(source.oid_to_path(oid), "rb", buffering=0) as old, beside.open("wb", buffering=0) as new:
                while block := old.read(BLOCK_BYTES):
                    sha256.update(block)
                    md5.update(block)
                    write_all(new.fileno(), block)
                written = os.fstat(new.fileno())
            if md5.hexdigest() != oid.removesuffix(".dir"):
                raise DataCorrupt(f"The object {source.oid_to_path(oid)} is damaged", "Add the data again")
            target.protect(str(beside))
    except (OSError, DataCorrupt) as error:
        return error
    return written, Hashes(sha256.hexdigest(), md5.hexdigest())


def seems_complete(store: Path, dvc_file: str) -> bool:
    """Whether a cache or a remote that is a folder has the files of a version, by their names: its listing, and LOOKED_AT of
    those in it. True for a `.dvc` file that says nothing of them."""
    found = re.search(r"md5: ([0-9a-f]{32}\.dir)$", dvc_file, re.MULTILINE)
    if not found:
        return True
    places = (store / "files" / "md5", store)  # DVC 3, DVC 2
    listing = next((path for place in places if (path := place / found[1][:2] / found[1][2:]).is_file()), None)
    if listing is None:
        return False
    try:
        oids = [str(entry["md5"]) for entry in json.loads(listing.read_bytes())[:LOOKED_AT]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((listing.parent.parent / oid[:2] / oid[2:]).is_file() for oid in oids)


def _files_of(store: "HashFileDB", listing: str) -> set[str]:
    with store.fs.open(store.oid_to_path(listing), "rb") as opened:
        content = opened.read()
    try:
        return {entry["md5"] for entry in json.loads(content)}
    except (ValueError, KeyError, TypeError) as error:
        problem = f"The object {listing} in {store.path} is not a DVC directory listing"
        raise DataCorrupt(problem, "Restore it, or delete it if no version needs it") from error


def is_listing(oid: str) -> bool:
    """Whether this is the object of a folder's listing."""
    return oid.endswith(".dir") and bool(_OBJECT.fullmatch(oid.removesuffix(".dir")))


__getattr__ = moved(__name__, "openmlops.adapters.dvc_config")
