"""Feature frames: named columns with one number per image, and checks that a frame is usable.

A frame is a mapping from column name (`image.brightness`, `logprob.3`, `embedding.07`) to a numeric array (n,). Defects are
returned in words, never raised. What is not here: the drift test (drift.py).
"""

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

Frame = Mapping[str, np.ndarray]

KEY_STEP = 1e-3
"""Rounding step of standardised values in row keys, which hides float noise between batch sizes."""


def defects(frame: object) -> tuple[str, ...]:
    """Why `frame` is not usable, one phrase each; empty if it is."""
    if not isinstance(frame, Mapping):
        return (f"a {type(frame).__name__} is not a mapping of columns",)
    if not frame:
        return ("it has no columns",)
    found = [text for name, column in frame.items() if (text := _column_defect(name, column))]
    if found:
        return tuple(found)
    lengths = {len(column) for column in frame.values()}
    if len(lengths) > 1:
        return (f"its columns have different lengths, {min(lengths)} to {max(lengths)}",)
    return ("it has no rows",) if lengths == {0} else ()


def _column_defect(name: object, column: object) -> str:
    if not isinstance(name, str):
        return f"the column name {name!r} is a {type(name).__name__}, not a text"
    if not isinstance(column, np.ndarray):
        return f"{name} is a {type(column).__name__}, not an array"
    if column.ndim != 1:
        return f"{name} has the shape {column.shape}, not (n,)"
    if column.dtype.kind not in "fiu":
        return f"{name} has the type {column.dtype}, not a number"
    bad = int((~np.isfinite(_float32(column))).sum())
    return f"{name} has {bad} of {len(column)} values that are NaN, infinite or beyond float32" if bad else ""


def _float32(column: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return column.astype(np.float32)


def matrix(frame: Frame, names: tuple[str, ...]) -> np.ndarray:
    """The named columns side by side: float64 (n, len(names)), each value rounded to float32 first."""
    return np.stack([_float32(frame[name]) for name in names], axis=1).astype(np.float64)


def row_keys(standardised: np.ndarray) -> np.ndarray:
    """uint64 (n,), one key per row of standardised values (n, d): equal for rows that are equal up to `KEY_STEP`."""
    steps = np.round(np.clip(standardised / KEY_STEP, -1e15, 1e15)).astype(np.int64)
    return np.array([int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest()) for row in steps], dtype=np.uint64)
