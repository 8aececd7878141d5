"""Claims about the memory of a process."""

import sys
from pathlib import Path

import numpy as np
import pytest

from openmlops.memory import give_back


def _own_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory by /proc and glibc")
def test_freed_memory_below_a_living_value_goes_back_to_the_system() -> None:
    pieces = [np.ones(60_000, np.uint8) for _ in range(2000)]
    living = pieces[::500]
    del pieces
    before = _own_bytes()
    give_back()
    assert before - _own_bytes() > 80_000_000
    assert len(living) == 4
