"""Writing the YOLO layout: `data.yaml`, and one PNG and one label file per image.

Label files have one `class cx cy w h` per line, relative to the stored image's width and height. What is not here: reading and
checking the layout (data.py, folder.py).
"""

from collections.abc import Sequence

import numpy as np
import yaml

SPLITS = ("train", "val", "test")


def data_yaml(names: Sequence[str], splits: Sequence[str] = SPLITS) -> str:
    """The `data.yaml` of a folder with images/SPLIT and labels/SPLIT for these splits."""
    content: dict[str, object] = {split: f"images/{split}" for split in splits}
    return yaml.safe_dump(content | {"names": dict(enumerate(names))}, sort_keys=False, allow_unicode=True)


def label_text(labels: np.ndarray, size: tuple[int, int]) -> str:
    """Labels (m, 5), x1, y1, x2, y2 in pixels and class, of an image of `size` (height, width) -> text of the label file."""
    height, width = size
    lines = []
    for x1, y1, x2, y2, label in labels.astype(np.float64):
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(int(label)), *(f"{share:.8f}" for share in shares)]) + "\n")
    return "".join(lines)
