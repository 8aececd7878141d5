"""Adds newly labelled images to a CIFAR-10 folder as one more batch file; existing files are copied byte for byte."""

from pathlib import Path

import numpy as np

from openmlops.files import copy_folder, write_bytes
from openmlops.usecases.cifar10 import batches


def extend(folder: Path, images: np.ndarray, labels: np.ndarray, out: Path) -> Path:
    """Copy `folder` to `out` with images uint8 (n, 32, 32, 3) and labels (n,) as its next `data_batch_<number>`."""
    copy_folder(folder, out)
    number = max(int(path.name.rpartition("_")[2]) for path in out.glob("data_batch_*")) + 1
    batch = {
        b"batch_label": f"production images, batch {number}".encode(),
        b"labels": [int(label) for label in labels],
        b"data": np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1),
        b"filenames": [f"production_{number}_{row:05d}.png".encode() for row in range(len(images))],
    }
    write_bytes(out / f"data_batch_{number}", batches.dump(batch))
    return out
