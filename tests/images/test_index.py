"""The index of image files: each is read once, none that is known is decoded, and damage is a problem of its image alone."""

import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.core.images import summary
from openmlops.core.images.decoding import NAMES, decode_native, png
from openmlops.core.images.statistics import image_statistics
from openmlops.core.validation import content_hashes
from openmlops.errors import DataError
from openmlops.images import index
from openmlops.images.index import ImageIndex, index_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for number in range(6):
        size = (40 + number, 60, 3)
        (tmp_path / f"{number}.png").write_bytes(png(draw.integers(0, 256, size, dtype=np.uint8)))
    return tmp_path


def paths(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(one: ImageIndex, other: ImageIndex) -> bool:
    columns = all(np.array_equal(one.columns[name], other.columns[name]) for name in one.columns)
    return (one.paths, one.problems) == (other.paths, other.problems) and columns and one.columns.keys() == other.columns.keys()


def test_it_says_of_each_image_what_its_pixels_say(folder: Path) -> None:
    found = index_of(folder, paths(folder))
    for row, path in enumerate(found.paths):
        content = (folder / path).read_bytes()
        pixels = decode_native(content)
        assert found.size(path) == pixels.shape[:2]
        assert found.columns["sha256"][row].tobytes() == hashlib.sha256(content).digest()
        assert found.digest(path) == content_hashes(np.array([pixels]))[0], "equal images are equal, from a file or in memory"
        assert found.columns["bytes"][row] == len(content)
        values = pixels.reshape(-1, 3).astype(np.int64)
        assert found.columns["sums"][row].tolist() == values.sum(axis=0).tolist()
        assert found.columns["squares"][row].tolist() == (values**2).sum(axis=0).tolist()
        assert not found.columns["blank"][row]
    mean, std = summary.moments(*(found.columns[name] for name in ("pixels", "sums", "squares")))
    assert mean == pytest.approx([127.5] * 3, abs=3)
    assert std == pytest.approx([256 / 12**0.5] * 3, abs=3)


def test_statistics_of_the_thumbnail_are_near_those_of_the_image(tmp_path: Path) -> None:
    pixels = np.full((480, 640, 3), (200, 100, 50), np.uint8)
    pixels[:240] //= 2
    (tmp_path / "a.png").write_bytes(png(pixels))
    found, whole = index_of(tmp_path, ["a.png"]), image_statistics(pixels[None])
    for name in ("brightness", "contrast", "red", "green", "blue", "saturation"):
        assert found.columns[name][0] == pytest.approx(whole[name][0], abs=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_image(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.jpg", exif=exif)
    found = index_of(tmp_path, ["a.jpg"])
    assert found.size("a.jpg") == decode_native((tmp_path / "a.jpg").read_bytes()).shape[:2]
    assert bool(found.columns["turned"][0]) == (orientation > 1)


def test_a_large_jpeg_is_decoded_at_reduced_size_and_copies_of_it_are_still_found(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    small = Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    small.resize((2400, 1800)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    other = np.array(small.resize((2400, 1800)))
    other[:200, :200] = 0
    Image.fromarray(other).save(tmp_path / "c.jpg")
    found = index_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    assert found.size("a.jpg") == (1800, 2400)
    assert found.columns["pixels"][0] == 600 * 450
    assert found.digest("a.jpg") == found.digest("b.jpg") != found.digest("c.jpg")


def test_what_cannot_be_used_has_a_problem_and_the_others_do_not_suffer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "1.png").write_bytes(b"no image")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:200])
    (folder / "3.png").unlink()
    (folder / "4.png").unlink()
    (folder / "4.png").mkdir()
    monkeypatch.setattr(index, "MAX_FILE_BYTES", (folder / "5.png").stat().st_size - 1)
    found = index_of(folder, [f"{number}.png" for number in range(6)])
    assert [problem.partition(" (")[0] for problem in found.problems] == [
        "",
        f"The image is none of {NAMES}",
        "The image is a broken PNG file",
        "the file cannot be read",
        "the file cannot be read",
        f"the file has more than {index.MAX_FILE_BYTES} bytes",
    ]
    assert [index.remedied(problem).rpartition("; ")[2] for problem in found.problems[2:4]] == [
        "replace or remove the file",
        "restore or remove it",
    ]


def test_what_is_known_is_read_and_not_decoded_wherever_it_lies_now(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_of(folder, paths(folder))
    (folder / "1.png").rename(folder / "renamed.png")
    (folder / "new.png").write_bytes(png(np.zeros((20, 20, 3), np.uint8)))
    decoded = []
    summarize = index.summarize
    monkeypatch.setattr(index, "summarize", lambda content: decoded.append(content) or summarize(content))
    second = index_of(folder, paths(folder), [first])
    assert decoded == [(folder / "new.png").read_bytes()]
    assert same(second, index_of(folder, paths(folder)))


def test_each_is_read_once_and_its_bytes_are_handed_on(folder: Path) -> None:
    read: dict[str, bytes] = {}
    lock, shown = threading.Lock(), []

    def on_read(path: str, content: bytes) -> None:
        with lock:
            assert path not in read
            read[path] = content

    index_of(folder, paths(folder), on_progress=lambda done, total: shown.append((done, total)), on_read=on_read)
    assert read == {path: (folder / path).read_bytes() for path in paths(folder)}
    assert shown == [(6, 6)]


def test_it_is_the_same_from_its_file_and_a_damaged_one_is_none(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "broken.png").write_bytes(b"")
    place = tmp_path_factory.mktemp("index") / "a.parquet"
    found = index_of(folder, paths(folder))
    found.write(place)
    again = ImageIndex.read(place)
    assert again is not None
    assert same(found, again)
    assert same(found.at(np.array([3, 0])), again.of(["3.png", "0.png"]))
    whole = place.read_bytes()
    for at in range(4, len(whole), 1 + len(whole) // 60):
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        damaged = ImageIndex.read(place)
        assert damaged is None or same(found, damaged), at
    place.write_bytes(whole[: len(whole) // 2])
    assert ImageIndex.read(place) is None
    assert ImageIndex.read(place.with_name("nowhere")) is None


def test_an_index_of_another_recipe_is_made_anew(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_of(folder, paths(folder)).write(tmp_path / "a.parquet")
    monkeypatch.setattr(index, "RECIPE", index.RECIPE + 1)
    assert ImageIndex.read(tmp_path / "a.parquet") is None


def test_no_images_are_an_index_too(tmp_path: Path) -> None:
    index_of(tmp_path, []).write(tmp_path / "a.parquet")
    found = ImageIndex.read(tmp_path / "a.parquet")
    assert found is not None
    assert (len(found), found.sizes.shape) == (0, (0, 2))


def test_a_file_name_that_is_no_text_can_be_looked_at(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(png(np.zeros((20, 20, 3), np.uint8)))
    assert index_of(tmp_path, [name]).problems == ("",)


def test_a_file_that_came_while_the_others_were_read_is_named(folder: Path) -> None:
    found = index_of(folder, paths(folder))
    for look in (found.row, found.digest, found.size, lambda path: found.of([path])):
        with pytest.raises(DataError, match=r"changed while they were read: new\.png is new\. Run the command again"):
            look("new.png")
