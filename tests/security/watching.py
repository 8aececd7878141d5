"""What this process does to files and hosts while somebody looks: Python's own audit events, which no library goes around."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree")
_MOVES = ("os.rename", "os.link", "os.symlink", "shutil.copyfile", "shutil.copytree", "shutil.move")
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn")


@dataclass
class Seen:
    """Absolute paths that were opened or changed, hosts that were looked up or called, and programs that were started."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)

    def outside(self, *allowed: Path) -> set[str]:
        """What was written, but not below one of these folders."""
        return {path for path in self.written if not any(Path(path).is_relative_to(folder) for folder in allowed)}


_now: list[Seen] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _now:
        return
    seen = _now[-1]
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes):
            (seen.written if (flags or 0) & _WRITING else seen.read).add(_absolute(path))
    elif event == "sqlite3.connect" or event in _CHANGES:
        seen.written.add(_absolute(arguments[0]))
    elif event in _MOVES:
        seen.written.update(_absolute(path) for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike))
    elif event in _PROGRAMS:
        seen.started.add(str(arguments[0]))
    elif event == "socket.getaddrinfo":
        seen.called.add(os.fsdecode(arguments[0]))
        raise socket.gaierror(socket.EAI_NONAME, "nobody is looked up here")
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        seen.called.add(str(arguments[1][0]))
        raise ConnectionRefusedError("nobody is called here")


def _absolute(path: Any) -> str:
    return os.path.realpath(os.fsdecode(path)) if not isinstance(path, int) else f"/dev/fd/{path}"


sys.addaudithook(_hook)  # for the life of the process; it looks only inside `watched`


@contextmanager
def watched() -> Iterator[Seen]:
    """What happens inside the block. Nobody is looked up or called meanwhile: whoever tries is noted, and refused."""
    _now.append(Seen())
    try:
        yield _now[-1]
    finally:
        _now.pop()
