"""Commands in the process of the tests: what they do, print and end with, without the start and the imports of a new one."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from openmlops import cli
from openmlops.settings import Settings
from openmlops.terminal import exit_code


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote to both streams."""

    code: int
    out: str
    err: str


def run(
    words: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str], environment: dict[str, str] | None = None
) -> Ended:
    """`openmlops WORDS` in `folder`, with no settings in the environment but these."""
    before = signal.getsignal(signal.SIGTERM)
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["openmlops", *words])
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        try:
            code = exit_code(cli._run)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
    return Ended(code, *capsys.readouterr())
