"""Import of images and label files in YOLO's format, as various tools write them (exports.py), into the layout of folder.py.

What is not here: validation of the imported images and labels (data.py).
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from openmlops.core.validation import fewer, problem
from openmlops.files import storable_name, write_bytes, write_text
from openmlops.images.index import ImageIndex, OnProgress, index_of, remedied
from openmlops.usecases.arranging import Arranged, Copies, drawn, unused_place
from openmlops.usecases.leftovers import tolerated, unreadable
from openmlops.usecases.scenes import GroupBy, scenes_of, together
from openmlops.usecases.yolo_folder.config import CONFIG
from openmlops.usecases.yolo_folder.exports import Export, Found, find, unlabelled
from openmlops.usecases.yolo_folder.layout import data_yaml
from openmlops.usecases.yolo_folder.remaining import remaining, with_labels

FEWEST = 10
"""fewest images: two for test, two for validation, six for training"""


def arrange(
    folder: Path, out: Path, skip: bool = False, on_progress: OnProgress | None = None, group_by: GroupBy = "auto"
) -> Arranged:
    """Write the images of `folder` with their labels and a data.yaml into `out`, unless a problem is blocking.

    Bad data is returned as problems and never raises. A handful of files that cannot be used is left out; with `skip`, any
    number. `group_by`: which images are kept in one split (usecases/scenes.py). Raises DataError if it tells none.
    """
    found = find(folder)
    images, wrong = with_labels(found.images, folder)
    rest = remaining(folder, found, images)
    problems = tolerated([*found.problems, *unlabelled(folder, found.images), *wrong, *rest], len(images), skip)
    found = replace(found, images=tuple(images), problems=tuple(problems))
    if not any(each.blocking for each in problems) and len(found.images) < FEWEST:
        why = f"at least {FEWEST} are required: two for test, two for validation, six for training"
        place = folder if found.images else found.config
        problems.append(problem(f"there are {len(found.images)} images with labels{_where(found.images)}; {why}", str(place)))
    if any(each.blocking for each in problems):
        return Arranged(found.names, {}, tuple(problems))
    with Copies(out) as copies:
        paths = [str(image.source) for image in found.images]
        index = index_of(Path("/"), paths, on_progress=on_progress, on_read=copies.keep)
        broken = {path: remedied(why) for path, why in zip(paths, index.problems, strict=True) if why}
        labels = {str(image.source): (str(image.label),) for image in found.images}
        found = replace(found, images=tuple(image for image in found.images if str(image.source) not in broken))
        unusable = unreadable(broken, str(folder), labels.__getitem__)
        problems = tolerated([*problems, *unusable], len(found.images), skip)
        if any(each.blocking for each in problems):
            return Arranged(found.names, {}, tuple(problems))
        open_ = [image.source for image in found.images if image.split in (None, "train")]
        scenes = scenes_of(open_, {image.split for image in found.images}, group_by)
        problems += together(scenes, folder)
        return _written(replace(found, problems=tuple(problems)), index, copies, scenes)


def _where(images: Sequence[Found]) -> str:
    """The folders in which these images were found, if there are any."""
    places = list(dict.fromkeys(str(image.source.parent) for image in images))
    return f", in {', '.join(places[:3])}{', ...' if len(places) > 3 else ''}" if places else ""


def _written(found: Export, index: ImageIndex, copies: Copies, scenes: Mapping[Path, str]) -> Arranged:
    sources, out = {CONFIG: found.config}, copies.folder
    problems = list(found.problems)
    for image, where in zip(found.images, _places(found.images, index, scenes), strict=True):
        try:
            label = image.label.read_bytes() if image.label.is_file() else b""
        except OSError as error:
            problems.append(problem(f"the file cannot be read ({error.strerror}); restore it", str(image.label)))
            continue
        sources[copies.put(image.source, f"images/{where}")] = image.source
        sources[f"labels/{where}.txt"] = image.label
        write_bytes(out / f"labels/{where}.txt", label)
    write_text(out / CONFIG, data_yaml(found.names))
    return Arranged(found.names, sources, tuple(fewer(problems)), index)


def _places(images: Sequence[Found], index: ImageIndex, scenes: Mapping[Path, str]) -> list[str]:
    """`train/a` for each image. Images of the same name from several folders get the names of these in front, or else a
    number behind."""
    splits = _split(images, index, scenes)
    counts = Counter((split, image.source.stem) for image, split in zip(images, splits, strict=True))
    taken: set[str] = set()
    root = os.path.commonpath([image.source.parent for image in images])
    places = []
    for image, split in zip(images, splits, strict=True):
        above = image.source.parent.relative_to(root).parts if counts[split, image.source.stem] > 1 else ()
        places.append(unused_place(f"{split}/{storable_name('-'.join((*above, image.source.stem)))}", taken))
    return places


def _split(images: Sequence[Found], index: ImageIndex, scenes: Mapping[Path, str]) -> list[str]:
    """A split for each image: missing splits are drawn from the training images, equal images together."""
    given = {image.split for image in images if image.split}
    open_ = [image for image in images if image.split in (None, "train")]
    groups = [index.digest(str(image.source)).hex() for image in open_]
    its_scenes = [scenes[image.source] for image in open_] if scenes else None
    splits = dict(zip(open_, drawn(groups, given, len(open_), its_scenes), strict=True))
    return [splits.get(image, image.split or "train") for image in images]
