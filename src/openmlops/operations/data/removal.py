"""Takes images out of the data set, as a new version: those that are named, or production images by when or why they came.

Earlier versions keep them. Production images that were removed stay marked as used, so that no retraining brings them back.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from openmlops.adapters.labelled_inputs import LabelledInput
from openmlops.core.types import DatasetRef, Value
from openmlops.errors import DataError
from openmlops.files import share_file
from openmlops.operations.data import datasets
from openmlops.operations.data.rows import version_index
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder

MOST_NAMED = 3


class Which(Value):
    """The images that are meant: those of `paths` (files, folders or patterns below the data set's folder), and labelled
    production images, of the retraining of a `decision`, or sent in [since, until)."""

    paths: tuple[str, ...] = ()
    decision: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_production(self) -> bool:
        """Whether production images are meant besides paths."""
        return bool(self.decision or self.since or self.until)


class Removed(Value):
    """The new version (None: nothing was changed, `dry_run`), and the images that it lacks."""

    dataset: DatasetRef | None
    images: tuple[str, ...]


def remove(workspace: Workspace, which: Which, dry_run: bool = False) -> Removed:
    """Make a version without these images, validated like any other.

    Raises DataError if nothing is meant, nothing is found or images are not in files of their own, DataInvalid if what is left
    does not pass the checks; the current version then stays.
    """
    use_case = workspace.use_case
    if use_case.files is None:
        problem = f"The images of {use_case.name} are not in files of their own"
        raise DataError(problem, "Add a folder without them: `openmlops data add FOLDER`")
    if not (which.paths or which.is_production):
        raise DataError("No images are named", "Name files or folders of the data set, or give --list, --decision or --since")
    current = datasets.ingest(workspace)
    folder = workspace.data_folder
    images = use_case.files(folder)
    chosen = _named(images, which.paths) | (_of_production(workspace, which) & set(images) if which.is_production else set())
    if not chosen:
        raise DataError(
            f"None of the {len(images)} images of the data set came from that decision or time",
            "`data status` shows the folder",
        )
    found = tuple(sorted(chosen))
    if dry_run:
        return Removed(dataset=None, images=found)
    with temporary_folder(workspace.home, "removing-") as place:
        out = place / folder.name
        gone = chosen | {beside for path in found for beside in use_case.beside(path)}
        for path in workspace.data_versions.manifest(folder).files:
            if path not in gone:
                share_file(folder / path, out / path)
        added = datasets.add_with_notes(workspace, out, known=[version_index(workspace, folder, current)])
    return Removed(dataset=added.dataset, images=found)


def read_list(path: Path) -> tuple[str, ...]:
    """The paths in a text file, one a line. Raises DataError."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"The list {path} cannot be read ({why})", "Give a text file with one path a line") from error
    return tuple(line.strip() for line in lines if line.strip())


def _named(images: Sequence[str], paths: Sequence[str]) -> set[str]:
    """Raises DataError for a path that names no image."""
    found: set[str] = set()
    missing = []
    for path in paths:
        wanted = os.path.normpath(path)
        below = {image for image in images if image == wanted or image.startswith(f"{wanted}/") or fnmatchcase(image, wanted)}
        if not below:
            missing.append(path)
        found |= below
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        example = f"as in {images[0]}" if images else "which is empty"
        problem = f"No image of the data set is {', '.join(map(repr, missing[:MOST_NAMED]))}{more}"
        raise DataError(problem, f"Give paths below the data set's folder, {example}")
    return found


def _of_production(workspace: Workspace, which: Which) -> set[str]:
    """The files whose content was sent for prediction and labelled, as `which` says."""
    inputs: tuple[LabelledInput, ...] = workspace.labelled_inputs.all(workspace.model_name)
    if which.decision:
        used = workspace.labelled_inputs.used_in(_dataset_of(workspace, which.decision))
        inputs = tuple(each for each in inputs if each.prediction in used)
    hashes = {
        each.sha256
        for each in inputs
        if (which.since is None or each.at >= which.since) and (which.until is None or each.at < which.until)
    }
    files = workspace.data_versions.manifest(workspace.data_folder).files
    return {path for path, entry in files.items() if entry.sha256 in hashes}


def _dataset_of(workspace: Workspace, decision: str) -> str:
    """The fingerprint of the data version that the retraining of a decision was trained on. Raises DataError."""
    record = workspace.decisions.get(decision)
    if record.outcome is None or record.outcome.version is None or record.action != "retrain":
        raise DataError(f"The decision {record.id} has trained no version", "`openmlops decisions` lists which have")
    return workspace.registered.version(record.model, record.outcome.version).dataset
