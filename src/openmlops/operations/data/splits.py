"""Row indices of the train, validation and test splits of a data version, in a file that is named by its SHA-256.

The file is the data version's fingerprint, then for each split its name, the number of its rows and these as 64-bit integers.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from openmlops.core.types import DatasetRef, SplitsRef
from openmlops.errors import DataCorrupt
from openmlops.files import write_bytes
from openmlops.operations.data.rows import rows_of
from openmlops.operations.workspace import Workspace

SPLITS = ("train", "validation", "test")
_HEADER = re.compile(rb"(train|validation|test):([0-9]{1,18}):")


def split(workspace: Workspace, ref: DatasetRef, seed: int) -> SplitsRef:
    """Split the version's rows with `seed`; the row indices are kept for the steps that follow."""
    rows = rows_of(workspace, ref)
    indices = workspace.use_case.split(rows, seed)
    content = _packed(ref, indices)
    fingerprint = hashlib.sha256(content).hexdigest()
    workspace.contents.keep("splits", write_bytes(_place(workspace, fingerprint), content))
    sizes = {name: len(indices[name]) for name in SPLITS}
    dropped = len(rows.labels) - sum(sizes.values())
    return SplitsRef(dataset=ref, fingerprint=fingerprint, seed=seed, dropped=dropped, **sizes)


def indices_of(workspace: Workspace, ref: SplitsRef) -> dict[str, np.ndarray]:
    """Row indices, int64 (n,), by split name. Raises DataError if they are neither here nor in the object store."""
    content = workspace.contents.local(ref.content, _place(workspace, ref.fingerprint)).read_bytes()
    return _unpacked(content, len(ref.dataset.fingerprint))


def _place(workspace: Workspace, fingerprint: str) -> Path:
    return workspace.home / "splits" / fingerprint


def _packed(ref: DatasetRef, indices: dict[str, np.ndarray]) -> bytes:
    parts = [ref.fingerprint.encode()]
    for name in SPLITS:
        parts += [f"{name}:{len(indices[name])}:".encode(), indices[name].astype("<i8").tobytes()]
    return b"".join(parts)


def _unpacked(content: bytes, place: int) -> dict[str, np.ndarray]:
    """The row indices in what `_packed` made, from `place` on."""
    indices = {}
    for name in SPLITS:
        header = _HEADER.match(content, place)
        if header is None or header[1].decode() != name:
            raise DataCorrupt(f"There are no row indices of the {name} split where they should be", "Split the data set again")
        rows = int(header[2])
        indices[name] = np.frombuffer(content, "<i8", rows, header.end()).astype(np.int64)
        place = header.end() + 8 * rows
    return indices
