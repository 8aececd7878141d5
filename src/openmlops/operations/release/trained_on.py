"""Which images a version was trained on, by their content, sealed into it: none is compared on images that another has seen.

Here: the file of a version, and the rows of a data version that several versions have not seen. Not here: comparing (`gate`).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from openmlops.core.types import ModelRef
from openmlops.errors import DataError, ModelCorrupt, ModelNotFound
from openmlops.files import replacing
from openmlops.images.lazy import Images, digests
from openmlops.operations.workspace import Workspace

FILE = "trained_on.npy"
BYTES = 16
"""of the SHA-256 of an image's content"""


def write(folder: Path, images: Images, rows: np.ndarray) -> None:
    """Write which images a version has seen in training or validation: those of these rows (m,)."""
    found = sorted({digest[:BYTES] for digest in digests(images[rows])})
    with replacing(folder / FILE) as beside, beside.open("wb") as file:
        np.save(file, np.frombuffer(b"".join(found), np.uint8).reshape(-1, BYTES), allow_pickle=False)


def read(folder: Path) -> frozenset[bytes]:
    """What a version has seen; empty for a version of an earlier release. Raises DataError for a file that is none."""
    if not (folder / FILE).is_file():
        return frozenset()
    try:
        found = np.load(folder / FILE, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / FILE} cannot be read", "Restore the version, or train again") from error
    return frozenset(row.tobytes() for row in found.astype(np.uint8))


def seen_by(workspace: Workspace, versions: Iterable[ModelRef]) -> frozenset[bytes]:
    """What any of these versions has seen; those whose files are gone or damaged have no say."""
    seen: set[bytes] = set()
    for version in versions:
        try:
            seen |= read(workspace.registry.fetch(version))
        except (ModelNotFound, ModelCorrupt):
            continue
    return frozenset(seen)


def unseen(images: Images, rows: np.ndarray, seen: frozenset[bytes]) -> np.ndarray:
    """Those of the rows (n,) whose image is not among `seen`."""
    if not seen:
        return rows
    return rows[np.array([digest[:BYTES] not in seen for digest in digests(images[rows])], bool)]
