"""Commands of a user to whom the modes of files apply, each in a process forked from one that has given every command already.

Where the tests run as root, who may read and write everything, the processes give up root's capabilities. They keep the user
id, because Python and this package may lie where no other user can read them.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from forks import FORKS, start

SECONDS = 300
"""after which a command is taken to hang, and killed; most take less than one"""
_IMPORTED = (
    "dvc.repo.add",
    "dvc_data.hashfile.status",
    "dvc_objects.fs.local",
    "openmlops.adapters.dvc_repository",
    "openmlops.adapters.registry",
    "openmlops.operations.projects.create",
    "openmlops.operations.projects.doctor",
    "openmlops.usecases.image_folder.arrange",
    "openmlops.usecases.yolo_folder.arrange",
)
_CAPABILITY_VERSION_3, _PR_SET_SECUREBITS, _SECBIT_NOROOT = 0x20080522, 28, 1

NOTICES = ("Warning: .env, line ", "Warning: environment: ")
"""of variables that are probably misspelt settings"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def require_clear(self, *names: str) -> None:
        """Success, or exit code 1 (2 for a command that was not understood) and one line with a problem and a remedy, which
        holds one of `names` if there are any.

        Misspelt settings, and a list of all problems of a data set, one on each line, may come before.
        """
        said = [line for line in self.err.strip().splitlines() if not line.startswith(NOTICES)]
        assert not any(
            words in "\n".join(said) for words in ("Traceback", "Warning", "is a bug in openmlops", "could not parse")
        ), self
        if self.code == 0:
            assert not any(line.startswith("error:") for line in said), self
            return
        assert self.code in (1, 2), self
        if "The data set did not pass: training is blocked." in said:  # after a table of the problems, on standard output
            assert not names or any(name in self.err + self.out for name in names), (self, names)
            return
        *before, line = said
        assert all(each.startswith("- ") for each in before), self
        problem, _, remedy = line.removeprefix("error: ").partition(". ")
        assert line.startswith("error: "), self
        assert min(len(problem), len(remedy)) > 10, self
        assert not names or any(name in self.err for name in names), (self, names)


class User:
    """Who gives commands, through a process that waits for them."""

    def __init__(self, log: Path) -> None:
        self.log, self.said = log, (log.with_suffix(".out"), log.with_suffix(".err"))
        self.connection, other = FORKS.Pipe()
        self.process = start(log, _serve, other)

    def run(self, place: Path, words: Sequence[str], variables: Mapping[str, str] | None = None) -> Outcome:
        """`openmlops` with these words, in `place`, with a home there and with no variables but these."""
        environment = {"HOME": str(place), "PATH": os.environ["PATH"], **(variables or {})}
        self.connection.send((self.said, str(place), list(words), environment))
        code = self.connection.recv()
        assert code != -signal.SIGALRM, f"openmlops {words} has not ended after {SECONDS} s"
        return Outcome(tuple(words), code, *(file.read_text("utf-8", "replace") for file in self.said))


@contextmanager
def user(log: Path) -> Iterator[User]:
    """A user, until the block ends; the process writes into `log`."""
    found = User(log)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.join()


def removable(place: Path) -> None:
    """Let pytest remove all that is below `place`."""
    for path, folders, _ in os.walk(os.fsencode(place)):  # from the top: a folder is entered after its mode is changed
        for each in (path, *(os.path.join(path, name) for name in folders)):
            if not os.path.islink(each):
                with suppress(OSError):
                    os.chmod(each, 0o700)


def _serve(connection: Connection) -> None:
    become_any_user()
    for module in _IMPORTED:
        import_module(module)

    while True:
        said, place, words, environment = connection.recv()
        child = os.fork()
        if child == 0:
            _command(said, place, words, environment)
        connection.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _command(said: tuple[Path, Path], place: str, words: list[str], environment: dict[str, str]) -> None:
    code = 99
    try:
        for stream, file in enumerate(said, start=1):
            os.dup2(os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
        signal.alarm(SECONDS)
        os.chdir(place)
        os.environ.clear()
        os.environ.update(environment)
        from openmlops import telemetry
        from openmlops.cli import main

        telemetry.switch_off()
        sys.argv = ["openmlops", *words]
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def become_any_user() -> None:
    """Become a user like any other, for good: programs that are started from here do not get root's capabilities back."""
    if os.getuid() == 0:
        _drop_capabilities()


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version, data = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NOROOT, 0, 0, 0) or libc.capset(version, data):
        raise OSError(ctypes.get_errno(), "the capabilities of root cannot be given up")


OTHER = 12345
"""a user id that nobody has, as `docker --user` and OpenShift give it"""
_AS = ("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups")
_SHOWN = """
mount --make-rprivate / && mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 tmpfs "$3" && mkdir -p "$1" &&
mount --bind "$2" "$1" && shift 3 && exec "$@"
"""


def as_another_user(scratch: Path) -> list[str]:
    """What begins a command of another user, for root; empty if there is no way. `scratch` is an empty folder.

    Where Python lies in a folder that is closed to others, as below /root, the command sees it through one of its own.
    """
    if os.getuid() != 0:
        return []
    python = Path(sys.base_prefix)
    closed = next((place for place in reversed(python.parents) if not place.stat().st_mode & 0o001), None)
    shown = ["unshare", "-m", "sh", "-c", _SHOWN, "sh", str(python), str(scratch), str(closed)] if closed else []
    given = [*shown, *_AS]
    tried = subprocess.run([*given, sys.executable, "-c", "import openmlops"], capture_output=True, cwd="/")
    return given if tried.returncode == 0 else []
