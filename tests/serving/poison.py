"""A use case whose decoder does what the last bytes of a file say, as a defect of a decoder would."""

import os
import time
from dataclasses import replace
from pathlib import Path

from openmlops.usecases import cifar10

ABORT, RAISE, SLEEP = b"abort", b"raise", b"sleep"
MOST_SECONDS = 300
"""how long a decoder sleeps that nobody wakes"""


def sleeping(until: Path) -> bytes:
    """What makes a decoder sleep until there is a file `until`."""
    return b"\0" + os.fsencode(until) + SLEEP


def _sleep(until: Path) -> None:
    ends = time.monotonic() + MOST_SECONDS
    while not until.exists() and time.monotonic() < ends:
        time.sleep(0.05)


def decode(content):
    if content.endswith(ABORT):
        os.abort()
    if content.endswith(RAISE):
        raise RuntimeError("a defect of the decoder")
    if content.endswith(SLEEP):
        _sleep(Path(os.fsdecode(content.removesuffix(SLEEP).rpartition(b"\0")[2])))
    return cifar10.USE_CASE.decode(content)


USE_CASE = replace(cifar10.USE_CASE, decode=decode)
