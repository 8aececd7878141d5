"""What is done with a data set: get it, version it, check it, upload it, split it.

Each function takes the workspace and returns a value. Two processes at once are safe: what changes the data set holds one lock.
What is not here: what the files mean (the use case), and how bytes are kept and verified (adapters/data_versions.py).
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from openmlops.core.types import DatasetRef, Problem, ValidationReport, Value
from openmlops.errors import DataError, DataInvalid, OpenMLOpsError
from openmlops.files import Manifest, replacing_folder
from openmlops.operations.download import Progress, download, unpack, verify
from openmlops.operations.splits import indices_of, split
from openmlops.operations.workspace import Workspace

__all__ = [
    "DataStatus",
    "UploadReport",
    "add",
    "check",
    "fetch",
    "indices_of",
    "ingest",
    "make_sample",
    "split",
    "status",
    "upload",
    "validate",
]

LOCK_SECONDS = 600
"""How long one process waits for another one's download or push."""


class DataStatus(Value):
    """What is on this machine. `pushed` is None if the remote could not be asked; `remote_problem` says why."""

    path: str
    present: bool
    fingerprint: str | None
    rows: int | None
    differences: tuple[str, ...]
    pushed: bool | None
    remote_problem: str = ""


class UploadReport(Value):
    """What an upload did: the objects of the version, how many were sent and how many were there already."""

    uri: str
    keys: tuple[str, ...]
    sent: int
    skipped: int


def fetch(
    workspace: Workspace, archive_file: Path | None = None, url: str | None = None, on_progress: Progress | None = None
) -> DatasetRef:
    """Download the official archive (or take the one at `archive_file`), check its published checksum, and add it."""
    archive = workspace.use_case.archive
    if archive is None:
        raise DataError(f"No archive of {workspace.use_case.name} is published", "Run `openmlops data add FOLDER`")
    downloads = workspace.home / "downloads"
    if archive_file is None:
        with _alone(workspace, "download.lock"):
            archive_file = download(url or archive.url, downloads / Path(archive.url).name, archive.checksum, on_progress)
    elif archive_file.is_file():
        verify(archive_file, archive.checksum, str(archive_file))
    else:
        raise DataError(f"There is no file {archive_file}", "Pass the path of the official archive")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=downloads) as folder:
        return add(workspace, unpack(archive_file, Path(folder)) / archive.folder)


def make_sample(workspace: Workspace) -> DatasetRef:
    """Write the shipped sample, offline, and add it."""
    workspace.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sample-", dir=workspace.home) as folder:
        return add(workspace, workspace.use_case.sample(Path(folder) / workspace.use_case.folder))


def add(workspace: Workspace, folder: Path) -> DatasetRef:
    """Make `folder` the new version, if it passes the checks: copied into DATA_RAW_DIR as a whole, versioned and pushed.

    Raises DataInvalid with all problems; nothing is then replaced.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}", f"Pass a folder in the layout of {workspace.use_case.name}")
    _refuse(folder, workspace.use_case.check(folder)[0])
    with _alone(workspace):
        if folder != workspace.data_folder:
            with replacing_folder(workspace.data_folder) as new:
                shutil.copytree(folder, new, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        if not workspace.settings.dvc_remote:
            workspace.object_store.ready()  # the embedded remote lies in its bucket
        return _ref(workspace, workspace.data_versions.add(workspace.data_folder))


def ingest(workspace: Workspace) -> DatasetRef:
    """Bring the recorded version, every file checked against its SHA-256. Raises DataError, DataCorrupt, ServiceUnavailable."""
    with _alone(workspace):
        return _ref(workspace, workspace.data_versions.pull(workspace.data_folder))


def status(workspace: Workspace) -> DataStatus:
    """Which version is recorded, whether the folder is it, and whether the remote has it."""
    folder, versions = workspace.data_folder, workspace.data_versions
    present = folder.is_dir() and any(folder.iterdir())
    try:
        manifest = versions.manifest(folder)
    except DataError:
        return DataStatus(path=str(folder), present=present, fingerprint=None, rows=None, differences=(), pushed=None)
    differences = manifest.differences(folder)
    pushed, problem = None, ""
    try:
        pushed = versions.is_pushed(folder)
    except OpenMLOpsError as error:
        problem = str(error)
    return DataStatus(
        path=str(folder),
        present=present,
        fingerprint=manifest.fingerprint,
        rows=None if differences else len(workspace.use_case.read(folder).labels),
        differences=differences,
        pushed=pushed,
        remote_problem=problem,
    )


def check(workspace: Workspace) -> ValidationReport:
    """Look at what lies in the folder: what must not be trained on, and what is not as recorded. Raises DataError if none."""
    folder = workspace.data_folder
    if not folder.is_dir():
        raise DataError(f"There is no data set in {folder}", "Run `openmlops data fetch` or `openmlops data sample`")
    found, counts = workspace.use_case.check(folder)
    try:
        changed = workspace.data_versions.check(folder)
    except DataError as error:
        changed = (f"{error.problem}",)
    problems = (*found, *(Problem(what=what, where=folder.name) for what in changed))
    return ValidationReport(dataset=_found(workspace, sum(counts.values())), problems=problems, class_counts=counts)


def validate(workspace: Workspace, ref: DatasetRef) -> ValidationReport:
    """What is wrong with a version. Raises DataInvalid with all problems if any of them blocks."""
    problems, counts = workspace.use_case.check(Path(ref.path))
    _refuse(Path(ref.path), problems)
    return ValidationReport(dataset=ref, problems=problems, class_counts=counts)


def upload(workspace: Workspace, ref: DatasetRef) -> UploadReport:
    """Send to the object store, below MINIO_DATA_PREFIX, the files of this version that it does not hold yet."""
    store, folder = workspace.object_store, Path(ref.path)
    prefix = "/".join(part for part in (*workspace.settings.minio_data_prefix.split("/"), folder.name, ref.fingerprint) if part)
    manifest = Manifest.of(folder)
    if manifest.fingerprint != ref.fingerprint:
        raise DataError(f"{folder} is no longer the version {ref.fingerprint[:12]}", "Start the pipeline again")
    sent = {f"{prefix}/{name}": entry for name, entry in manifest.files.items()}
    new = [
        store.put_file(key, folder / name, entry.sha256)
        for (key, entry), name in zip(sent.items(), manifest.files, strict=True)
    ]
    return UploadReport(uri=store.uri(prefix), keys=tuple(sent), sent=sum(new), skipped=len(new) - sum(new))


def _refuse(folder: Path, problems: tuple[Problem, ...]) -> None:
    blocking = [problem for problem in problems if problem.blocking]
    if blocking:
        more = f", and {len(blocking) - 1} more" if len(blocking) > 1 else ""
        remedy = "Correct the files, or go on with the last good version: `openmlops data pull`"
        raise DataInvalid(f"{folder} must not be trained on: {blocking[0]}{more}", remedy, problems)


def _ref(workspace: Workspace, manifest: Manifest) -> DatasetRef:
    folder = workspace.data_folder
    rows = len(workspace.use_case.read(folder).labels)
    return DatasetRef(name=workspace.use_case.name, path=str(folder), fingerprint=manifest.fingerprint, rows=rows)


def _found(workspace: Workspace, rows: int) -> DatasetRef:
    """What lies in the folder, recorded or not."""
    folder = workspace.data_folder
    return DatasetRef(name=workspace.use_case.name, path=str(folder), fingerprint=Manifest.of(folder).fingerprint, rows=rows)


@contextmanager
def _alone(workspace: Workspace, name: str = "data.lock") -> Iterator[None]:
    """Hold the workspace's lock on the data set."""
    workspace.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(workspace.home / name, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise DataError(f"Another process has worked on the data set for {LOCK_SECONDS} s", "Wait for it or end it") from error
