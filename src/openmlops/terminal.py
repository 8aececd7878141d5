"""How a command ends and how it shows that it is at work. Messages go to standard error; results go to standard output.

Errors of ours are one line. Anything else is a defect: its traceback goes to a file, its one line says where.
"""

import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from openmlops.errors import OpenMLOpsError, hide_passwords, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from openmlops.core.quality import EpochMetrics


@cache
def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def exit_code(command: Callable[[], Any]) -> int:
    """Run `command`; 0 if it ends well, 1 after one line on standard error if not, 130 after Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except OpenMLOpsError as error:
        fail(str(error))
        return 1
    except KeyboardInterrupt:
        fail("Interrupted. What was finished is kept; run the same command to go on.")
        return 130
    except Exception as error:  # noqa: BLE001 (the last line before the user: a defect becomes one line and a file)
        what = f"{type(error).__name__}: {error}"[:300]
        fail(f"{what}. This is a defect of openmlops; the details are in {_crash_file()}.")
        return 1
    return 0


def fail(message: str) -> None:
    """One line on standard error."""
    from rich.text import Text

    _stderr().print(Text.assemble(("error:", "bold red"), " ", one_line(message)))


def say(message: str) -> None:
    """One line for a person, on standard error, so that standard output holds results only."""
    _stderr().print(message)


@contextmanager
def bar(description: str) -> Iterator[Callable[[float, float, str], None]]:
    """Yield `show(done, total, text)`: a progress bar in a terminal; elsewhere nothing (callers say plain lines)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, console=_stderr(), transient=True, disable=not _stderr().is_terminal) as progress:
        task = progress.add_task(description, total=None, text="")
        yield lambda done, total, text: progress.update(task, completed=done, total=total, text=text)


@contextmanager
def working(text: str) -> Iterator[None]:
    """In a terminal, say what is being done until it is; elsewhere nothing."""
    if not _stderr().is_terminal:
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_stderr(), transient=True) as progress:
        progress.add_task(text, total=None)
        yield


def chapter(title: str) -> None:
    """A heading among the lines for a person."""
    _stderr().print(f"\n[bold cyan]{title}[/]" if _stderr().is_terminal else title)


class TrainingProgress:
    """Shows a training: a bar with loss, accuracy and time left in a terminal, one plain line an epoch elsewhere."""

    def __init__(self, show: Callable[[float, float, str], None]) -> None:
        self._show = show

    def step(self, progress: Any) -> None:
        """After each batch; `progress` is a `learning.loop.Progress`."""
        accuracy = "" if progress.accuracy is None else f"  accuracy {progress.accuracy:.3f}"
        text = f"loss {progress.loss:.3f}{accuracy}  {progress.seconds_left:.0f} s left"
        self._show(progress.step, progress.total, text)

    def epoch(self, metrics: "EpochMetrics") -> None:
        """After each epoch."""
        say(metrics.line())


@contextmanager
def training_progress() -> Iterator[TrainingProgress]:
    """A `TrainingProgress` on standard error, taken away when the training ends."""
    with bar("Training") as show:
        yield TrainingProgress(show)


def _crash_file() -> str:
    with tempfile.NamedTemporaryFile("w", prefix="openmlops-crash-", suffix=".txt", delete=False) as file:
        file.write(hide_passwords(traceback.format_exc()))
    return file.name
