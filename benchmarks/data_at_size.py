"""Memory, time and passes over the files for data sets of photographs, which it draws itself, and decoding throughput beside
torchvision's ImageFolder with a DataLoader of as many workers.

    python benchmarks/data_at_size.py --images 20000 --folder /tmp/size
    python benchmarks/data_at_size.py --kind detection --images 1000 --size 1280x720

Peak memory is what the operating system counts as resident for the command's process (ru_maxrss), libraries included: mapped
library files are shown beside it, because their size depends on the build of PyTorch.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

GRAIN = 32
"""pixels of a blotch in the drawn photographs"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("classification", "detection"), default="classification")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--more", type=int, default=0, help="images added to them, and alone, to compare the cost")
    parser.add_argument("--folder", type=Path, default=Path("size"))
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    place = arguments.folder.absolute()
    place.mkdir(parents=True, exist_ok=True)
    own = place / f"{arguments.kind}-{arguments.images}-{arguments.size}"
    draw(own, arguments.kind, range(arguments.images), arguments.classes, (height, width))
    size = sum(path.stat().st_size for path in own.rglob("*.jpg"))
    print(f"{arguments.images} JPEGs of {arguments.size}, {size / 1e9:.2f} GB")
    project = place / "project_at_size"
    shutil.rmtree(project, ignore_errors=True)
    run("init", place, "init", project.name, "--kind", arguments.kind, "--data", own)
    run("data check", project, "data", "check")
    run("train --epochs 1", project, "train", "--epochs", "1")
    run("train --epochs 1, again", project, "train", "--epochs", "1", "--seed", "1")
    home = project / ".openmlops"
    copies = [project / "data", *(home / name for name in ("dvc-cache", "dvc-remote", "object-store"))]
    kept = {(path.stat().st_dev, path.stat().st_ino): path.stat().st_blocks * 512 for each in copies for path in files(each)}
    print(f"the data on disk, with every copy: {sum(kept.values()) / size:.2f} times the user's files")
    if arguments.more:
        growth(place, own, arguments)
    if arguments.kind == "classification":  # last: a process is said to have had what its parent had, and torch is large
        throughput(own, arguments.classes)


def growth(place: Path, own: Path, arguments: argparse.Namespace) -> None:
    """The cost of adding more images to a project that has many, beside that of a project of these alone."""
    width, height = map(int, arguments.size.split("x"))
    more = place / "more"
    added = range(arguments.images, arguments.images + arguments.more)
    draw(more, arguments.kind, added, arguments.classes, (height, width))
    project = place / "project_of_few"
    shutil.rmtree(project, ignore_errors=True)
    run(f"init of {arguments.more} alone", place, "init", project.name, "--kind", arguments.kind, "--data", more)
    larger = place / "larger"
    shutil.rmtree(larger, ignore_errors=True)
    shutil.copytree(place / "project_at_size" / "data" / "raw" / "project_at_size", larger)
    for path in more.rglob("*.jpg"):
        shutil.copy(path, larger / "train" / path.parent.name / f"more-{path.name}")
    run(f"data add of {arguments.more} more", place / "project_at_size", "data", "add", larger)


def run(name: str, folder: Path, *words: object) -> None:
    """Run a command of openmlops in `folder` and print its time and memory."""
    command = [str(Path(sys.executable).with_name("openmlops")), *map(str, words)]
    started, mapped = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        while (found := os.wait4(child.pid, os.WNOHANG))[0] == 0:
            mapped = max(mapped, mapped_files(child.pid))
            time.sleep(0.2)
        said = child.stderr.read() if child.stderr else ""
        child.returncode = os.waitstatus_to_exitcode(found[1])
    usage, seconds = found[2], time.perf_counter() - started
    cpu = usage.ru_utime + usage.ru_stime
    memory = f"{usage.ru_maxrss / 1e6:.2f} GB at most, of it up to {mapped / 1e6:.2f} of library files"
    print(f"{name:28} {seconds:7.1f} s {cpu:7.1f} cpu-s   {memory}")
    if child.returncode:
        print(said[-500:])


def mapped_files(pid: int) -> int:
    """kB of resident pages that are mapped files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssFile")), 0)


def throughput(own: Path, classes: int) -> None:
    """Images per second, decoded and resized to 96 pixels, by torchvision and on demand, in turns."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from openmlops.images.index import WORKERS, index_of
    from openmlops.images.lazy import Decoded, LazyImages
    from openmlops.usecases.image_folder.data import ImageFolder as Layout

    side, batch = 96, 64
    names = sorted(str(path.relative_to(own)) for path in own.rglob("*.jpg"))[:4000]
    layout = Layout(tuple(f"class{number:02}" for number in range(classes)), side)
    index = index_of(own, names)
    parts = [np.arange(start, min(start + batch, len(names))) for start in range(0, len(names), batch)]
    to_tensor = transforms.Compose([transforms.Resize((side, side)), transforms.PILToTensor()])
    for turn in range(3):
        theirs = ImageFolder(str(own), to_tensor)
        theirs.samples = [(str(own / name), 0) for name in names]
        loader = DataLoader(theirs, batch, num_workers=WORKERS)
        one = timed(len(names), loader)
        images = LazyImages.of_files(own, index, layout.decode, (side, side)).kept_in(Decoded(own.parent, 10**10))
        two, three = timed(len(names), images.batches(parts)), timed(len(names), images.batches(parts))
        print(
            f"turn {turn}: ImageFolder with {WORKERS} workers {one:.0f} images/s; on demand {two:.0f} ({two / one:.2f}), "
            f"kept {three:.0f} ({three / one:.1f})"
        )


def timed(n: int, batches: object) -> float:
    """Images per second."""
    started = time.perf_counter()
    for _ in batches:  # type: ignore[attr-defined]
        pass
    return n / (time.perf_counter() - started)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def draw(folder: Path, kind: str, numbers: range, classes: int, size: tuple[int, int]) -> None:
    """Photographs of blotches in the colour of their class, or with a rectangle that is labelled; nothing if they are there."""
    if folder.is_dir():
        return
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    one = partial(_classified if kind == "classification" else _labelled, beside, classes, size)
    with ProcessPoolExecutor() as processes:
        list(processes.map(one, numbers, chunksize=50))
    if kind == "detection":
        (beside / "classes.txt").write_text("thing\nother\n")
    beside.rename(folder)


def _classified(folder: Path, classes: int, size: tuple[int, int], number: int) -> None:
    label = number % classes
    pixels = _blotches(number, size)
    pixels[..., label % 3] += label * 255 // classes - 128
    _save(folder / f"class{label:02}" / f"{number:06}.jpg", pixels)


def _labelled(folder: Path, classes: int, size: tuple[int, int], number: int) -> None:
    draw, (height, width) = np.random.default_rng((number, 1)), size
    pixels = _blotches(number, size) // 2
    tall, wide = (int(side * draw.uniform(0.1, 0.4)) for side in size)
    top, left = int(draw.integers(0, height - tall)), int(draw.integers(0, width - wide))
    pixels[top : top + tall, left : left + wide, number % 2] = 250
    _save(folder / "images" / f"{number:06}.jpg", pixels)
    label = folder / "labels" / f"{number:06}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    box = ((left + wide / 2) / width, (top + tall / 2) / height, wide / width, tall / height)
    label.write_text(f"{number % 2} {' '.join(f'{value:.6f}' for value in box)}\n")


def _blotches(seed: int, size: tuple[int, int]) -> np.ndarray:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (size[0] // GRAIN + 1, size[1] // GRAIN + 1, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth).astype(np.int16) + draw.integers(-8, 8, (*size, 3), dtype=np.int16)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=85)


if __name__ == "__main__":
    main()
