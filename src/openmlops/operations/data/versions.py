"""Data versions by what they are: the folder of this machine that holds one, fetched if there is none.

A reference names a version by its fingerprint. Its record, the two small files from which DVC restores it, is kept in the
object store under that name. Here: where a version lies. Not here: adding and pulling the version that the project's files
record (`datasets`), and DVC (`adapters.data_versions`).
"""

import shutil
from pathlib import Path

from openmlops.core.types import DatasetRef
from openmlops.errors import DataCorrupt, DataError
from openmlops.files import Manifest
from openmlops.operations.data.locks import locked
from openmlops.operations.workspace import Workspace

RECORDS = "content/data"
"""what the keys of records begin with: content/data/FINGERPRINT"""
FOLDER = "versions"
"""below OPENMLOPS_HOME: versions that are not in the data folder, by fingerprint"""


def local(workspace: Workspace, version: DatasetRef, found: dict[str, bytes] | None = None) -> Path:
    """The folder of this machine that holds the version: the data folder if it does, else OPENMLOPS_HOME/versions, where it is
    restored from DVC's cache or remote by the record `found`, by default the published one.

    Files that changed since they were last read are read. Raises DataError if nobody has its record, DataCorrupt,
    ServiceUnavailable.
    """
    versions, here = workspace.data_versions, workspace.data_folder
    if versions.fingerprint(here) == version.fingerprint and not versions.differences(here):
        return here
    folder = workspace.home / FOLDER / version.fingerprint / here.name
    with locked(workspace, "versions.lock"):
        if not folder.is_dir() or Manifest.of(folder, workspace.known_hashes.sha256s).fingerprint != version.fingerprint:
            shutil.rmtree(folder, ignore_errors=True)  # a damaged copy is nobody's work
            restored = versions.restore(found or record(workspace, version), folder)
            if restored.fingerprint != version.fingerprint:
                problem = f"The record of version {version.fingerprint[:12]} is that of {restored.fingerprint[:12]}"
                raise DataCorrupt(problem, "Add the data again: `openmlops data add FOLDER`")
    return folder


def publish(workspace: Workspace, version: DatasetRef) -> None:
    """Keep the record of the version that the data folder has, for steps on other machines. Raises ServiceUnavailable."""
    for name, content in workspace.data_versions.record(workspace.data_folder).items():
        key = f"{RECORDS}/{version.fingerprint}/{name}"
        if workspace.object_store.size(key) != len(content):
            workspace.object_store.put_bytes(key, content)


def record(workspace: Workspace, version: DatasetRef) -> dict[str, bytes]:
    """The small files that identify a version, of the data folder or the object store. Raises DataError if there are none."""
    if workspace.data_versions.fingerprint(workspace.data_folder) == version.fingerprint:
        return workspace.data_versions.record(workspace.data_folder)
    store, prefix = workspace.object_store, f"{RECORDS}/{version.fingerprint}"
    keys = store.list(f"{prefix}/")
    if not keys:
        name = f"{workspace.data_folder} is not version {version.fingerprint[:12]}"
        problem = f"{name}, and its record is not in the object store: {store.uri(prefix)}"
        raise DataError(problem, "Run the pipeline again, or restore the data folder to that version")
    return {key.rpartition("/")[2]: store.get_bytes(key) for key in keys}
