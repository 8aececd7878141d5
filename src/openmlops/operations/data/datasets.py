"""Data set operations: download, version, validate, upload and split.

Each function takes the workspace and returns a value. Functions that change the data set hold a file lock, so concurrent
processes are safe. Not here: the format of the files (the use case), and storage and verification of bytes
(adapters/data_versions.py).
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Literal

from openmlops.core.types import Account, DatasetRef, Problem, ValidationReport, Value
from openmlops.errors import DataError, DataInvalid, OpenMLOpsError, SettingsError
from openmlops.files import Manifest, absolute, copy_folder, replacing, replacing_folder
from openmlops.images.index import ImageIndex, OnProgress
from openmlops.operations.data import versions
from openmlops.operations.data.download import Progress, download, unpack, verify
from openmlops.operations.data.healing import edited_in_place, heal
from openmlops.operations.data.locks import locked
from openmlops.operations.data.rows import index_folder, keep_index, kept_index, key_prefix, rows_of, version_index
from openmlops.operations.data.splits import indices_of, split
from openmlops.operations.data.uploading import UploadReport, unstorable, upload
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder
from openmlops.usecases.base import Archive
from openmlops.usecases.leftovers import is_system
from openmlops.usecases.scenes import GroupBy

__all__ = [
    "Added",
    "DataStatus",
    "OnBadLabel",
    "UploadReport",
    "Weights",
    "add",
    "add_with_notes",
    "check",
    "fetch",
    "fetch_weights",
    "indices_of",
    "ingest",
    "judged",
    "key_prefix",
    "locked",
    "make_sample",
    "make_tiny_person",
    "refuse",
    "split",
    "status",
    "strictly",
    "upload",
    "validate",
    "ways_on",
]

OnBadLabel = Literal["stop", "skip"]


class DataStatus(Value):
    """State of the local data set. `pushed` is None if the remote did not respond; `remote_problem` says why."""

    path: str
    present: bool
    fingerprint: str | None
    rows: int | None
    differences: tuple[str, ...]
    pushed: bool | None
    remote_problem: str = ""


class Weights(Value):
    """Published weights on this machine: path and verified checksum."""

    path: str
    checksum: str


def fetch(
    workspace: Workspace, archive_file: Path | None = None, url: str | None = None, on_progress: Progress | None = None
) -> DatasetRef:
    """Download the official archive (or use `archive_file`), verify its published checksum, and add it as a version.

    Raises DataError, DataCorrupt, DataInvalid and ServiceUnavailable.
    """
    use_case = workspace.use_case
    if use_case.archive is None:
        raise DataError(f"There is no published archive for {use_case.name}", "Run `openmlops data add FOLDER`")
    found = _archive(workspace, use_case.archive, archive_file, url, on_progress)
    with temporary_folder(_downloads(workspace), "unpacked-") as folder:
        unpacked = unpack(found, folder) / use_case.archive.folder
        if use_case.from_archive is None:
            return add(workspace, unpacked)
        return add(workspace, use_case.from_archive(unpacked, folder / "made" / use_case.folder))


def fetch_weights(
    workspace: Workspace, file: Path | None = None, url: str | None = None, on_progress: Progress | None = None
) -> Weights:
    """Download the published pretrained weights (or use `file`), verify them, and copy them into the current folder, where
    training looks for them. Raises DataError if the use case publishes none, DataCorrupt if the checksum differs.
    """
    weights = workspace.use_case.weights
    if weights is None:
        raise DataError(f"There are no published weights for {workspace.use_case.name}", "Train from scratch")
    found = _archive(workspace, weights, file, url, on_progress)
    place = Path(weights.folder)
    with replacing(place) as beside:
        shutil.copyfile(found, beside)
    return Weights(path=str(place), checksum=weights.checksum)


def make_tiny_person(workspace: Workspace, coco128: Path, train: int, validation: int, test: int, seed: int) -> DatasetRef:
    """Sample a data set of people from the unpacked COCO128, and add it. Raises DataError if the folder is not COCO128 or too
    small for the requested splits."""
    from openmlops.usecases.person.tiny import tiny_person

    workspace.home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(workspace.home, "tiny-") as folder:
        out = folder / workspace.use_case.folder
        return add(workspace, tiny_person(absolute(coco128), out, train, validation, test, seed))


def _archive(workspace: Workspace, archive: Archive, file: Path | None, url: str | None, on_progress: Progress | None) -> Path:
    """The published file, downloaded or local, with a verified checksum."""
    if file is None:
        with locked(workspace, "download.lock"):
            target = _downloads(workspace) / Path(archive.url).name
            return download(url or archive.url, target, archive.checksum, on_progress)
    found = absolute(file)
    if not found.is_file():
        raise DataError(f"There is no file {file}", "Pass the path of the official file")
    verify(found, archive.checksum, str(file))
    return found


def _downloads(workspace: Workspace) -> Path:
    folder = workspace.home / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_sample(workspace: Workspace) -> DatasetRef:
    """Generate the use case's sample data offline, and add it."""
    workspace.home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(workspace.home, "sample-") as folder:
        return add(workspace, workspace.use_case.sample(folder / workspace.use_case.folder))


class Added(Value):
    """A new version, the problems of what is used otherwise than it is written, and those of files that are not used."""

    dataset: DatasetRef
    notes: tuple[Problem, ...]
    unused: tuple[Problem, ...]
    kept_in: str
    """the folder to which the files left out were moved, if they were in the data set's own folder"""

    @property
    def account(self) -> Account:
        """What became of the files."""
        return Account.of(self.dataset.rows, self.unused, self.kept_in)


def add(workspace: Workspace, folder: Path) -> DatasetRef:
    """Validate `folder`, copy it into DATA_RAW_DIR, and version and push it.

    Raises DataInvalid with all problems; the current version then stays in place.
    """
    return add_with_notes(workspace, folder).dataset


def add_with_notes(
    workspace: Workspace,
    folder: Path,
    on_bad_label: OnBadLabel = "stop",
    strict: bool = False,
    skip: bool = False,
    known: Sequence[ImageIndex] = (),
    on_progress: OnProgress | None = None,
    group_by: GroupBy = "auto",
) -> Added:
    """`add`, which names what it altered or left out.

    A folder in another layout that the use case reads, such as the export of a label tool, is arranged first, as `init` does;
    `group_by` says which of its images are kept in one split (usecases/scenes.py).

    Files that cannot be used are left out, if they are a handful or with `skip`. Those in the data set's own folder are moved
    to OPENMLOPS_HOME/left-out.

    `on_bad_label="skip"` leaves label lines that cannot be used out of the copy instead of refusing them. `strict` refuses
    whatever is not used as it is written. Images that `known` has are not decoded.

    Raises DataInvalid, SettingsError if labels are not in files.
    """
    folder = absolute(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}", f"Pass a folder in the layout of {workspace.use_case.name}")
    use_case = workspace.use_case
    if use_case.arrange is None or folder == workspace.data_folder or use_case.in_layout(folder):
        if group_by != "auto":
            raise SettingsError(f"--group-by {group_by} draws no splits: {folder} has its splits already", "Leave it out")
        return _add_in_layout(workspace, folder, on_bad_label, strict, skip, known, on_progress)
    workspace.home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(workspace.home, "arranged-") as place:
        out = place / workspace.data_folder.name
        grouping = () if group_by == "auto" else (group_by,)
        arranged = use_case.arrange(folder, out, skip, on_progress, *grouping)
        refuse(folder, judged(arranged.problems, strict, skip), strict=strict, lines=False)
        try:
            added = _add_in_layout(workspace, out, on_bad_label, strict, skip, arranged.known)
        except DataInvalid as error:
            refuse(folder, tuple(map(arranged.with_source_paths, error.problems)), strict=strict)
            raise
        noted = tuple(each for each in arranged.problems if not each.unused)
        unused = tuple(each for each in arranged.problems if each.unused)
        return added.model_copy(
            update={
                "notes": (*noted, *map(arranged.with_source_paths, added.notes)),
                "unused": (*unused, *map(arranged.with_source_paths, added.unused)),
            }
        )


def _add_in_layout(
    workspace: Workspace,
    folder: Path,
    on_bad_label: OnBadLabel,
    strict: bool,
    skip: bool,
    known: Sequence[ImageIndex],
    on_progress: OnProgress | None = None,
) -> Added:
    """`add_with_notes` for a folder in the layout of the use case."""
    if on_bad_label == "skip":
        with _without_bad_labels(workspace, folder) as (copy, left_out):
            return _checked(workspace, copy, folder, strict, skip, left_out, known, on_progress)
    return _checked(workspace, folder, folder, strict, skip, (), known, on_progress)


@contextmanager
def _without_bad_labels(workspace: Workspace, folder: Path) -> Iterator[tuple[Path, tuple[Problem, ...]]]:
    """A copy of the folder without the label lines that cannot be used, and these."""
    leave_out = workspace.use_case.leave_out_bad_labels
    if leave_out is None:
        raise SettingsError("--on-bad-label skip is for labels in files, as of detection", "Leave it out")
    workspace.home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(workspace.home, "labels-") as place:
        copy = place / folder.name
        copy_folder(folder, copy)
        yield copy, leave_out(copy)


def _checked(
    workspace: Workspace,
    folder: Path,
    source: Path,
    strict: bool,
    skip: bool,
    left_out: tuple[Problem, ...],
    known: Sequence[ImageIndex],
    on_progress: OnProgress | None,
) -> Added:
    """Add `folder`, whose problems are those of `source`."""
    index = index_folder(workspace, folder, known, on_progress)
    problems = judged(workspace.use_case.check(folder, *index)[0], strict, skip)
    refuse(source, problems, strict=strict)
    refuse(source, tuple(unstorable(folder)))  # last: it goes through the whole folder, which may be no data set at all
    altered = tuple(problem for problem in problems if problem.altered and not problem.unused)
    unused = tuple(problem for problem in problems if problem.unused)
    dataset, kept_in = _added(workspace, folder, _left_out(unused), *index)
    return Added(dataset=dataset, notes=(*left_out, *altered), unused=unused, kept_in=kept_in)


def judged(problems: tuple[Problem, ...], strict: bool, skip: bool) -> tuple[Problem, ...]:
    """The problems, of which those that leave files out do not block with `skip`; and as `strictly` says with `strict`."""
    passed = tuple(each.model_copy(update={"blocking": False}) if each.unused and skip else each for each in problems)
    return strictly(passed) if strict else passed


def _left_out(problems: tuple[Problem, ...]) -> set[str]:
    return {path for problem in problems if problem.unused == "left out" for path in problem.files}


def strictly(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """The problems, of which those also block that say that something is not used as it is written."""
    return tuple(each.model_copy(update={"blocking": each.blocking or each.altered}) for each in problems)


def _added(workspace: Workspace, folder: Path, unused: set[str], *index: ImageIndex) -> tuple[DatasetRef, str]:
    """The version of the folder without the `unused` files, and where these are now, if they were moved."""
    kept_in = ""
    with locked(workspace):
        edited = edited_in_place(workspace)
        if folder != workspace.data_folder:
            with replacing_folder(workspace.data_folder) as new:
                gone = {folder / path for path in unused}
                wanted = lambda path: path not in gone and not is_system(path)  # noqa: E731
                workspace.data_versions.bring(folder, new, wanted, workspace.data_folder)
                workspace.data_versions.keep_changes(workspace.data_folder)
        elif unused:
            kept_in = str(_set_aside(workspace, folder, unused))
        if not workspace.settings.dvc_remote:
            workspace.object_store.ready()  # the embedded remote lies in its bucket
        manifest = workspace.data_versions.add(workspace.data_folder)
        for each in index:
            keep_index(workspace, workspace.data_folder, manifest, each)
        if edited:
            heal(workspace, edited)
        return _ref(workspace, manifest), kept_in


def _set_aside(workspace: Workspace, folder: Path, unused: set[str]) -> Path:
    """Move files out of the data set's folder, because a version is the whole folder."""
    place = workspace.home / "left-out" / folder.name
    for path in sorted(unused):
        if os.path.lexists(folder / path):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / path, place / path)
    return place


def ingest(workspace: Workspace) -> DatasetRef:
    """Pull the recorded version and verify the SHA-256 of every file; where each image is a file, only of those that changed
    since they were last read. Raises DataError, DataCorrupt, ServiceUnavailable."""
    with locked(workspace):
        is_packed = workspace.use_case.files is None
        found = _ref(workspace, workspace.data_versions.pull(workspace.data_folder, read_all=is_packed))
        versions.publish(workspace, found)
        return kept_index(workspace, found)


def status(workspace: Workspace) -> DataStatus:
    """The recorded version, whether the folder matches it, and whether the remote has it."""
    folder, versions = workspace.data_folder, workspace.data_versions
    present = folder.is_dir() and any(folder.iterdir())
    try:
        manifest = versions.manifest(folder)
    except DataError:
        return DataStatus(path=str(folder), present=present, fingerprint=None, rows=None, differences=(), pushed=None)
    differences = versions.differences(folder)
    workspace.known_hashes.save()
    pushed, problem = None, ""
    try:
        pushed = versions.is_pushed(folder)
    except OpenMLOpsError as error:
        problem = str(error)
    return DataStatus(
        path=str(folder),
        present=present,
        fingerprint=manifest.fingerprint,
        rows=None if differences else _ref(workspace, manifest).rows,
        differences=differences,
        pushed=pushed,
        remote_problem=problem,
    )


def check(
    workspace: Workspace, strict: bool = False, skip: bool = False, on_progress: OnProgress | None = None
) -> ValidationReport:
    """Validate the folder: data that must not be trained on, and differences from the recorded version. `strict` and `skip` as
    in `add_with_notes`. Raises DataError if there is no folder."""
    folder = workspace.data_folder
    if not folder.is_dir():
        raise DataError(f"There is no data set in {folder}", "Run `openmlops data fetch` or `openmlops data sample`")
    found, counts = workspace.use_case.check(folder, *index_folder(workspace, folder, on_progress=on_progress))
    found = judged(found, strict, skip)
    try:
        changed = workspace.data_versions.check(folder)
    except DataError as error:
        changed = (f"{error.problem}",)
    problems = (*found, *(Problem(what=what, where=folder.name) for what in changed))
    files = workspace.use_case.files
    used = sum(counts.values()) if files is None else len(set(files(folder)) - _left_out(found))
    return ValidationReport(
        dataset=_folder_ref(workspace, used), problems=problems, class_counts=counts, account=Account.of(used, found)
    )


def validate(workspace: Workspace, ref: DatasetRef) -> ValidationReport:
    """Validate a version. Raises DataInvalid with all problems if any of them is blocking."""
    folder, use_case = versions.local(workspace, ref), workspace.use_case
    index = () if use_case.files is None else (version_index(workspace, folder, ref),)
    problems, counts = use_case.check(folder, *index)
    refuse(folder, problems, options_of=f"`openmlops data add {quote(str(folder))}` with ")
    return ValidationReport(dataset=ref, problems=problems, class_counts=counts)


RESTORE = "Correct the files, or restore the last good version: `openmlops data pull`"


def refuse(
    folder: Path,
    problems: tuple[Problem, ...],
    remedy: str = RESTORE,
    strict: bool = False,
    lines: bool = True,
    options_of: str = "",
) -> None:
    """Raises DataInvalid with all problems if any of them blocks; `strict` and `lines` as in `ways_on`. `options_of`: the
    command whose options are named, if it is not the one at hand."""
    blocking = [problem for problem in problems if problem.blocking]
    if blocking:
        more = f", and {len(blocking) - 1} more" if len(blocking) > 1 else ""
        remedy = "; ".join((remedy, *(f"{options_of}{way}" for way in ways_on(blocking, strict, lines))))
        raise DataInvalid(f"{folder} did not pass the data checks: {blocking[0]}{more}", remedy, problems)


def ways_on(blocking: Sequence[Problem], strict: bool, lines: bool) -> list[str]:
    """What the options of the command do about these problems: none that would not help is named.

    `strict`: whether it was given, which refuses also what is left out; `lines`: whether the command can leave out lines.
    """
    ways = []
    if lines and any(each.where.endswith(".txt") and each.rows and not each.altered for each in blocking):
        ways.append("--on-bad-label skip leaves out label lines that cannot be used")
    if strict and any(each.altered for each in blocking):
        ways.append("without --strict a handful of files may be left out, and labels read otherwise than they are written")
    elif any(each.unused == "left out" for each in blocking):
        ways.append("--on-left-out skip goes on without the files that cannot be used")
    return ways


def _ref(workspace: Workspace, manifest: Manifest) -> DatasetRef:
    ref = DatasetRef(name=workspace.use_case.name, fingerprint=manifest.fingerprint, rows=0)
    return ref.model_copy(update={"rows": len(rows_of(workspace, ref).labels)})


def _folder_ref(workspace: Workspace, rows: int) -> DatasetRef:
    """Reference to the current content of the folder, recorded or not."""
    folder, known = workspace.data_folder, workspace.known_hashes
    fingerprint = Manifest.of(folder, known.sha256s).fingerprint
    known.save()
    return DatasetRef(name=workspace.use_case.name, fingerprint=fingerprint, rows=rows)
