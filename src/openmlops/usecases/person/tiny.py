"""A data set of a few real photographs: the images of COCO128 with people, split, with the class `person` only.

COCO128 is the first 128 images of COCO train2017 in YOLO's layout. Nothing is downloaded; the folder must exist. What is not
here: generated scenes (sample.py).
"""

from pathlib import Path

from openmlops.core.images.decoding import is_image
from openmlops.errors import DataError
from openmlops.files import copy_file, place_bytes, replacing_folder
from openmlops.usecases.drawing import Draw
from openmlops.usecases.yolo_folder.config import CONFIG
from openmlops.usecases.yolo_folder.layout import SPLITS, data_yaml

PERSON = "0"
"""The class `person` in COCO's label files."""
_IMAGES, _LABELS = "images/train2017", "labels/train2017"


def tiny_person(coco128: Path, out: Path, train: int = 40, validation: int = 10, test: int = 10, seed: int = 0) -> Path:
    """Write a data set with these numbers of images with people into `out`, replacing it, and return the folder.

    `coco128` is the folder with images/train2017 and labels/train2017, or its parent. The same seed always selects the same
    images. Image files are copied byte for byte. Raises DataError for any other folder, and if it has too few images.
    """
    source = _source(coco128)
    people = _with_people(source)
    counts = (train, validation, test)
    if min(counts) < 1 or sum(counts) > len(people):
        problem = f"{' + '.join(map(str, counts))} images were requested; {source} has {len(people)} with people"
        raise DataError(problem, "Request at least one image per split, and no more than available")
    drawn = iter(Draw(seed).permutation(len(people)))
    with replacing_folder(out) as folder:
        for split, count in zip(SPLITS, counts, strict=True):
            _write(folder, split, [people[next(drawn)] for _ in range(count)])
        place_bytes(folder / CONFIG, data_yaml(("person",)).encode())
    return out


def _source(folder: Path) -> Path:
    """The folder with COCO128's structure: this one, or the one inside it."""
    for candidate in (folder, folder / "coco128"):
        if (candidate / _IMAGES).is_dir() and (candidate / _LABELS).is_dir():
            return candidate
    remedy = "Pass the folder coco128 of the unpacked archive, or its parent folder"
    raise DataError(f"{folder} is not COCO128: it has no {_IMAGES} with {_LABELS}", remedy)


def _with_people(source: Path) -> list[tuple[Path, str]]:
    """Every image with people and the label lines of those, by file name."""
    found = []
    for image in sorted((source / _IMAGES).iterdir(), key=lambda path: path.name):
        label = source / _LABELS / f"{image.stem}.txt"
        if is_image(image) and label.is_file():
            lines = [line for line in label.read_text().splitlines() if line.split()[:1] == [PERSON]]
            if lines:
                found.append((image, "".join(f"{line}\n" for line in lines)))
    return found


def _write(folder: Path, split: str, chosen: list[tuple[Path, str]]) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for image, text in chosen:
        copy_file(image, images / image.name)
        place_bytes(labels / f"{image.stem}.txt", text.encode())
