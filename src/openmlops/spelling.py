"""Names that are probably a misspelt setting: what they are like, and how to say so."""

from collections.abc import Collection
from difflib import SequenceMatcher, get_close_matches

PREFIXES = ("OPENMLOPS_", "POLICY_", "RETENTION_", "NOTIFY_")
"""variables with these are ours: another one is told even if it is like no setting"""
OF_COMPOSE = ("OPENMLOPS_VERSION", "OPENMLOPS_PASSWORD")
"""read by `deploy/compose.yml`"""
SLIPS, SHORTEST, ALIKE = 2, 6, 3
"""most characters that are wrong in a misspelt name; shorter names are left alone; characters that agree at either end"""


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that `name` misspells: up to two characters more, fewer or other, or another case. Else empty."""
    found = [other for other in known if _is_like(name.upper(), other.upper())]
    return max(found, key=lambda other: SequenceMatcher(None, name.upper(), other.upper()).ratio(), default="")


def unknown_variable(name: str, known: Collection[str]) -> str:
    """Why a variable that is no setting was probably meant as one, as a sentence; empty if it was probably not."""
    if name in known or name in OF_COMPOSE:
        return ""
    if name.upper() in known:
        return f"{name} has no effect: settings are written in capitals, as {name.upper()}"
    rest = name.removeprefix("OPENMLOPS_")
    meant = rest if rest in known else nearest(name, known)
    if not meant and name.startswith(PREFIXES):
        meant = next(iter(get_close_matches(name, known, 1)), "")
        return f"{name} is no setting and has no effect{f'; the nearest is {meant}' if meant else ''}"
    return f"{name} is no setting and has no effect; did you mean {meant}?" if meant else ""


def _is_like(name: str, other: str) -> bool:
    longest = max(len(name), len(other))
    if name == other or abs(len(name) - len(other)) > SLIPS or min(len(name), len(other)) < SHORTEST:
        return name == other
    if name[:ALIKE] != other[:ALIKE] and name[-ALIKE:] != other[-ALIKE:]:
        return False
    blocks = SequenceMatcher(None, name, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) >= longest - SLIPS
