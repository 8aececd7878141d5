"""Exit codes, error messages and progress of commands. Messages go to standard error, results to standard output.

An OpenMLOpsError is printed as one line. Any other exception is a bug: its traceback is written to a file, which the one line
names.
"""

import errno
import json
import locale
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmlops import disk, interruption
from openmlops.errors import OpenMLOpsError, hide_passwords, one_line, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TextColumn

    from openmlops.core.quality import EpochMetrics

_results: list[None] = []
"""results that the command has printed as JSON"""
_PERMISSION = "Give yourself the permission to read and write it, or use another place"
_SPACE = "Free some space, or use another disk"
_IN_THE_WAY = "Move it away, or use another place"
_REMEDIES = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: "Use a place that can be written to",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ELOOP: "Correct or remove the link",
    errno.ENAMETOOLONG: "Use a shorter name",
}
"""what to do about a path that the system refuses"""


@cache
def stderr() -> "Console":
    """Standard error, as rich writes to it: a text is printed as it is, because it may hold a user's names."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def is_utf8() -> bool:
    """Whether paths and texts are UTF-8 in this process: by Python's UTF-8 mode, or by the locale."""
    return bool(sys.flags.utf8_mode) or locale.getencoding().lower() in ("utf-8", "utf8")


def exit_code(command: Callable[[], Any], as_json: bool = False) -> int:
    """Run `command` and return 0, 1 after an error (one line on standard error, and with `as_json` an object on standard
    output), or 130 after Ctrl-C or SIGTERM."""
    interruption.begin()
    _results.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what its encoding lacks is escaped: no result is cut off
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except OpenMLOpsError as error:
        if interruption.happened():
            interruption.say()
            return interruption.CODE
        fail(str(error))
        if as_json:
            print_error(error.problem, error.remedy, 1)
        return 1
    except KeyboardInterrupt:
        interruption.say()
        return interruption.CODE
    except Exception as error:  # noqa: BLE001 (the outermost handler: a bug becomes one line and a file)
        if interruption.happened():
            interruption.say()
            return interruption.CODE
        if refused := _refused_by_system(error):
            fail(str(refused))
            if as_json:
                print_error(refused.problem, refused.remedy, 1)
            return 1
        what = f"{type(error).__name__}: {error}"[:300]
        fail(f"{what}. This is a bug in openmlops; {_details()}.")
        if as_json:
            print_error(what, "", 1)
        return 1
    return 0


def _refused_by_system(error: Exception) -> OpenMLOpsError | None:
    """What a file, a folder or a disk of the user's refuses, in our words; None for any other error, which is a bug."""
    if full := disk.refusal(error):
        return full
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return _told_as_full(error) if disk.is_full(error) else None
    if error.filename is None:  # writing to a file that is open names none
        told = f"A file cannot be written ({error.strerror})"
        return OpenMLOpsError(told, _SPACE) if _REMEDIES[error.errno] == _SPACE else None
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return OpenMLOpsError(f"{path} cannot be used ({error.strerror})", _REMEDIES[error.errno])


def log_to_standard_error(level: int) -> None:
    """Log from `level` on, a line each: the time with its zone, the level, the logger, the message."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")


def _told_as_full(error: Exception) -> OpenMLOpsError:
    """Of a full disk that a library does not name: the one of the current or the temporary folder, whichever has less room."""
    places = min((Path.cwd(), Path(tempfile.gettempdir())), key=disk.free_bytes)
    said = disk.words(error)
    return OpenMLOpsError(f"A disk is full ({said}); {disk.free_bytes(places):,} bytes are free for {places}", disk.AGAIN)


def note_result() -> None:
    """Note that the command has printed its result as JSON: an error that follows is no second object there."""
    _results.append(None)


def print_error(problem: str, remedy: str, code: int) -> None:
    """Print an error as a JSON object on standard output, for programs that read the result of a command there; nothing if it
    has printed a result."""
    if _results:
        return
    content = {"problem": hide_passwords(one_line(problem)), "remedy": one_line(remedy), "exit_code": code}
    print(json.dumps({"error": content}, indent=2))


def fail(message: str) -> None:
    """Print an error as one line on standard error."""
    from rich.text import Text

    stderr().print(Text.assemble(("error:", "bold red"), " ", one_line(message)))


def say(*parts: str | tuple[str, str]) -> None:
    """Print a message on standard error, for standard output is for results only. (text, style): a part with a style."""
    from rich.text import Text

    texts = (printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    stderr().print(Text.assemble(*texts))


@contextmanager
def bar(description: str) -> Iterator[Callable[[float, float, str], None]]:
    """Yield `show(done, total, text)`, which updates a progress bar in a terminal and does nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    columns = (_column("{task.description}"), BarColumn(), _column("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=not stderr().is_terminal) as progress:
        task = progress.add_task(description, total=None, text="")
        yield lambda done, total, text: progress.update(task, completed=done, total=total, text=text)


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `show(done, total)`, a `bar` that counts."""
    with bar(description) as show:
        yield lambda done, total: show(done, total, f"{done:,} of {total:,}")


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show a status line in a terminal while the block runs; does nothing elsewhere."""
    if not stderr().is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), _column("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr(), transient=True) as progress:
        progress.add_task(text, total=None)
        yield


def _column(template: str) -> "TextColumn":
    """A column of a progress bar with this text as it is."""
    from rich.progress import TextColumn

    return TextColumn(template, markup=False)


def chapter(title: str) -> None:
    """Print a heading on standard error."""
    say(*(("\n", (title, "bold cyan")) if stderr().is_terminal else (title,)))


class TrainingProgress:
    """Training progress: a bar with loss, accuracy and remaining time in a terminal, one line per epoch elsewhere."""

    def __init__(self, show: Callable[[float, float, str], None]) -> None:
        self._show = show

    def step(self, progress: Any) -> None:
        """After each batch; `progress` is a `learning.loop.Progress`."""
        loss = "images" if progress.loss is None else f"loss {progress.loss:.3f}"
        accuracy = "" if progress.accuracy is None else f"  accuracy {progress.accuracy:.3f}"
        text = f"{loss}{accuracy}  {progress.seconds_left:.0f} s left"
        self._show(progress.step, progress.total, text)

    def epoch(self, metrics: "EpochMetrics") -> None:
        """After each epoch."""
        say(metrics.line())


@contextmanager
def training_progress() -> Iterator[TrainingProgress]:
    """Yield a `TrainingProgress` on standard error, which is cleared when the training ends."""
    with bar("Training") as show:
        yield TrainingProgress(show)


def _details() -> str:
    try:
        return f"details are in {_crash_file()}"
    except OSError as error:
        return f"details could not be written ({error.strerror})"


def _crash_file() -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="openmlops-crash-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(hide_passwords(traceback.format_exc()))
    return file.name
