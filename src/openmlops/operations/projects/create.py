"""Creates a project for the user's own data: a folder with a use case and the data, copied, validated and versioned.

Here: requirements on name and folders, and the order of steps; a failure leaves nothing behind. Not here: the meaning of the
images (`usecases/*/arrange` and their checks) and the texts of the files (`templates`).
"""

import keyword
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from openmlops.core.gate import sample_size
from openmlops.core.images.decoding import allow
from openmlops.core.types import Account, HoldoutPower, Problem, Value
from openmlops.errors import DataError, DataInvalid, SettingsError
from openmlops.files import absolute, write_text
from openmlops.images.index import OnProgress
from openmlops.operations.data import datasets
from openmlops.operations.projects import templates
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from openmlops.usecases.arranging import ENOUGH, MONITORABLE, Arranged
from openmlops.usecases.scenes import GroupBy

Kind = Literal["classification", "detection"]

MAX_NAME_LENGTH = 50
MAY_BE_THERE = (".git", ".DS_Store", "Thumbs.db", "desktop.ini")
"""what a folder may hold in which a project is created"""


class NewProject(Value):
    """The created project. `side` is the side of a classifier's square model input in pixels, None for a detector; `holdout` is
    what the test split could decide of a classifier, None for a detector, whose scores cannot be assumed."""

    path: str
    name: str
    kind: Kind
    classes: tuple[str, ...]
    train: int
    validation: int
    test: int
    side: int | None
    holdout: HoldoutPower | None
    fingerprint: str
    is_repository: bool
    notes: tuple[str, ...]
    account: Account


def create(
    place: Path,
    kind: Kind,
    source: Path,
    on_bad_label: datasets.OnBadLabel = "stop",
    strict: bool = False,
    skip: bool = False,
    on_progress: OnProgress | None = None,
    group_by: GroupBy = "auto",
) -> NewProject:
    """Create the project in `place`, which must be missing or empty but for `.git`, with the images of `source`.

    `on_bad_label`, `strict` and `skip` as in `datasets.add_with_notes`; `on_progress` is called while the images are read;
    `group_by`: which images are kept in one split (usecases/scenes.py).

    Raises SettingsError for an invalid name or folder, DataError and DataInvalid for the data.
    """
    place, source = absolute(place), absolute(source)
    name = module_name(place.name)
    _require_separate(place, source)
    allow(Settings.load().max_pixels)
    with _removed_on_failure(place), _forgotten_on_failure(place):
        raw = place / "data" / "raw" / name
        arranged = _arranger(kind)(source, raw, skip, on_progress, group_by)
        _refuse(datasets.judged(arranged.problems, strict, skip), strict, lines=False)
        for file, text in templates.texts(name, kind, arranged.names, arranged.side).items():
            write_text(place / file, text)
        is_repository = _is_in_repository(place) or _init_repository(place)
        with chdir(place):
            workspace = Workspace.open(f"{name}:USE_CASE")
            added = _add_data(workspace, arranged, raw, on_bad_label, strict, skip)
            return _described(workspace, kind, arranged, added, is_repository)


def module_name(project: str) -> str:
    """The name of the project's module. Raises SettingsError if it is not importable or already taken by a module."""
    name = project.replace("-", "_")
    remedy = f"Use up to {MAX_NAME_LENGTH} letters, digits, '-' and '_', starting with a letter, as in my-project"
    if not (
        name.isascii() and name.isidentifier() and name[:1].isalpha() and len(name) <= MAX_NAME_LENGTH
    ) or keyword.iskeyword(name):
        raise SettingsError(f"'{project[:80]}' is not a valid project name", remedy)
    known = None if name in sys.modules else find_spec(name)
    if name in sys.modules or name in sys.stdlib_module_names or (known and known.origin):
        problem = f"'{project}' is not a valid project name: Python has a module of this name"
        raise SettingsError(problem, f"Choose another name, such as my-{project}")
    return name


def _require_separate(place: Path, source: Path) -> None:
    if not source.is_dir():
        raise DataError(f"There is no folder {source}", "Name the folder of your images with --data")
    if place == source or place.is_relative_to(source) or source.is_relative_to(place):
        problem = f"Either the project {place} is inside the data {source}, or the data inside the project"
        raise SettingsError(problem, "Create the project elsewhere; the data is copied into it")
    if place.exists() and (not place.is_dir() or any(path.name not in MAY_BE_THERE for path in place.iterdir())):
        raise SettingsError(f"{place} already exists and is not empty", "Choose another name, or remove it")


@contextmanager
def _removed_on_failure(place: Path) -> Iterator[None]:
    """Create the folder; if the block raises, remove what was created."""
    was_there = {path.name for path in place.iterdir()} if place.exists() else None
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{place} cannot be made ({error.strerror})", "Create the project elsewhere") from error
    try:
        yield
    except BaseException:
        for path in place.iterdir():
            if path.name not in (was_there or ()):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if was_there is None:
            place.rmdir()
        raise


@contextmanager
def _forgotten_on_failure(place: Path) -> Iterator[None]:
    """If the block raises, let Python forget the project's module, so that the name can be used again in this process."""
    paths = list(sys.path)
    try:
        yield
    except BaseException:
        sys.path[:] = paths
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(place):
                del sys.modules[name]
        invalidate_caches()
        raise


def _arranger(kind: Kind) -> Callable[[Path, Path, bool, OnProgress | None, GroupBy], Arranged]:
    if kind == "classification":
        from openmlops.usecases.image_folder.arrange import arrange
    else:
        from openmlops.usecases.yolo_folder.arrange import arrange
    return arrange


def _refuse(problems: tuple[Problem, ...], strict: bool, lines: bool) -> None:
    """Raises DataInvalid if any of the problems blocks; `strict` and `lines` as in `datasets.ways_on`."""
    blocking = tuple(problem for problem in problems if problem.blocking)
    if blocking:
        more = f", and {len(blocking) - 1} more" if len(blocking) > 1 else ""
        ways = ["Correct it, then run the command again: nothing was created", *datasets.ways_on(blocking, strict, lines)]
        remedy = "; ".join(ways)
        raise DataInvalid(f"The data cannot be used: {blocking[0]}{more}", remedy, blocking)


def _add_data(
    workspace: Workspace, arranged: Arranged, raw: Path, on_bad_label: datasets.OnBadLabel, strict: bool, skip: bool
) -> datasets.Added:
    """Add the data as a version. Problems and notes name the user's original files. Raises DataInvalid."""
    try:
        added = datasets.add_with_notes(workspace, raw, on_bad_label, strict, skip, arranged.known)
    except DataInvalid as error:
        _refuse(tuple(map(arranged.with_source_paths, error.problems)), strict, lines=True)
        raise
    shutil.rmtree(workspace.home / "left-out", ignore_errors=True)  # copies; the originals are where they were
    named = {field: tuple(map(arranged.with_source_paths, getattr(added, field))) for field in ("notes", "unused")}
    return added.model_copy(update=named)


def _described(workspace: Workspace, kind: Kind, arranged: Arranged, added: datasets.Added, is_repository: bool) -> NewProject:
    sizes = datasets.split(workspace, added.dataset, seed=0)
    altered = [each for each in arranged.problems if not each.unused]
    return NewProject(
        path=str(Path.cwd()),
        name=workspace.use_case.name,
        kind=kind,
        classes=arranged.names,
        train=sizes.train,
        validation=sizes.validation,
        test=sizes.test,
        side=arranged.side or None,
        holdout=sample_size.before_training(sizes.test) if kind == "classification" else None,
        fingerprint=added.dataset.fingerprint,
        is_repository=is_repository,
        notes=(*map(str, (*altered, *added.notes)), *_notes(sizes.validation, kind)),
        account=Account.of(added.dataset.rows, (*arranged.problems, *added.unused)),
    )


def _notes(validation: int, kind: Kind) -> tuple[str, ...]:
    """Warnings: too few images, overriding environment variables, missing extras."""
    sources = Settings.sources()
    overruled = [name.upper() for name in ("use_case", "model_name") if sources[name] == "environment"]
    notes = [
        f"{name} is set in the environment, which takes precedence over the project's .env: unset it" for name in overruled
    ]
    if validation < MONITORABLE:
        few = f"{validation} validation images are fewer than {MONITORABLE}: `openmlops monitor` cannot detect drift"
        notes.append(f"{few}. It requires a data set of at least {ENOUGH} images")
    if kind == "detection" and find_spec("ultralytics") is None:
        notes.append("Training detectors needs an extra (AGPL-3.0): pip install 'openmlops[yolo]'")
    return tuple(notes)


def _is_in_repository(place: Path) -> bool:
    return any((folder / ".git").exists() for folder in (place, *place.parents))


def _init_repository(place: Path) -> bool:
    """Run `git init` if git is installed; whether it succeeded."""
    if shutil.which("git") is None:
        return False
    return subprocess.run(["git", "-C", str(place), "init", "--quiet"], capture_output=True, timeout=60).returncode == 0
