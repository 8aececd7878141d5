"""OpenMLOps: the closed loop for computer-vision models.

Importing this package switches off the telemetry of libraries that are imported after it, and nothing else is imported. Its
functions, such as `openmlops.train`, are those of `openmlops.api`, which is imported when the first of them is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from openmlops.telemetry import switch_off
from openmlops.version import __version__

if TYPE_CHECKING:
    from openmlops.api import (
        LoadedModel,
        decisions,
        history,
        load,
        monitor,
        predictions,
        promote,
        rollback,
        train,
    )

__all__ = [
    "LoadedModel",
    "__version__",
    "decisions",
    "history",
    "load",
    "monitor",
    "predictions",
    "promote",
    "rollback",
    "train",
]

switch_off()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'openmlops' has no attribute {name!r}")
    return getattr(import_module("openmlops.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
