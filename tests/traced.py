"""What a command and its children leave outside their project, and whom they call: the system calls that strace sees."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).parent / "openmlops"
CALLS = "openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,connect,sendto,sendmsg,sendmmsg"
DNS = 53
END_SECONDS = 300

_CALL = re.compile(r"(?:^|\s)(\w+)\((.*)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([0-9a-f.:]+)')


@dataclass
class Trace:
    """The end of a command: exit code, output, files outside the allowed folders, and addresses called beyond loopback."""

    code: int = -1
    output: str = ""
    written: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    """what is in the user's home folder and in the temporary folder when the command has ended"""

    @property
    def is_clean(self) -> bool:
        return not (self.written or self.called or self.left)


class Tracer:
    """Runs commands as a user with an empty home folder and none of this process's variables."""

    def __init__(self, place: Path, **environment: str) -> None:
        if shutil.which("strace") is None:
            pytest.skip("strace is not installed")
        self._place = place
        self._environment = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **environment}
        self._number = 0

    def run(self, command: list[str], folder: Path) -> Trace:
        """One command, to its end."""
        with self.running(command, folder) as (trace, process):
            process.wait()
        return trace

    @contextmanager
    def running(self, command: list[str], folder: Path) -> Iterator[tuple[Trace, subprocess.Popen[bytes]]]:
        """A command that gets Ctrl-C at the end of the block, if it still runs; its trace is complete after the block."""
        self._number += 1
        own = self._place / str(self._number)
        home, temporary, log, output = own / "home", own / "tmp", own / "strace", own / "output"
        for made in (home, temporary):
            made.mkdir(parents=True)
        arguments = ["strace", "-f", "-qq", "-s", "300", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", log, *command]
        environment = {**self._environment, "HOME": str(home), "TMPDIR": str(temporary)}
        trace = Trace()
        with output.open("wb") as out:
            process = subprocess.Popen(
                arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
            try:
                yield trace, process
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
                trace.code = process.wait(END_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        trace.output = output.read_text(errors="replace")
        trace.left = {str(path.relative_to(own)) for place in (home, temporary) for path in place.rglob("*")}
        _read(log.read_text(errors="replace"), (str(folder), str(temporary), "/dev/", "/proc/"), trace)


def _read(log: str, allowed: tuple[str, ...], trace: Trace) -> None:
    for line in log.splitlines():
        if not (found := _CALL.search(line)):
            continue
        call, arguments = found.groups()
        if call in ("connect", "sendto", "sendmsg", "sendmmsg"):
            for port, address in _ADDRESS.findall(arguments):
                if int(port) == DNS or not ip_address(address).is_loopback:
                    trace.called.add(f"{address}:{port}")
        elif " = -1 E" not in arguments and (call != "openat" or "O_CREAT" in arguments):
            path = _TEXT.findall(arguments)[-1]
            if path.startswith("/") and not path.startswith(allowed):
                trace.written.add(path)
