"""Copies of a version that an edit in place damaged: raw data, DVC's cache and the object store share their bytes.

Whoever adds the edited data makes a new version of it. The cache heals from DVC's remote when the old version is used again;
here the object store does, before anybody misses it. Not here: noticing the edit (`adapters.data_versions`).
"""

from typing import NamedTuple

from openmlops.core.types import DatasetRef
from openmlops.errors import OpenMLOpsError
from openmlops.operations.data import versions
from openmlops.operations.data.uploading import upload, uploaded
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say


class Edited(NamedTuple):
    """A recorded version of which files were edited that shared their bytes with its copies, and its record."""

    version: DatasetRef
    record: dict[str, bytes]


def edited_in_place(workspace: Workspace) -> Edited | None:
    """The recorded version, if files of the data folder were edited in place and it was uploaded to a folder; else None."""
    folder, data = workspace.data_folder, workspace.data_versions
    if workspace.settings.minio_endpoint_url or not (fingerprint := data.fingerprint(folder)) or not folder.is_dir():
        return None
    version = DatasetRef(name=workspace.use_case.name, fingerprint=fingerprint, rows=0)
    files, changed = data.manifest(folder).files, data.changed(folder)
    shared = [name for name in changed if name in files and (folder / name).stat().st_nlink > 1]
    if not shared or not uploaded(workspace, version):
        return None
    return Edited(version, data.record(folder))


def heal(workspace: Workspace, edited: Edited) -> None:
    """Restore the version from DVC's remote, and upload its damaged files again. A failure is told: the data was added."""
    try:
        versions.local(workspace, edited.version, edited.record)
        upload(workspace, edited.version)
    except (OpenMLOpsError, OSError) as error:
        what = f"the stored copy of version {edited.version.fingerprint[:12]}, which was not restored"
        say(f"Warning: the edited files have also changed in {what}: {error}")
