"""Import of one folder per class, with or without splits, into the layout of data.py.

Existing splits are kept; missing ones are drawn from the others, stratified by class, copies together. What is not here:
validation of the imported images (data.py).
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from openmlops.core.images.decoding import is_image
from openmlops.core.tasks import by_number
from openmlops.core.types import Problem
from openmlops.core.validation import fewer, problem
from openmlops.files import storable_name, why_not_storable
from openmlops.images.index import ImageIndex, OnProgress, index_of, remedied
from openmlops.names import composed
from openmlops.usecases.arranging import Arranged, Copies, drawn, entries, split_name, unused_place
from openmlops.usecases.image_folder.data import ONE_COLOUR, SIDE, TWO_CLASSES
from openmlops.usecases.leftovers import left_out, tolerated, unreadable, unused
from openmlops.usecases.scenes import GroupBy, scenes_of, together

SIDES = (32, 64, SIDE)
"""candidate sides of the square input in pixels: the smallest that is not much smaller than the images, else the last"""
MUCH = 1.25
"""largest factor by which the median side may exceed the chosen square"""
FEWEST = 5
"""fewest images of a class: one for test, one for validation, three for training"""
SPELLED_TWICE = "the folder has the name of another, with accents written otherwise: both are one class"
EMPTY = "the class has no images; add some, or remove the folder"


@dataclass(frozen=True)
class _Image:
    source: Path
    split: str | None
    label: str
    digest: str = ""
    side: int = 0
    is_blank: bool = False


def arrange(
    folder: Path, out: Path, skip: bool = False, on_progress: OnProgress | None = None, group_by: GroupBy = "auto"
) -> Arranged:
    """Write the images of `folder` into `out`, unless a problem is blocking. Bad data is returned as problems and never raises.

    The class names are the folder names, sorted, numbers as numbers. A handful of files that cannot be used is left out; with
    `skip`, any number. `group_by`: which images are kept in one split (usecases/scenes.py). Raises DataError if it tells none.
    """
    if inner := _inside(folder):
        what = "the folders of the classes are in this one; name it instead of the folder above"
        return Arranged((), {}, (problem(what, str(inner)),))
    images, problems = named(folder)
    names = tuple(sorted({image.label for image in images}, key=by_number))
    rest = unused(folder, {image.source for image in images}, misplaced, absolute=True)
    problems = sorted([*problems, *tolerated(rest, len(images), skip)], key=lambda each: each.what == EMPTY)
    if not any(each.blocking for each in problems) and len(names) < 2:
        files = [path.name for path in entries(folder) if not path.is_dir()]
        beside = f", but files such as {files[0]}" if files else ""
        what = f"there is only one class, {names[0]}{beside}" if names else f"there are no class folders{beside}"
        problems.append(problem(f"{what}; create at least two folders, each with the images of one class", str(folder)))
    if any(each.blocking for each in problems):
        return Arranged(names, {}, tuple(problems))
    with Copies(out) as copies:
        sources = [str(image.source) for image in images]
        index = index_of(Path("/"), sources, on_progress=on_progress, on_read=copies.keep)
        images, broken = _looked_at(images, index)
        images, wrong = _clear(images)
        problems = tolerated([*problems, *broken, *wrong], len(images), skip)
        problems += _too_few(images, names, folder) if not any(each.blocking for each in problems) else []
        if any(each.blocking for each in problems):
            return Arranged(names, {}, tuple(problems))
        of = scenes_of(
            [image.source for image in images if image.split in (None, "train")], {i.split for i in images}, group_by
        )
        problems += together(of, folder)
        placed = {copies.put(image.source, place): image.source for place, image in _places(_split(images, of)).items()}
    return Arranged(names, placed, tuple(problems), index, _side([image.side for image in images]))


def _inside(folder: Path) -> Path | None:
    """The one folder in `folder`, if it holds no images itself but folders that do: archives are unpacked so."""
    places = [path for path in entries(folder) if path.is_dir()]
    if len(places) != 1 or split_name(places[0].name):
        return None
    inner = entries(places[0])
    if any(map(is_image, inner)):
        return None
    return places[0] if any(is_image(path) for below in inner if below.is_dir() for path in entries(below)) else None


def named(folder: Path) -> tuple[list[_Image], list[Problem]]:
    """Every image with its class, and its split if it has one."""
    places = [path for path in entries(folder) if path.is_dir()]
    splits = _splits(places)
    if "train" not in splits.values():
        return _of_classes(folder, None)
    images: list[_Image] = []
    problems: list[Problem] = []
    for path in places:
        if path not in splits:
            problems.append(problem("the folder is not one of train, val and test; move it into one of them", str(path)))
            continue
        found, wrong = _of_classes(path, splits[path])
        images, problems = images + found, problems + wrong
    return images, problems


def _splits(places: Sequence[Path]) -> dict[Path, str]:
    """The folders that are splits. A class may be called `train`: then no folder of that kind holds class folders."""
    named = {path: split for path in places if (split := split_name(path.name))}
    is_class = len(named) < len(places) and not any(below.is_dir() for path in named for below in entries(path))
    return {} if is_class else named


def _of_classes(folder: Path, split: str | None) -> tuple[list[_Image], list[Problem]]:
    images, problems = [], []
    first: dict[str, str] = {}
    for place in entries(folder):
        if not place.is_dir():
            continue
        label = composed(place.name)
        if first.setdefault(label, place.name) != place.name:
            problems.append(problem(SPELLED_TWICE, str(place), blocking=False, altered=True))
        found = [path for path in entries(place) if is_image(path)]
        if why := why_not_storable(place.name) or ("more than 100 characters" if len(place.name) > 100 else ""):
            problems.append(problem(f"the class name has {why}; rename the folder", str(place)))
        if not found and split in (None, "train"):
            problems.append(problem(EMPTY, str(place)))
        images += [_Image(path, split, label) for path in found]
    return images, fewer(problems)


def misplaced(path: Path) -> str:
    """Why an image, by its path in the folder, is not read."""
    is_deep = len(path.parts) > (3 if split_name(path.parts[0]) else 2)
    if is_deep:
        return "images are in subfolders of a class, which are not read; move them up"
    return "images are not in a class folder; move them into one"


def _looked_at(images: Sequence[_Image], index: ImageIndex) -> tuple[list[_Image], list[Problem]]:
    """The images with their content digests, and problems for those that cannot be read, grouped by reason."""
    reasons, found = {}, []
    for row, image in enumerate(images):
        if why := index.problems[row]:
            reasons[str(image.source)] = remedied(why)
            continue
        path = index.paths[row]
        is_blank = bool(index.columns["blank"][row])
        found.append(replace(image, digest=index.digest(path).hex(), side=min(index.size(path)), is_blank=is_blank))
    return found, unreadable(reasons, "images")


def _clear(images: Sequence[_Image]) -> tuple[list[_Image], list[Problem]]:
    """The images without those of one colour and without equal ones in two classes, before splits are drawn."""
    labels: dict[str, set[str]] = {}
    first: dict[str, Path] = {}
    for image in images:
        labels.setdefault(image.digest, set()).add(image.label)
        first.setdefault(image.digest, image.source)
    blank = [str(image.source) for image in images if image.is_blank]
    pairs = [image for image in images if len(labels[image.digest]) > 1 and not image.is_blank]
    problems = [left_out(ONE_COLOUR, "images", blank)] if blank else []
    if pairs:
        files = [str(image.source) for image in pairs]
        others = [str(first[image.digest]) for image in pairs]
        examples = [path if path == other else f"{path} is {other}" for path, other in zip(files, others, strict=True)]
        problems.append(left_out(TWO_CLASSES, "images", files, examples))
    return [image for image in images if not image.is_blank and len(labels[image.digest]) == 1], problems


def _too_few(images: Sequence[_Image], names: Sequence[str], folder: Path) -> list[Problem]:
    counts = Counter(image.label for image in images)
    few = [f"{label} ({counts[label]})" for label in names if counts[label] < FEWEST]
    if not few:
        return []
    why = f"a class needs at least {FEWEST} images: one for test, one for validation, three for training"
    return [problem(f"too few images of {', '.join(few[:20])}; {why}", str(folder))]


def _split(images: Sequence[_Image], scenes: Mapping[Path, str]) -> list[_Image]:
    """Assign a split to each: missing splits are drawn from the training images, stratified by class."""
    given = {image.split for image in images if image.split}
    open_ = [image for image in images if image.split in (None, "train")]
    done = [image for image in images if image.split not in (None, "train")]
    for label in sorted({image.label for image in open_}):
        of_class = [image for image in open_ if image.label == label]
        its_scenes = [scenes[image.source] for image in of_class] if scenes else None
        splits = drawn([image.digest for image in of_class], given, len(open_), its_scenes)
        done += [
            _Image(image.source, split, label, image.digest, image.side) for image, split in zip(of_class, splits, strict=True)
        ]
    return done


def _places(images: Sequence[_Image]) -> dict[str, _Image]:
    """The new path of each without suffix; images whose paths differ in the suffix only keep it in the name."""
    wanted = Counter((image.split, image.label, image.source.stem.lower()) for image in images)
    places: dict[str, _Image] = {}
    taken: set[str] = set()
    for image in images:
        is_alone = wanted[image.split, image.label, image.source.stem.lower()] == 1
        name = storable_name(image.source.stem if is_alone else image.source.name.replace(".", "_"))
        places[unused_place(f"{image.split}/{image.label}/{name}", taken)] = image
    return places


def _side(sides: Sequence[int]) -> int:
    median = statistics.median(sides)
    return next((side for side in SIDES if median <= MUCH * side), SIDES[-1])
