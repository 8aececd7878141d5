"""A use case whose decoder does what the last bytes of a file say, as a defect of a decoder would."""

import os
import time
from dataclasses import replace

from openmlops.usecases import cifar10

ABORT, RAISE, SLEEP = b"abort", b"raise", b"sleep"
SECONDS = 8.0
"""how long a decoder sleeps"""


def decode(content):
    if content.endswith(ABORT):
        os.abort()
    if content.endswith(RAISE):
        raise RuntimeError("a defect of the decoder")
    if content.endswith(SLEEP):
        time.sleep(SECONDS)
    return cifar10.USE_CASE.decode(content)


USE_CASE = replace(cifar10.USE_CASE, decode=decode)
