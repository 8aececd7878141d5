"""Import of images and label files in YOLO's layouts, as various tools write them, into the layout of folder.py.

    data.yaml (any one .yaml)   names; path, train, val, test: folders of images, also above or beside the file
    images/a.jpg                labels/a.txt          no splits: they are drawn
    images/train/a.jpg          labels/train/a.txt    splits that are there stay
    train/images/a.jpg          train/labels/a.txt    the same, as some tools write it

What is not here: validation of the imported images and labels (data.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmlops.core.images.decoding import is_image
from openmlops.core.types import Problem
from openmlops.core.validation import fewer, problem
from openmlops.errors import DataError
from openmlops.files import sha256_of, storable_name, write_bytes, write_text
from openmlops.usecases.arranging import SPLITS, Arranged, drawn, entries, put, split_name
from openmlops.usecases.yolo_folder import config
from openmlops.usecases.yolo_folder.config import CONFIG
from openmlops.usecases.yolo_folder.layout import data_yaml

FEWEST = 10
"""fewest images: two for test, two for validation, six for training"""
NO_LABELS = ("classes.txt", "README.txt", "notes.txt")


@dataclass(frozen=True)
class _Image:
    source: Path
    label: Path
    split: str | None


def arrange(folder: Path, out: Path) -> Arranged:
    """Write the images of `folder` with their labels and a data.yaml into `out`, unless a problem is blocking.

    Bad data is returned as problems and never raises.
    """
    content, chosen, problems = _config(folder)
    names, wrong = ((), []) if problems else _names(folder, content, chosen)
    problems += wrong
    places, wrong = _places(folder, content)
    problems += wrong
    images = [_Image(path, _label(path), split) for place, split in places for path in entries(place) if is_image(path)]
    problems += fewer(_orphans(folder, places, images))
    if not problems and len(images) < FEWEST:
        why = f"at least {FEWEST} are required: two for test, two for validation, six for training"
        problems.append(problem(f"there are {len(images)} images with labels; {why}", str(folder)))
    if problems:
        return Arranged(names, {}, tuple(problems))
    return _written(images, names, out)


def _config(folder: Path) -> tuple[dict[str, Any], Path, list[Problem]]:
    """The content and path of the folder's .yaml file; empty if there is none."""
    found = [path for path in entries(folder) if path.suffix.lower() in (".yaml", ".yml")]
    chosen = folder / CONFIG if folder / CONFIG in found else found[0] if len(found) == 1 else None
    if chosen is None:
        several = [problem(f"there are {len(found)} .yaml files; rename the right one to {CONFIG}", str(folder))]
        return {}, folder, several if found else []
    content, wrong = config.read(chosen)
    return content, chosen, [problem(wrong, str(chosen))] if wrong else []


def _names(folder: Path, content: dict[str, Any], chosen: Path) -> tuple[tuple[str, ...], list[Problem]]:
    """Class names from the .yaml file `chosen`, or from a file of one name per line."""
    if config.value(content, "names") is not None and not isinstance(content["names"], str):
        names, wrong = config.class_names(content)
        return names, [problem(wrong, str(chosen))] if wrong else []
    for path in _name_files(folder, content):
        text, wrong = config.read_text(path)
        names, wrong = ((), wrong) if wrong else config.listed_names(text)
        if wrong:
            return (), [problem(wrong, str(path))]
        wrong = config.wrong_count(content, names)
        return names, [problem(wrong, str(chosen))] if wrong else []
    what = "there are no class names; write them as names into data.yaml, or one per line into classes.txt"
    return (), [problem(what, str(folder))]


def _name_files(folder: Path, content: dict[str, Any]) -> list[Path]:
    """The files of class names that are there, the likeliest first."""
    named = [folder / content["names"]] if isinstance(content.get("names"), str) else []
    return [path for path in (*named, folder / "classes.txt", folder / "labels" / "classes.txt") if path.is_file()]


def _places(folder: Path, content: dict[str, Any]) -> tuple[list[tuple[Path, str | None]], list[Problem]]:
    """Image folders, each with its split if it has one."""
    if named := {split: found for split in SPLITS if (found := config.value(content, split))}:
        return _named_places(folder, str(config.value(content, "path") or "."), named)
    below = [path for path in entries(folder) if path.is_dir()]
    outside = [
        (path / "images", split_name(path.name)) for path in below if (path / "images").is_dir() and split_name(path.name)
    ]
    if outside:
        return outside, []
    images = folder / "images"
    inside = [(path, split_name(path.name)) for path in entries(images) if path.is_dir()] if images.is_dir() else []
    if unknown := [path for path, split in inside if split is None]:
        return [], [problem("the folder is not one of train, val and test; rename it", str(path)) for path in unknown]
    if inside or images.is_dir():
        return _all_in_train(inside or [(images, None)]), []
    return [], [problem("there is no folder images next to a folder labels; create them", str(folder))]


def _all_in_train(places: list[tuple[Path, str | None]]) -> list[tuple[Path, str | None]]:
    """A single split counts as none."""
    return places if len(places) > 1 else [(place, None) for place, _ in places]


def _named_places(folder: Path, root: str, named: dict[str, Any]) -> tuple[list[tuple[Path, str | None]], list[Problem]]:
    places: dict[Path, str | None] = {}
    problems = []
    for split, texts in named.items():
        for text in texts if isinstance(texts, list) else [texts]:
            place = _resolved(folder, root, str(text))
            if place is None:
                what = f"{split} names {text}, which is not a folder of images here; correct it"
                problems.append(problem(what, str(folder)))
            else:
                places.setdefault(place, split)  # some files name one folder as train and val
    return _all_in_train(list(places.items())), problems


def _resolved(folder: Path, root: str, text: str) -> Path | None:
    """Resolve a folder of data.yaml, which tools write relative to the file, to `path`, or to a folder of their own."""
    inside = text.removeprefix("../").removeprefix("./")
    for candidate in (folder / root / text, folder / text, folder / inside, folder / Path(root).name / text):
        if candidate.is_dir():
            return candidate.resolve()
    return None


def _label(image: Path) -> Path:
    """images/train/a.jpg -> labels/train/a.txt"""
    parts = image.with_suffix(".txt").parts
    if "images" not in parts[:-1]:
        return image.with_suffix(".txt")
    last = max(index for index, part in enumerate(parts[:-1]) if part == "images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _orphans(folder: Path, places: Iterable[tuple[Path, str | None]], images: list[_Image]) -> list[Problem]:
    """Problems for label files without an image, and for a folder without any labels."""
    known = {image.label for image in images}
    labels = {_label(place / "x.jpg").parent for place, _ in places}
    files = [path for place in sorted(labels) if place.is_dir() for path in entries(place) if path.suffix == ".txt"]
    found = [path for path in files if path not in known and path.name not in NO_LABELS]
    problems = [problem("the label file has no image; add the image or delete the file", str(path)) for path in found]
    if images and not any(image.label.is_file() for image in images):
        what = f"no image has a label file (the first would be {images[0].label}); put them into labels"
        problems.append(problem(what, str(folder)))
    return problems


def _written(images: list[_Image], names: tuple[str, ...], out: Path) -> Arranged:
    sources: dict[str, Path] = {}
    problems = []
    for image, split in _split(images):
        where = f"{split}/{storable_name(image.source.stem)}"
        if f"labels/{where}.txt" in sources:
            problems.append(problem("another image has the same name; rename one of them", str(image.source)))
            continue
        try:
            sources[put(image.source, out, f"images/{where}")] = image.source
            sources[f"labels/{where}.txt"] = image.label
            write_bytes(out / f"labels/{where}.txt", image.label.read_bytes() if image.label.is_file() else b"")
        except OSError as error:
            problems.append(problem(f"the file cannot be read ({error.strerror}); restore it", str(image.source)))
        except DataError as error:
            problems.append(problem(f"{error.problem}; replace or remove the file", str(image.source)))
    write_text(out / CONFIG, data_yaml(names))
    return Arranged(names, sources, tuple(fewer(problems)))


def _split(images: list[_Image]) -> list[tuple[_Image, str]]:
    """Assign a split to each: missing splits are drawn from the training images."""
    given = {image.split for image in images if image.split}
    open_ = [image for image in images if image.split in (None, "train")]
    splits = drawn([sha256_of(image.source) for image in open_], given, len(open_))
    return list(zip(open_, splits, strict=True)) + [
        (image, image.split) for image in images if image.split not in (None, "train")
    ]
