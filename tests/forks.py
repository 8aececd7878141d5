"""Processes for tests, forked from one that has imported the server and the adapters: a start takes no second.

What a program imports, says or leaves behind when Python itself begins is claimed with processes that begin so.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["openmlops.serving.run", "openmlops.usecases.cifar10", "openmlops.usecases.person"])


def start(log: Path, target: Callable[..., None], *arguments: Any) -> Any:
    """A process that calls `target`, which a module must hold; all that it says goes into the file `log`."""
    process = FORKS.Process(target=_tell, args=(log, target, arguments))
    process.start()
    return process


def _tell(log: Path, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with log.open("wb") as output, open(os.devnull) as nothing:
        for stream, file in ((0, nothing), (1, output), (2, output)):
            os.dup2(file.fileno(), stream)
    sys.stdin = os.fdopen(0, closefd=False)
    target(*arguments)
