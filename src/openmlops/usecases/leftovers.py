"""The files of a data folder that are not used, each with the reason: no file is dropped silently.

What is here: the search, and which reasons stop an import. What is not: which files a layout uses (each use case's `arrange`
and `data`).
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from openmlops.core.images.decoding import HEIF, NAMES, SUFFIXES, UNREAD
from openmlops.core.types import Problem
from openmlops.core.validation import listed, problem
from openmlops.files import opened

HANDFUL = 0.02
"""Largest share of the images that may be left out without stopping: a handful never stops thousands."""
SYSTEM = ("__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "$RECYCLE.BIN", "System Volume Information")
FURTHER_SYSTEM = ("lost+found", "@eaDir", "#recycle", "__pycache__")
"""Files and folders that operating systems, archives and network drives leave among others' files."""
ELSEWHERE = "the links lead to nothing; restore the files that they name"
NO_SUFFIX = "files hold images but have no image's suffix; rename them, as in .jpg"
UNREAD_FORMAT = f"pictures are in none of the formats {NAMES}; convert them" + (
    "" if HEIF else ", or for HEIC: pip install pillow-heif"
)
NO_FILES = "entries are pipes, sockets or devices, which are not read; remove them"
NO_IMAGES = "files are not images"
ABOVE = "links lead to a folder that holds the data itself, and are not followed"
HIDDEN = "hidden files and files of the system"

Beside = Callable[[str], Sequence[str]]
"""path of an image -> the files that go with it and are left out with it, such as its label file"""
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def no_others(path: str) -> Sequence[str]:
    """No files go with an image."""
    return ()


def is_system(path: Path) -> bool:
    """Whether it is hidden, or left by an operating system: never a class, a split or an image."""
    return path.name.startswith(".") or path.name.casefold() in _SYSTEM


_SYSTEM = {name.casefold() for name in (*SYSTEM, *FURTHER_SYSTEM)}


def unused(
    folder: Path, used: Collection[Path], misplaced: Callable[[Path], str], absolute: bool, beside: Beside = no_others
) -> list[Problem]:
    """Every file below `folder` that is not among `used`, grouped by reason: left out, or ignored if no image.

    `misplaced` says of an image, by its path relative to `folder`, why it is not read. Files are named by that path, or by the
    `absolute` one. What is `beside` an image that is left out goes with it, and is not counted.
    """
    known, groups = {_key(path) for path in used}, dict[str, list[Path]]()
    for path in below(folder):
        if _key(path) not in known:
            groups.setdefault(_reason(path, folder, misplaced), []).append(path)
    where = str(folder) if absolute else "files"
    named = {why: [str(path if absolute else path.relative_to(folder)) for path in paths] for why, paths in groups.items()}
    ignored = {why for why in named if why in (NO_IMAGES, HIDDEN, ABOVE)}
    return [
        left_out(why, where, files if why in ignored else with_beside(files, beside), files, ignored=why in ignored)
        for why, files in sorted(named.items())
    ]


def left_out(why: str, where: str, files: Sequence[str], examples: Sequence[str] = (), ignored: bool = False) -> Problem:
    """A problem for which these files are left out, or `ignored`, which never stops.

    `examples`: a text for each image, if the names of the files alone do not say it.
    """
    shown = list(examples or files)
    alone = len(shown) == 1 and (shown[0] in files or not any(name in shown[0] for name in files))
    found = problem(why, shown[0]) if alone else listed(why, where, shown, blocking=True)
    unused: Literal["ignored", "left out"] = "ignored" if ignored else "left out"
    return found.model_copy(update={"blocking": not ignored, "unused": unused, "altered": not ignored, "files": tuple(files)})


def unreadable(reasons: Mapping[str, str], where: str, beside: Beside = no_others) -> list[Problem]:
    """Problems for images that cannot be read, path -> reason, grouped by reason."""
    groups: dict[str, list[str]] = {}
    for path, why in reasons.items():
        groups.setdefault(why, []).append(path)
    return [left_out(why, where, with_beside(paths, beside), paths) for why, paths in groups.items()]


def with_beside(paths: Sequence[str], beside: Beside) -> list[str]:
    """Images and the files that go with them."""
    return [each for path in paths for each in (path, *beside(path))]


def tolerated(problems: Sequence[Problem], used: int, skip: bool = False) -> list[Problem]:
    """The problems, of which those that leave files out block only if it is more than a HANDFUL of the images, never if `skip`.

    `used`: number of images that are not left out.
    """
    gone = sum(each.count for each in problems if each.unused == "left out")
    stops = gone > HANDFUL * (used + gone) and not skip
    return [each.model_copy(update={"blocking": stops}) if each.unused == "left out" else each for each in problems]


def _key(path: Path) -> str:
    """The path without links to folders; a link to a file stays."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, by name, through links; a hidden or system folder counts as one file, as
    does a link to a folder above."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        system = [name for name in folders if is_system(Path(name)) or _leads_above(Path(place) / name, folder)]
        folders[:] = sorted(set(folders) - set(system))
        yield from (Path(place) / name for name in sorted((*files, *system)))


def _leads_above(path: Path, folder: Path) -> bool:
    """Whether it is a link to `folder` or a folder that holds it, as `/`: what is there is not of this data."""
    return path.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path))


def _reason(path: Path, folder: Path, misplaced: Callable[[Path], str]) -> str:
    if is_system(path):
        return HIDDEN
    if not path.exists():
        return ELSEWHERE
    if path.is_dir():
        return ABOVE
    if not path.is_file():
        return NO_FILES
    if path.suffix.lower() in SUFFIXES:
        return misplaced(path.relative_to(folder))
    if path.suffix.lower() in UNREAD:
        return UNREAD_FORMAT
    return NO_SUFFIX if _holds_image(path) else NO_IMAGES


def _holds_image(path: Path) -> bool:
    """Whether the file starts as an image does."""
    try:
        with opened(path) as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(_SIGNATURES) or (start.startswith(b"RIFF") and start.endswith(b"WEBP"))
