"""Modules that were given another name or room: the old name goes on working, and says what it is called now."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def moved(old: str, new: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that looks names up in `new`, with a FutureWarning."""

    def look_up(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(new), name)
        warnings.warn(f"{old} is called {new} now; the old name will go", FutureWarning, stacklevel=2)
        return found

    return look_up
