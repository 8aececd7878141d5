"""Names that people give to classes, files and folders: which can be shown, and which are the same, written otherwise.

What is not here: what a file system or a service takes (`files`), and how a name is shown in HTML and Markdown (`plain`).
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

_JOINERS = "\u200c\u200d"
"""join or separate letters in Persian and Indic scripts, and the parts of an emoji"""
_TAGS = range(0xE0020, 0xE0080)
"""letters of an emoji's flag, such as Scotland's"""


def is_shown(character: str) -> bool:
    """Whether a character may be in a name: it neither steers a terminal, nor reorders or hides the text around it.

    Besides the printable ones these are spaces of all scripts, joiners, characters for private use, which macOS puts for
    those that Windows refuses, and characters newer than this Python. Not: control characters, halves of surrogate pairs,
    marks of the direction of text, and spaces without width.
    """
    if character.isprintable() or character in _JOINERS or ord(character) in _TAGS:
        return True
    kind = unicodedata.category(character)
    return kind in ("Zs", "Co") or (kind == "Cn" and not _is_never_one(ord(character)))


def is_showable(text: str) -> bool:
    """Whether all its characters are `is_shown`."""
    return text.isprintable() or all(map(is_shown, text))


def composed(name: str) -> str:
    """The name with each accent and its letter as one character (NFC), as keyboards write it. macOS and some archives take them
    apart (NFD), so that one name has two spellings that look the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def position(name: str, names: Sequence[str]) -> int | None:
    """Where a name is among others, whose accents may be written otherwise; None if it is not there."""
    if name in names:
        return names.index(name)
    return None if name.isascii() else next((i for i, each in enumerate(names) if composed(each) == composed(name)), None)


def as_stored(path: Path) -> Path:
    """The path as the file system has it, if accents are written otherwise there; `path` if nothing is there."""
    return next((found for found in _spellings(path) if os.path.exists(found)), path)


def _spellings(path: Path) -> Iterator[Path]:
    """The path, then others whose names are all composed or taken apart, in folders that exist."""
    yield path
    if str(path).isascii():
        return
    parent = path.parent if path.parent == path or os.path.exists(path.parent) else as_stored(path.parent)
    yield from (parent / name for name in (path.name, *(unicodedata.normalize(form, path.name) for form in ("NFC", "NFD"))))


def _is_never_one(code: int) -> bool:
    """Whether Unicode reserves the code for no character."""
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
