"""The manifest that seals a folder.

It verifies that files have their recorded content, which neither DVC nor MLflow does by default.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openmlops.core.types import Value
from openmlops.errors import DataCorrupt
from openmlops.files.reading import readable, sha256s_of
from openmlops.files.writing import write_bytes

MANIFEST = "manifest.json"
Hashing = Callable[[Sequence[Path]], list[str]]
"""gives the SHA-256 of each file"""


class FileEntry(Value):
    """One file of a manifest: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


class Manifest(Value):
    """Relative POSIX path -> size and SHA-256 of every file below a folder, except hidden files and the manifest itself."""

    files: dict[str, FileEntry]

    @classmethod
    def of(cls, folder: Path, hashed: Hashing = sha256s_of) -> "Manifest":
        """Hash every file below `folder`, following symbolic links. Raises DataError that names one that cannot be read."""
        present = dict(_files(folder))
        hashes = hashed(list(present.values()))
        sizes = map(_size, present.values())
        return cls(
            files={name: FileEntry(size=size, sha256=each) for name, size, each in zip(present, sizes, hashes, strict=True)}
        )

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest file. Raises DataCorrupt if it is invalid."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataCorrupt(f"{path} cannot be read ({error.strerror})", "Restore it or add the data again") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Manifest":
        """Parse a manifest. Raises DataCorrupt, which calls it `name`, if it is invalid."""
        try:
            return cls.model_validate_json(content)
        except ValueError as error:
            problem = f"{name} is not a readable manifest ({type(error).__name__})"
            raise DataCorrupt(problem, "Restore it or add the data again") from error

    def write(self, path: Path) -> Path:
        """Write it in its canonical form, whose SHA-256 is `fingerprint`."""
        return write_bytes(path, self.canonical())

    def canonical(self) -> bytes:
        """Sorted JSON without insignificant white space: equal manifests give equal bytes."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form: the version of the folder's content."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def differences(self, folder: Path, hashed: Hashing = sha256s_of) -> tuple[str, ...]:
        """Differences between `folder` and the manifest, one phrase per file; empty if there are none."""
        present = dict(_files(folder)) if folder.is_dir() else {}
        both = sorted(self.files.keys() & present.keys())
        sizes = {name: _size(present[name]) for name in both}
        alike = [name for name in both if sizes[name] == self.files[name].size]
        content = dict(zip(alike, hashed([present[name] for name in alike]), strict=True))
        found = [f"{name} is missing" for name in sorted(self.files.keys() - present.keys())]
        found += [f"{name} is not in the manifest" for name in sorted(present.keys() - self.files.keys())]
        for name in both:
            if name not in content:
                found.append(f"{name} has {sizes[name]} bytes instead of {self.files[name].size}")
            elif content[name] != self.files[name].sha256:
                found.append(f"{name} differs from its recorded content (SHA-256)")
        return tuple(found)


def damage(folder: Path, sha256: str) -> str:
    """How a folder differs from its manifest, whose SHA-256 must be this one; empty if it does not."""
    try:
        manifest = Manifest.read(folder / MANIFEST)
    except DataCorrupt:
        return f"{MANIFEST} is missing or unreadable"
    if manifest.fingerprint != sha256:
        return f"{MANIFEST} differs from the registered one"
    return "; ".join(manifest.differences(folder))


def _size(path: Path) -> int:
    return readable(path, Path.stat).st_size


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts) and relative.as_posix() != MANIFEST:
            yield relative.as_posix(), path
