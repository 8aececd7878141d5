"""Row indices of the train, validation and test splits of a data version, in a content-addressed file."""

import hashlib
import zipfile

import numpy as np

from openmlops.core.types import DatasetRef, SplitsRef
from openmlops.errors import DataCorrupt
from openmlops.files import replacing
from openmlops.operations.data.rows import rows_of
from openmlops.operations.workspace import Workspace

SPLITS = ("train", "validation", "test")


def split(workspace: Workspace, ref: DatasetRef, seed: int) -> SplitsRef:
    """Split the version's rows with `seed` and write the row indices to OPENMLOPS_HOME/splits/<fingerprint>.npz."""
    rows = rows_of(workspace, ref)
    indices = workspace.use_case.split(rows, seed)
    fingerprint = _fingerprint(ref, indices)
    path = workspace.home / "splits" / f"{fingerprint}.npz"
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, **indices)  # type: ignore[arg-type]
    sizes = {name: len(indices[name]) for name in SPLITS}
    dropped = len(rows.labels) - sum(sizes.values())
    return SplitsRef(dataset=ref, path=str(path), fingerprint=fingerprint, seed=seed, dropped=dropped, **sizes)


def indices_of(ref: SplitsRef) -> dict[str, np.ndarray]:
    """Row indices, int64 (n,), by split name. Raises DataCorrupt if the file does not match the reference."""
    remedy = "Split the data set again"
    try:
        with np.load(ref.path, allow_pickle=False) as stored:
            indices = {name: stored[name] for name in SPLITS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataCorrupt(f"The splits in {ref.path} cannot be read ({type(error).__name__})", remedy) from error
    if _fingerprint(ref.dataset, indices) != ref.fingerprint:
        raise DataCorrupt(f"The splits in {ref.path} do not have the fingerprint {ref.fingerprint[:12]}", remedy)
    return indices


def _fingerprint(ref: DatasetRef, indices: dict[str, np.ndarray]) -> str:
    """SHA-256 of the data set's fingerprint and the three index arrays."""
    digest = hashlib.sha256(ref.fingerprint.encode())
    for name in SPLITS:
        digest.update(f"{name}:{len(indices[name])}:".encode())
        digest.update(indices[name].astype("<i8").tobytes())
    return digest.hexdigest()
