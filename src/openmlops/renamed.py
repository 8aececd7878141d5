"""Old names of modules, functions and fields: they keep working, and each use warns with the current name.

What is here: `moved` for a module, `names` for a module's contents, `fields` for a dataclass. What is not: options,
environment variables and the like, which keep their names.
"""

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


def moved(old: str, new: str, **current: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that looks names up in the module `new`, with a FutureWarning; what was renamed on the way is
    given as old=new.
    """

    def look_up(name: str) -> Any:
        if name.startswith("__"):
            raise _missing(old, name)
        value = getattr(importlib.import_module(new), current.get(name, name))
        _warn(f"{old}.{name}", f"{new}.{current.get(name, name)}")
        return value

    return look_up


def names(module: str, **current: str) -> Callable[[str], Any]:
    """A module's `__getattr__` for contents that were renamed (old=new), with a FutureWarning."""

    def look_up(name: str) -> Any:
        if name not in current:
            raise _missing(module, name)
        _warn(f"{module}.{name}", current[name])
        return getattr(importlib.import_module(module), current[name])

    return look_up


def fields(**current: str) -> Callable[[_Class], _Class]:
    """A decorator of a dataclass whose fields were renamed (old=new): old arguments and attributes work, with a FutureWarning.

    Where both are given the old one counts, so that `dataclasses.replace` takes it too.
    """

    def decorate(cls: _Class) -> _Class:
        init = cls.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def renaming(self: Any, *args: Any, **kwargs: Any) -> None:
            for old in current.keys() & kwargs.keys():
                _warn(f"{cls.__name__}({old}=)", current[old])
                kwargs[current[old]] = kwargs.pop(old)
            init(self, *args, **kwargs)

        cls.__init__ = renaming  # type: ignore[misc]
        for old, new in current.items():
            setattr(cls, old, property(functools.partial(_read, old=old, new=new)))
        return cls

    return decorate


def _read(instance: Any, old: str, new: str) -> Any:
    _warn(f"{type(instance).__name__}.{old}", new)
    return getattr(instance, new)


def _missing(module: str, name: str) -> AttributeError:
    return AttributeError(f"module {module!r} has no attribute {name!r}")


def _warn(old: str, new: str) -> None:
    """At the line that uses the old name."""
    warnings.warn(f"{old} is called {new} now; the old name will go", FutureWarning, stacklevel=3)
