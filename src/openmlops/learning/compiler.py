"""Imports without torch's compiler, which nothing here uses: torchvision and timm import it for two functions of it.

It costs 150 MB and two cpu-seconds in each process. What is not here: any change of what the two do. Their first call of a
function of the compiler imports it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


@contextmanager
def deferred() -> Iterator[None]:
    """Modules that are imported meanwhile get a stand-in for the compiler, unless it has been imported already."""
    import torch  # noqa: F401 (first: what it imports itself stays)

    if COMPILER in sys.modules:
        yield
        return
    stands_in = _stand_in()
    sys.modules.update(stands_in)
    try:
        yield
    finally:
        for name, module in stands_in.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _stand_in() -> dict[str, ModuleType]:
    compiler, utils = ModuleType(COMPILER), ModuleType(f"{COMPILER}.utils")
    compiler.__path__ = []
    compiler.utils = utils  # type: ignore[attr-defined]
    compiler.disable = _as_it_is  # type: ignore[attr-defined]
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    return {COMPILER: compiler, f"{COMPILER}.utils": utils}


def _is_compile_supported(device: Any) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)


def _as_it_is(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    """In place of `disable`, which keeps a function out of what is compiled: nothing is."""
    return function
