"""Shell completion of existing use cases, models, versions and decisions.

On any error nothing is offered and nothing is printed, so that the line being typed is not disturbed. In bash, text after a
typed `@` or `:` cannot be completed, because these begin a new word there.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

ALIASES = ("champion", "staging")
MAX_BYTES = 1_000_000
"""size above which a module of the current folder is not searched"""
_EXPORTS_USE_CASE = re.compile(r"^USE_CASE\b", re.MULTILINE)

Names = Iterator[str]


def _completer(names: Callable[[], Names]) -> Callable[[str], list[str]]:
    """A completion function for typer: the names that begin with the typed text; none if they cannot be read."""

    def complete(incomplete: str) -> list[str]:
        try:
            return [name for name in names() if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001 (no workspace, a database that is away or foreign: each means that there is nothing)
            return []

    return complete


def _use_cases() -> Names:
    from openmlops.usecases import BUILT_IN

    yield from BUILT_IN
    for path in sorted(Path.cwd().glob("*.py")):
        if path.stem.isidentifier() and path.stat().st_size < MAX_BYTES and _EXPORTS_USE_CASE.search(path.read_text()):
            yield f"{path.stem}:USE_CASE"


def _models() -> Names:
    yield from dict.fromkeys(model for model, _ in _versions_there())


def _versions() -> Names:
    yield from (f"{model}/{version}" for model, version in _versions_there())


def _versions_and_aliases() -> Names:
    yield from (f"{model}@{alias}" for model in _models() for alias in ALIASES)
    yield from _versions()


def _decisions() -> Names:
    from openmlops.adapters.known_names import decisions

    yield from decisions(_database())


def _versions_there() -> list[tuple[str, int]]:
    from openmlops.adapters.known_names import versions

    return versions(_database())


def _database() -> str:
    from openmlops.settings import Settings

    return Settings.load().database


use_cases = _completer(_use_cases)
models = _completer(_models)
versions = _completer(_versions)
versions_and_aliases = _completer(_versions_and_aliases)
decisions = _completer(_decisions)
