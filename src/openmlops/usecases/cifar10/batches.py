"""One CIFAR-10 batch file: a Python 2 pickle, read without running code from it, and written like the official ones.

A pickle can run arbitrary code. This reader builds only dictionaries, lists, numbers, byte strings and an inert stand-in for a
numpy array: the names in the official files are bound to stand-ins, every other name is rejected. The pure Python unpickler is
used because the C one allocates any memo size that the file declares. What is not here: the required content of the batches
(data.py).
Claim: 25 ms for a batch of 10,000 images; pickle.load takes as long.
"""

import io
import math
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.errors import DataError
from openmlops.files import content_of

MAX_BYTES = 256 * 2**20
"""Largest batch file that is read: eight times the size of the official ones."""

_NUMBERS = re.compile(r"[<>|=]?([uif][1248]|b1)")
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
    AssertionError,
    ImportError,
    NotImplementedError,
)
"""Exceptions that the unpickler raises for truncated, corrupt or malicious files."""


def load(path: Path) -> dict[bytes, Any]:
    """Read a batch: keys are byte strings, arrays of numbers numpy arrays. Raises DataError that names the problem."""
    remedy = "Restore the official file, or write one with the same keys and types"
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path.name} has {size} bytes, more than {MAX_BYTES}", remedy)
        values = _Unpickler(content_of(path)).load()
        if type(values) is not dict:
            raise DataError(f"{path.name} holds a {type(values).__name__}, not a dictionary", remedy)
        return {key: value.array() if isinstance(value, _Array) else value for key, value in values.items()}
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror})", remedy) from error
    except _UNREADABLE as error:
        raise DataError(f"{path.name} cannot be read ({_short(error)})", remedy) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Array:
    """Stand-in for a numpy array: stores the state from the pickle without interpreting it."""

    state: tuple = ()

    def array(self) -> np.ndarray:
        """The array. Raises ValueError for object arrays and for an inconsistent state."""
        _version, shape, dtype, fortran, raw = self.state
        spec = dtype.spec.decode("ascii") if isinstance(dtype.spec, bytes) else str(dtype.spec)
        if not _NUMBERS.fullmatch(spec) or not isinstance(raw, bytes):
            raise ValueError(f"it holds an array of '{spec[:20]}', not of numbers")
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError("its array has no shape")
        if math.prod(shape) * np.dtype(spec).itemsize != len(raw):
            raise ValueError(f"its array of shape {shape} has {len(raw)} bytes")
        return np.frombuffer(raw, spec).reshape(shape, order="F" if fortran else "C")


def _stand_ins() -> dict[tuple[str, str], Any]:
    """New objects for each file, because a pickle may set attributes on them."""

    class Array(_Array):
        def __setstate__(self, state: tuple) -> None:
            self.state = state

    class DType:
        def __init__(self, spec: object, align: object = None, copy: object = None) -> None:
            self.spec = spec

        def __setstate__(self, state: tuple) -> None:
            """Byte order and alignment, which are irrelevant for bytes."""

    class NDArray:
        """Only the name matters; it is an argument of `reconstruct`."""

    def reconstruct(subtype: object, shape: object, typecode: object) -> Array:
        return Array()

    return {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): NDArray,
        ("numpy", "dtype"): DType,
    }


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._names = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it references {module}.{name}, which a CIFAR-10 batch never does") from None

    def get_extension(self, code: int) -> None:
        """Reject extension codes, which bypass `find_class` once cached in the process."""
        raise pickle.UnpicklingError(f"it references extension-{code}, which a CIFAR-10 batch never does")


def dump(values: dict[bytes, Any]) -> bytes:
    """Pickle a batch as Python 2 did the official ones: protocol 2, byte strings, numpy by its old name.

    Equal values give equal bytes under every version of Python and numpy. Values: bytes, ints from 0 to 2**31 - 1, lists of
    these, and uint8 arrays.
    """
    return pickle.PROTO + b"\x02" + b"}(" + b"".join(_item(key) + _item(value) for key, value in values.items()) + b"u."


def _item(value: Any) -> bytes:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, int):
        return pickle.BININT + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_item, value)) + b"e"
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return _array(value)
    raise TypeError(f"a batch must not contain a {type(value).__name__}")


def _text(value: bytes) -> bytes:
    if len(value) < 256:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value
    return pickle.BINSTRING + struct.pack("<i", len(value)) + value


def _array(value: np.ndarray) -> bytes:
    """_reconstruct(ndarray, (0,), 'b') with the state (1, shape, dtype('u1', False, True) in its own state, False, bytes)."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + _item(0) + b"t" + _text(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + _text(b"u1") + _item(0) + _item(1) + b"tR(" + _item(3) + _text(b"|")
    dtype += b"NNN" + pickle.BININT + struct.pack("<i", -1) + pickle.BININT + struct.pack("<i", -1) + _item(0) + b"tb"
    shape = b"(" + b"".join(_item(int(length)) for length in value.shape) + b"t"
    return empty + b"(" + _item(1) + shape + dtype + _item(0) + _text(value.tobytes()) + b"tb"
