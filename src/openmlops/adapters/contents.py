"""Contents: what steps hand on, kept in the object store and fetched from it by its SHA-256.

A step that runs on another machine, or in an empty home, gets what a reference names from here. `local` verifies whatever it
gives, so that a damaged local file is fetched again. What is not here: data versions (operations/data/versions.py).
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from openmlops.adapters.object_store import ObjectStore
from openmlops.core.types import Content
from openmlops.errors import DataCorrupt, DataError
from openmlops.files import MANIFEST, Manifest, damage, replacing_folder, sha256_of

PREFIX = "content"
"""what the keys begin with: content/KIND/SHA256, a folder's files below it"""
RENEWED = timedelta(days=1)
"""age from which a content that is kept again is stored again, so that retention counts from its last use"""
AGAIN = "Run the pipeline again: it makes what is missing"


class Contents:
    """Files and sealed folders of `store`."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def keep(self, kind: str, path: Path) -> Content:
        """Store a file, unless the store has it. A read-only one shares its bytes with a store that is a folder. Raises
        ServiceUnavailable."""
        content = Content(kind=kind, sha256=sha256_of(path))  # type: ignore[arg-type]
        self._put(key_of(content), path, content.sha256)
        return content

    def keep_folder(self, kind: str, folder: Path) -> Content:
        """Store a folder that is sealed by its manifest, which goes last. Raises DataCorrupt if it is damaged."""
        manifest = Manifest.read(folder / MANIFEST)
        content = Content(kind=kind, sha256=manifest.fingerprint)  # type: ignore[arg-type]
        for name, entry in manifest.files.items():
            self._put(f"{key_of(content)}/{name}", folder / name, entry.sha256)
        self._put(f"{key_of(content)}/{MANIFEST}", folder / MANIFEST, content.sha256)
        return content

    def _put(self, key: str, path: Path, sha256: str) -> None:
        written = self.store.written(key)
        self.store.put_file(key, path, sha256, again=written is not None and datetime.now(UTC) - written > RENEWED)

    def local(self, content: Content, path: Path) -> Path:
        """`path`, where the file lies from now on if it did not yet, verified.

        Raises DataError if neither `path` nor the store has it, DataCorrupt if the store's is damaged, ServiceUnavailable.
        """
        if not path.is_file() or sha256_of(path) != content.sha256:
            self._fetched(key_of(content), path, content.sha256)
        return path

    def local_folder(self, content: Content, folder: Path) -> Path:
        """The same of a sealed folder."""
        if damage(folder, content.sha256):
            with replacing_folder(folder) as new:
                self._fetched(f"{key_of(content)}/{MANIFEST}", new / MANIFEST, content.sha256)
                for name, entry in Manifest.read(new / MANIFEST).files.items():
                    self._fetched(f"{key_of(content)}/{name}", new / name, entry.sha256)
        return folder

    def has(self, content: Content) -> bool:
        """Whether the store has the content of a file."""
        return self.store.exists(key_of(content))

    def forget(self, content: Content) -> None:
        """Delete a file that no step needs any more. Raises ServiceUnavailable."""
        self.store.delete(key_of(content))

    def _fetched(self, key: str, path: Path, sha256: str) -> None:
        kind, name = key.split("/")[1:3]
        if not self.store.exists(key):
            raise DataError(
                f"The {kind} {name[:12]} are neither at {path} nor in the object store: {self.store.uri(key)}", AGAIN
            )
        if sha256_of(self.store.get_file(key, path)) != sha256:
            path.unlink()
            raise DataCorrupt(f"{self.store.uri(key)} differs from its SHA-256", f"Delete it. {AGAIN}")


def key_of(content: Content) -> str:
    """The key of a content, or what those of a folder's files begin with."""
    return f"{PREFIX}/{content.kind}/{content.sha256}"
