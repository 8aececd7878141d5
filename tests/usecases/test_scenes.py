"""Frames of one scene are in one split: a frame in training answers for its siblings."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.errors import DataError
from openmlops.usecases.arranging import drawn
from openmlops.usecases.image_folder.arrange import arrange
from openmlops.usecases.scenes import scenes
from openmlops.usecases.yolo_folder.arrange import arrange as arrange_yolo


def bursts(folder: Path, scenes: int = 40, frames: int = 10, name: str = "s{scene:03d}_f{frame}") -> list[Path]:
    """Scenes of nearly equal frames, each of one of two classes."""
    rng = np.random.default_rng(11)
    made = []
    for scene in range(scenes):
        ground = np.full((16, 16, 3), rng.integers(0, 200, 3), float)
        place = folder / ("disc", "square")[scene % 2]
        place.mkdir(parents=True, exist_ok=True)
        for frame in range(frames):
            path = place / f"{name.format(scene=scene, frame=frame)}.png"
            Image.fromarray(np.clip(ground + rng.normal(0, 3, ground.shape), 0, 255).astype(np.uint8)).save(path)
            made.append(path)
    return made


def siblings(folder: Path) -> tuple[int, int]:
    """Test images that have a sibling in another split, and all test images."""
    of = {path: path.parts[-3] for path in folder.rglob("*.png")}
    homes: dict[str, set[str]] = {}
    for path, split in of.items():
        homes.setdefault(path.stem.split("_")[0], set()).add(split)
    test = [path for path, split in of.items() if split == "test"]
    return sum(len(homes[path.stem.split("_")[0]]) > 1 for path in test), len(test)


def test_no_test_image_of_a_new_project_has_a_sibling_in_training(tmp_path: Path) -> None:
    bursts(tmp_path / "own")
    arranged = arrange(tmp_path / "own", tmp_path / "out")
    shared, tested = siblings(tmp_path / "out")
    assert shared == 0
    assert 60 <= tested <= 100, "a fifth of 400, as without scenes"
    assert ["400 images are of 40 scenes" in str(each) for each in arranged.problems] == [True]
    assert Counter(path.split("/")[0] for path in arranged.sources)["val"] >= 40


def test_a_detector_s_scenes_stay_together_too(tmp_path: Path) -> None:
    for path in bursts(tmp_path / "frames"):
        for part in ("images", "labels"):
            (tmp_path / "own" / part).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "own" / "images" / path.name)
        (tmp_path / "own" / "labels" / f"{path.stem}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "own" / "data.yaml").write_text("names: [thing]\ntrain: images\n")
    arrange_yolo(tmp_path / "own", tmp_path / "out")
    homes: dict[str, set[str]] = {}
    for path in (tmp_path / "out" / "images").rglob("*.png"):
        homes.setdefault(path.stem.split("_")[0], set()).add(path.parent.name)
    assert len(homes) == 40
    assert all(len(splits) == 1 for splits in homes.values())
    assert set().union(*homes.values()) == {"train", "val", "test"}


@pytest.mark.parametrize("name", ["{scene}", "IMG_{scene:02d}{frame:02d}", "{scene:03d}{frame:03d}"])
def test_names_that_tell_nothing_leave_the_draw_as_it_was(tmp_path: Path, name: str) -> None:
    made = bursts(tmp_path / "own", frames=1 if name == "{scene}" else 4, name=name)
    assert scenes(made) is None
    groups = [path.stem for path in made]
    assert drawn(groups, set(), len(groups)) == drawn(groups, set(), len(groups), groups)


def test_what_people_name_is_taken_or_refused_in_one_sentence(tmp_path: Path) -> None:
    made = bursts(tmp_path / "own", scenes=20, frames=2)
    assert len(set(scenes(made, "name-pattern"))) == 20
    with pytest.raises(DataError, match="--group-by folder tells only 2 scenes of 40 images"):
        scenes(made, "folder")
    with pytest.raises(DataError, match="and 39 more does not say when it was taken"):
        scenes(made, "time")


def test_photographs_of_one_minute_are_a_scene(tmp_path: Path) -> None:
    made = []
    for number, second in enumerate((0, 20, 59, 58, 119, 120)):
        exif = Image.Exif()
        exif[306] = f"2026:11:01 12:{10 * (number // 3):02d}:{second % 60:02d}"
        made.append(tmp_path / f"{number}.jpg")
        Image.new("RGB", (8, 8)).save(made[-1], exif=exif)
    found = scenes(made, "time")
    assert found[0] == found[1] == found[2] != found[3]
    assert len(set(found[3:])) == 1


def test_equal_images_of_two_scenes_join_them_and_every_split_has_a_scene() -> None:
    groups = [f"{number:03d}" for number in range(90)]
    groups[10] = groups[0]
    found = drawn(groups, set(), 90, [str(number // 30) for number in range(90)])
    assert sorted(set(found)) == ["test", "train", "val"]
    joined = drawn(groups, set(), 90, [str(number // 10) for number in range(90)])
    assert len(set(joined[:20])) == 1
    few = drawn(groups, set(), 90, [str(number // 45) for number in range(90)])
    assert few == drawn(groups, set(), 90), "two scenes are too few for three splits"
