"""Memory of this process. What is not here: how much of it data may take (DATA_MEMORY in settings.py)."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Give the memory that was freed back to the system. glibc keeps what lies below a value that lives; elsewhere this does
    nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
