"""Uploading a version to the object store, under MINIO_DATA_PREFIX, and which names that allows."""

from pathlib import Path

from openmlops.adapters.object_store import Put
from openmlops.core.types import DatasetRef, Problem, Value
from openmlops.core.validation import fewer, problem
from openmlops.errors import DataError
from openmlops.files import Manifest, why_not_storable
from openmlops.operations.data import versions
from openmlops.operations.data.rows import key_prefix
from openmlops.operations.workspace import Workspace

MOST_PATH_CHARACTERS = 500
"""of a file within the data set: the keys of objects begin with its folder and version"""


class UploadReport(Value):
    """Result of an upload: keys of the version's objects, number of objects sent, and number already present."""

    uri: str
    keys: tuple[str, ...]
    sent: int
    skipped: int


def upload(workspace: Workspace, ref: DatasetRef) -> UploadReport:
    """Upload the files of this version that the object store lacks, under MINIO_DATA_PREFIX. Raises DataError if the folder
    has changed since, ServiceUnavailable."""
    store, folder = workspace.object_store, versions.local(workspace, ref)
    prefix = key_prefix(workspace, folder.name, ref.fingerprint)
    known = workspace.known_hashes
    manifest = Manifest.of(folder, known.sha256s)
    if manifest.fingerprint != ref.fingerprint:
        raise DataError(f"{folder} no longer matches version {ref.fingerprint[:12]}", "Start the pipeline again")
    files = {f"{prefix}/{name}": Put(folder / name, entry.sha256) for name, entry in manifest.files.items()}
    sent = store.put_files(f"{prefix}/", files)
    known.follow(folder / name for name in manifest.files)
    known.save()
    return UploadReport(uri=store.uri(prefix), keys=tuple(files), sent=sent, skipped=len(files) - sent)


def uploaded(workspace: Workspace, version: DatasetRef) -> bool:
    """Whether the object store has files of the version. Raises ServiceUnavailable."""
    prefix = key_prefix(workspace, workspace.data_folder.name, version.fingerprint)
    return workspace.object_store.is_made() and bool(workspace.object_store.list(f"{prefix}/"))


def unstorable(folder: Path) -> list[Problem]:
    """Names that the object store would refuse later, before the training."""
    found = []
    for path in sorted(folder.rglob("[!.]*")):
        name = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        if why := why_not_storable(path.name):
            found.append(problem(f"the name has {why}; rename it", name))
        elif len(name) > MOST_PATH_CHARACTERS:
            found.append(problem(f"the path has more than {MOST_PATH_CHARACTERS} characters; shorten it", name))
    return fewer(found)
