"""The images, labels and class names of a folder in YOLO's format, as label tools write it.

    data.yaml (any one .yaml)   names; path, train, val, test: folders of images or lists of them, also above or beside the file
    images/a.jpg                labels/a.txt          no splits (Label Studio)
    images/train/a.jpg          labels/train/a.txt    with splits (Ultralytics; CVAT, with a list in train.txt)
    train/images/a.jpg          train/labels/a.txt    the same (Roboflow)
    train/a.jpg                 train/a.txt           the same (Roboflow for Darknet)
    a.jpg, a.txt                in one folder (LabelImg)
    obj.data, obj.names         lists of images and names (CVAT's YOLO 1.1, Darknet)

Folders of images are read with their subfolders. What is not here: copying (arrange.py), and the content of labels (labels.py).
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from openmlops.core.images.decoding import SUFFIXES, is_image
from openmlops.core.types import Problem
from openmlops.core.validation import problem
from openmlops.files import real
from openmlops.names import as_stored, composed
from openmlops.usecases.arranging import entries, split_name
from openmlops.usecases.yolo_folder import config
from openmlops.usecases.yolo_folder.config import CONFIG

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")
NO_LABELS = (*NAME_FILES, "README.txt", "notes.txt")
MAX_LIST_BYTES = 2**26
NO_NAMES = "there are no class names; write them as names into data.yaml, or one per line into classes.txt"


@dataclass(frozen=True)
class Found:
    """One image with its label file, which need not be there, and its split, None if it is to be drawn."""

    source: Path
    label: Path
    split: str | None


@dataclass(frozen=True)
class Export:
    """What a folder holds. `config` is the file that names the classes, `read` are all files that say what there is, `orphans`
    are label files without an image."""

    names: tuple[str, ...]
    config: Path
    images: tuple[Found, ...]
    problems: tuple[Problem, ...]
    read: tuple[Path, ...] = ()
    orphans: tuple[Path, ...] = ()


def find(folder: Path, default: tuple[str, ...] = ()) -> Export:
    """The folder's images and class names, `default` if it names none. Bad data is returned as problems and never raises."""
    content, chosen, problems = _config(folder)
    if problems:
        return Export((), chosen, (), tuple(problems))
    images, problems = _images(folder, content, chosen)
    names, source, wrong = _names(folder, content, chosen, images)
    if default and wrong and wrong[0].what == NO_NAMES:
        names, wrong = default, []
    orphans = [] if _lists(folder, content) else _orphans(folder, images)
    if names and (count := config.wrong_count(_darknet(folder), names, "classes")):
        wrong.append(problem(count, str(folder / "obj.data")))
    problems += wrong
    read = (chosen, source, *_lists_of(folder, content))
    return Export(tuple(map(composed, names)), source, tuple(images), tuple(problems), read, tuple(orphans))


def label_of(image: Path) -> Path:
    """The label file of an image: images/train/a.jpg -> labels/train/a.txt, a.jpg -> a.txt or labels/a.txt beside it. The
    first that is there; if none is, where the first would be."""
    parts = image.with_suffix(".txt").parts
    last = max((index for index, part in enumerate(parts[:-1]) if part == "images"), default=None)
    mirrored = [] if last is None else [Path(*parts[:last], "labels", *parts[last + 1 :])]
    beside = [image.with_suffix(".txt"), *(above / "labels" / parts[-1] for above in image.parents[:2])]
    places = (*mirrored, *beside)
    return next((path for path in chain(places, map(as_stored, places)) if path.is_file()), places[0])


def _config(folder: Path) -> tuple[dict[str, Any], Path, list[Problem]]:
    """The content and path of data.yaml, or of the one .yaml file that has names or is alone; empty if there is none."""
    files = [path for path in entries(folder) if path.suffix.lower() in (".yaml", ".yml")]
    read = {path: config.read(path) for path in ([folder / CONFIG] if folder / CONFIG in files else files)}
    found = [path for path, (content, _) in read.items() if config.value(content, "names") is not None]
    if len(found) > 1:
        several = f"{' and '.join(path.name for path in found[:5])} all have class names; rename the right one to {CONFIG}"
        return {}, folder, [problem(several, str(folder))]
    found = found or [path for path, (_, wrong) in read.items() if wrong or len(read) == 1]
    if not found:
        return {}, folder, []
    content, wrong = read[chosen := found[0]]
    if not wrong and config.value(content, "kpt_shape") is not None:
        wrong = "kpt_shape says that labels have keypoints, which are not supported; export boxes"
    return content, chosen, [problem(wrong, str(chosen))] if wrong else []


def _names(
    folder: Path, content: dict[str, Any], chosen: Path, images: Iterable[Found]
) -> tuple[tuple[str, ...], Path, list[Problem]]:
    """Class names, and the file that they come from: the .yaml file `chosen`, or one with a name per line."""
    if config.value(content, "names") is not None and not isinstance(content["names"], str):
        names, wrong = config.class_names(content)
        return names, chosen, [problem(wrong, str(chosen))] if wrong else []
    found: dict[Path, tuple[str, ...]] = {}
    for path in _name_files(folder, content, images):
        text, wrong = config.read_text(path)
        names, wrong = ((), wrong) if wrong else config.listed_names(text)
        if wrong:
            return (), path, [problem(wrong, str(path))]
        if wrong := config.wrong_count(content, names):
            return (), path, [problem(wrong, str(chosen))]
        found[path] = names
    if not found:
        if named := config.value(content, "names"):
            what = f"names is '{str(named)[:60]}', neither a list of class names nor a file that is there; write them as a list"
            return (), chosen, [problem(what, str(chosen))]
        return (), folder, [problem(NO_NAMES, str(folder))]
    first, names = next(iter(found.items()))
    if other := [path for path in found if found[path] != names]:
        return (), first, [problem(f"the class names differ from those in {other[0]}; keep one of the files", str(first))]
    return names, first, []


def _name_files(folder: Path, content: dict[str, Any], images: Iterable[Found]) -> list[Path]:
    """The files of class names that are there: the one that `names` means, or all others."""
    named = content.get("names") or _darknet(folder).get("names")
    if isinstance(named, str) and (path := _resolved(folder, content, named, folder)):
        return [path] if path.is_file() else []
    places = {folder: None, folder / "labels": None} | dict.fromkeys(image.label.parent for image in images)
    return [place / name for place in places for name in NAME_FILES if (place / name).is_file()]


def _darknet(folder: Path) -> dict[str, str]:
    """The content of obj.data, `key = value` per line; empty if there is none."""
    if not (folder / "obj.data").is_file():
        return {}
    text, _ = config.read_text(folder / "obj.data")
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _images(folder: Path, content: dict[str, Any], chosen: Path) -> tuple[list[Found], list[Problem]]:
    named = _named(folder, content)
    source = chosen if named == _named_in(content) else folder / "obj.data"
    splits, problems = _of_named(folder, content, named, source) if named else _of_layout(folder)
    if len(set(splits.values())) == 1:
        splits = dict.fromkeys(splits)  # a single split counts as none
    return [Found(path, label_of(path), split) for path, split in splits.items()], problems


def _named(folder: Path, content: dict[str, Any]) -> dict[str, list[str]]:
    """Split -> the folders or lists of images that the .yaml file, obj.data or the lists' own names name for it."""
    sources = (content, _darknet(folder), _list_files(folder))
    return next((found for source in sources if (found := _named_in(source))), {})


def _named_in(source: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in ("train", "val", "valid", "validation", "test"):
        if places := config.value(source, key):
            listed = places if isinstance(places, list) else [places]
            found.setdefault(split_name(key) or key, [str(each) for each in listed])
    return found


def _list_files(folder: Path) -> dict[str, Any]:
    """Split -> the name of its list, as in train.txt, if the file lists images."""
    names = {path.stem.lower(): path.name for path in entries(folder) if path.suffix == ".txt" and split_name(path.stem)}
    return {stem: name for stem, name in names.items() if any(map(is_image_name, _lines(folder / name)))}


def is_image_name(line: str) -> bool:
    """Whether a line of a list ends as the name of an image."""
    return PurePosixPath(line).suffix.lower() in SUFFIXES


def _lists(folder: Path, content: dict[str, Any]) -> bool:
    """Whether lists name the images, so that a folder may hold labels of others."""
    return any(place.endswith(".txt") for places in _named(folder, content).values() for place in places)


def _lists_of(folder: Path, content: dict[str, Any]) -> list[Path]:
    """The lists of images, and obj.data."""
    texts = [place for places in _named(folder, content).values() for place in places if place.endswith(".txt")]
    found = [_resolved(folder, content, text, folder) for text in texts]
    return [folder / "obj.data", *(path for path in found if path is not None)]


def _of_named(
    folder: Path, content: dict[str, Any], named: Mapping[str, list[str]], source: Path
) -> tuple[dict[Path, str | None], list[Problem]]:
    splits: dict[Path, str | None] = {}
    problems, absent = [], []
    for split, texts in named.items():
        for text in texts:
            place = _resolved(folder, content, text, folder)
            if place is None:
                absent.append((split, text))
                continue
            images, wrong = (list(_below(place)), []) if place.is_dir() else _listed(folder, content, place)
            problems += wrong
            for path in images:
                splits.setdefault(canonical(path), split)  # some files name one folder as train and val
    return splits, problems + _absent(folder, source, absent, splits)


def _absent(folder: Path, source: Path, absent: list[tuple[str, str]], splits: Mapping[Path, str | None]) -> list[Problem]:
    """Problems of what the file `source` names and is not there. Tools name a val or test that they did not export: a note, if
    the folder holds no other images that could be meant."""
    problems = []
    for split, text in absent:
        others = [] if split == "train" else [path for path in _below(folder) if canonical(path) not in splits]
        if split == "train" or split in splits.values() or others:
            more = f", and {len(others)} images belong to no split, such as {others[0]}" if others else ""
            problems.append(problem(f"{split} names {text}, which is not there{more}; correct it", str(source)))
        else:
            what = f"{split} names {text}, which is not there: its images are drawn from the others"
            problems.append(problem(what, str(source), blocking=False, altered=True))
    return problems


def _listed(folder: Path, content: dict[str, Any], file: Path) -> tuple[list[Path], list[Problem]]:
    """The images of a list, one path per line."""
    text, wrong = config.read_text(file, MAX_LIST_BYTES)
    if wrong:
        return [], [problem(wrong, str(file))]
    found, missing = [], []
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        path = _resolved(folder, content, line, file.parent)
        if path is not None and path.is_file():
            found.append(path)
        elif line:
            missing.append(number)
    if not missing:
        return found, []
    what = "it lists images that are not here; export them with the labels, or remove the lines"
    return found, [problem(what, str(file), missing)]


def _lines(file: Path) -> list[str]:
    text, _ = config.read_text(file, MAX_LIST_BYTES)
    return [line.strip() for line in text.splitlines()]


def _resolved(folder: Path, content: dict[str, Any], text: str, beside: Path) -> Path | None:
    """What a path in data.yaml or in a list means here: tools write it relative to the file, to `path`, to a folder of their
    own, or as it was on another machine."""
    text = text.replace("\\", "/")
    root = PurePosixPath(str(config.value(content, "path") or "."))
    inside = PurePosixPath(text.removeprefix("../").removeprefix("./"))
    below = [inside.relative_to(root)] if inside.is_relative_to(root) else []
    ends = [PurePosixPath(*inside.parts[start:]) for start in range(1, len(inside.parts))]
    shorter = [end for end in ends if len(end.parts) > 1 or len(inside.parts) == 2]
    candidates = (folder / root / text, folder / text, beside / text, folder / inside, folder / root.name / text)
    anywhere = (*candidates, *(folder / path for path in (*below, *(shorter if inside.suffix else ()))))
    return next((path for path in chain(anywhere, map(as_stored, anywhere)) if os.path.exists(path)), None)


def canonical(path: Path) -> Path:
    """The path of a file in its real folder; a link to a file stays, because its label has its name."""
    return real(path.parent) / path.name


def _of_layout(folder: Path) -> tuple[dict[Path, str | None], list[Problem]]:
    """Images by split, from the names of folders."""
    images = folder / "images"
    splits = [path for path in entries(folder) if path.is_dir() and split_name(path.name)]
    outside = [(path / "images" if (path / "images").is_dir() else path, split_name(path.name)) for path in splits]
    if any(True for place, _ in outside for _ in _below(place)):
        return _all(outside), _beside(folder, outside)
    if not images.is_dir():
        return _all([(folder, None)]), []
    inside = [(path, split_name(path.name)) for path in entries(images) if path.is_dir()]
    if not any(split for _, split in inside):
        return _all([(images, None)]), []
    unknown = [problem("the folder is not one of train, val and test; rename it", str(path)) for path, s in inside if not s]
    return _all(inside), unknown + _beside(images, inside)


def _all(places: Iterable[tuple[Path, str | None]]) -> dict[Path, str | None]:
    return {canonical(image): split for place, split in places for image in _below(place)}


def _beside(folder: Path, places: Iterable[tuple[Path, str | None]]) -> list[Problem]:
    """A problem if the folder holds images beside the folders of its splits."""
    beside = [path for path in entries(folder) if is_image(path)]
    what = f"{len(beside)} images are beside the folders {', '.join(path.name for path, _ in places)}; move them into one"
    return [problem(what, str(folder))] if beside else []


def _below(folder: Path) -> Iterator[Path]:
    """The images of a folder and its subfolders, sorted."""
    for path in entries(folder):
        if is_image(path):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _below(path)


def _orphans(folder: Path, images: Iterable[Found]) -> list[Path]:
    """Label files without an image."""
    known, beside = {image.label for image in images}, {image.source.parent for image in images}
    places = {image.label.parent for image in images} | set(_without_images(folder))
    files = [path for place in sorted(places) if place.is_dir() for path in entries(place) if path.suffix == ".txt"]
    found = [path for path in files if path not in known and path.name not in NO_LABELS]
    return [path for path in found if path.parent not in beside or _has_boxes(path)]


def _without_images(folder: Path) -> Iterator[Path]:
    """The folders of labels beside whose folder of images there is none, or an empty one."""
    for labels in (folder / "labels", *(path / "labels" for path in entries(folder) if path.is_dir())):
        for place in (labels, *entries(labels)) if labels.is_dir() else ():
            images = labels.parent / "images" / place.relative_to(labels)
            if place.is_dir() and images.parent.is_dir() and not (images.is_dir() and any(True for _ in _below(images))):
                yield real(place)


def _has_boxes(path: Path) -> bool:
    """Whether the first line is a box: a text file beside images may be anything."""
    words = next((line.split() for line in _lines(path) if line), [])
    try:
        return len([float(word) for word in words]) >= 5
    except ValueError:
        return False


def unlabelled(folder: Path, images: Sequence[Found]) -> list[Problem]:
    """A problem if no image has a label file."""
    if not images or any(image.label.is_file() for image in images):
        return []
    what = f"no image has a label file (the first would be {images[0].label}); put them into labels"
    return [problem(what, str(folder))]
