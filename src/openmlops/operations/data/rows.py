"""The rows of a data version: its images on demand, by the index that OPENMLOPS_HOME keeps of them.

An index is made once, when a version is added or first used here, from what the indexes of earlier versions do not know; a step
on another machine fetches the one that its reference names. Here: where indexes lie, and where decoded images are kept. Not
here: making an index (images/index.py), and use cases whose images are not files, which are read as a whole.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from openmlops.core.types import DatasetRef
from openmlops.errors import DataCorrupt, DataError
from openmlops.files import Manifest
from openmlops.images.index import ImageIndex, OnProgress, index_of
from openmlops.images.lazy import Decoded, Elsewhere, LazyImages
from openmlops.operations.data import versions
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

_lock = threading.Lock()
_opened: dict[tuple[object, ...], Rows] = {}
"""the version of this process that was used last: its decoded images are kept from step to step"""


def rows_of(workspace: Workspace, ref: DatasetRef) -> Rows:
    """The rows of a version. Raises DataError if it cannot be read; DataCorrupt, when an image is read, if it has changed.

    An image whose file is no longer that of the version, because other data was added meanwhile, is read from the object store,
    if the version was uploaded.
    """
    use_case = workspace.use_case
    if use_case.files is None:
        return use_case.read(versions.local(workspace, ref))
    key = (str(workspace.home), str(workspace.data_folder), ref.fingerprint, use_case.name, use_case.frame)
    with _lock:
        if key not in _opened:
            folder = versions.local(workspace, ref)
            found = use_case.read(folder, version_index(workspace, folder, ref))
            assert isinstance(found.images, LazyImages)
            room = Decoded(workspace.home / "cache" / "decoded", workspace.settings.decoded_bytes)
            _opened.clear()
            images = LazyImages.of_files(
                folder, found.images.index, use_case.decode, use_case.frame, _uploaded(workspace, folder.name, ref.fingerprint)
            )
            _opened[key] = replace(found, images=images.kept_in(room))
        return _opened[key]


def _uploaded(workspace: Workspace, folder: str, fingerprint: str) -> Elsewhere:
    """Reads the images of a version from the object store."""
    prefix = key_prefix(workspace, folder, fingerprint)
    return lambda path: workspace.object_store.get_bytes(f"{prefix}/{path}")


def key_prefix(workspace: Workspace, folder: str, fingerprint: str) -> str:
    """What the keys of a version's objects begin with; `folder` is the name of its folder."""
    return "/".join(part for part in (*workspace.settings.minio_data_prefix.split("/"), folder, fingerprint) if part)


def index_folder(
    workspace: Workspace, folder: Path, known: Sequence[ImageIndex] = (), on_progress: OnProgress | None = None
) -> tuple[ImageIndex, ...]:
    """The index of a folder's images, each read now; decoded are those that neither `known` nor the recorded version has. Empty
    if images are not files: pass it on to the use case's `check` and `read` as it is."""
    files = workspace.use_case.files
    if files is None:
        return ()
    return (index_of(folder, files(folder), (*known, *_recorded(workspace)), on_progress),)


def version_index(workspace: Workspace, folder: Path, ref: DatasetRef) -> ImageIndex:
    """The index of a version, which `folder` holds: that of this home, or the one that the reference names. It is made if there
    is none, and images that could not be used are looked at again. Raises DataCorrupt if a file is not that of the version
    then."""
    path, fingerprint = index_path(workspace, ref.fingerprint), ref.fingerprint
    found = ImageIndex.read(path) or _kept(workspace, ref, path)
    looked = index_folder(workspace, folder)[0] if found is None else _again(found, folder)
    if looked is None:
        assert found is not None
        return found
    _require_sealed(workspace, folder, fingerprint, looked)
    whole = looked if found is None else found.updated(looked)
    whole.write(path)
    return whole


def _kept(workspace: Workspace, ref: DatasetRef, path: Path) -> ImageIndex | None:
    """The index that a reference names, from the object store; None if it names none that is still there."""
    try:
        return ImageIndex.read(workspace.contents.local(ref.index, path)) if ref.index else None
    except DataError:
        return None


def kept_index(workspace: Workspace, ref: DatasetRef) -> DatasetRef:
    """The reference, naming the index of the version that this home has, which is kept for the steps that follow."""
    path = index_path(workspace, ref.fingerprint)
    return ref.model_copy(update={"index": workspace.contents.keep("index", path)}) if path.is_file() else ref


def _again(index: ImageIndex, folder: Path) -> ImageIndex | None:
    """The images that could not be used, if that has changed: their modes, the limit of their size, or a plugin may differ."""
    broken = [path for path, problem in zip(index.paths, index.problems, strict=True) if problem]
    looked = index_of(folder, broken)
    return None if looked.problems == tuple(filter(None, index.problems)) else looked


def _require_sealed(workspace: Workspace, folder: Path, fingerprint: str, index: ImageIndex) -> None:
    if workspace.data_versions.fingerprint(folder) != fingerprint:
        return
    sealed = {name: entry.sha256 for name, entry in workspace.data_versions.manifest(folder).files.items()}
    for name, sha256 in zip(index.paths, index.columns["sha256"], strict=True):
        if sha256.any() and sealed.get(name) != sha256.tobytes().hex():  # 0: not read, which is its problem
            changed = f"{folder / name} has changed since its version was made"
            raise DataCorrupt(changed, "Restore it: `openmlops data pull`")


def keep_index(workspace: Workspace, folder: Path, manifest: Manifest, index: ImageIndex) -> None:
    """Keep the index of the version that was made of `folder`: of `index` what the manifest confirms, the rest made anew."""
    files = workspace.use_case.files
    assert files is not None
    sealed = {name: entry.sha256 for name, entry in manifest.files.items()}
    confirmed = [path for path in index.paths if sealed.get(path) == index.columns["sha256"][index.row(path)].tobytes().hex()]
    paths = files(folder)
    whole = index.of(confirmed)
    found = whole.of(paths) if set(paths) <= set(confirmed) else index_of(folder, paths, (whole,))
    found.write(index_path(workspace, manifest.fingerprint))


def index_path(workspace: Workspace, fingerprint: str) -> Path:
    """The file of a version's index."""
    return workspace.home / "indexes" / f"{fingerprint}.parquet"


def _recorded(workspace: Workspace) -> tuple[ImageIndex, ...]:
    """The index of the version that is recorded now, if there is one."""
    fingerprint = workspace.data_versions.fingerprint(workspace.data_folder)
    found = ImageIndex.read(index_path(workspace, fingerprint)) if fingerprint else None
    return () if found is None else (found,)
