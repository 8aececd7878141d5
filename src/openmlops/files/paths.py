"""Paths and names that can be stored everywhere."""

import hashlib
import os
from pathlib import Path

from openmlops.errors import SettingsError
from openmlops.names import composed, is_showable, is_shown

MOST_NAME_BYTES = 200
LONGEST_SUFFIX = ".jpeg"
MOST_PATH_BYTES = 3000
"""limit of path lengths in file systems, less the room for temporary names and suffixes"""


def absolute(path: Path) -> Path:
    """`path` made absolute, `~` and links resolved, whether it exists or not. Raises SettingsError for an invalid path."""
    try:
        found = path.expanduser().resolve()
    except (RuntimeError, ValueError, OSError):
        found = None
    if found is None or not _is_writable(found):
        problem = f"'{str(path)[:80]}' is not a valid path"
        raise SettingsError(problem, f"Use names of at most {MOST_NAME_BYTES} bytes without control characters")
    return found


def real(path: Path) -> Path:
    """`path` made absolute, links resolved, but for links that lead to themselves."""
    return Path(os.path.realpath(path))


def why_not_storable(name: str) -> str:
    """Why a file or folder of this name cannot be stored everywhere, in one word or two; empty if it can."""
    if not is_showable(name):
        return "characters that cannot be printed"
    if "\\" in name:
        return "a backslash"
    return f"more than {MOST_NAME_BYTES} bytes" if len(name.encode()) > MOST_NAME_BYTES else ""


def _is_writable(path: Path) -> bool:
    """Whether it can be encoded, and is short enough for file systems."""
    names = [len(os.fsencode(part)) for part in path.parts]
    return is_showable(str(path)) and max(names) <= MOST_NAME_BYTES and sum(names) + len(names) <= MOST_PATH_BYTES


def storable_name(stem: str) -> str:
    """`stem`, `composed`, or a name of our own if it is not UTF-8, is too long with a suffix, or `why_not_storable`."""
    content = os.fsencode(stem)
    if not why_not_storable(stem + LONGEST_SUFFIX):
        return composed(stem)
    kept = "".join(character if is_shown(character) and character != "\\" else "_" for character in stem)
    return f"{kept.encode()[: MOST_NAME_BYTES // 2].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:16]}"
