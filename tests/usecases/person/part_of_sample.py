"""A part of the drawn sample as a data set of its own."""

import shutil
from pathlib import Path


def part_of(sample: Path, out: Path, counts: dict[str, int], start: int = 0) -> Path:
    """So many images of each split of the sample, from the image `start` on."""
    for split, count in counts.items():
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            (out / kind / split).mkdir(parents=True)
            for number in range(start, start + count):
                name = f"{kind}/{split}/{number:05d}.{suffix}"
                shutil.copyfile(sample / name, out / name)
    shutil.copyfile(sample / "data.yaml", out / "data.yaml")
    return out
