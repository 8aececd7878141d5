"""How good the CIFAR-10 network gets in a given time, beside the plain tutorial recipe on the same machine. Prints Markdown.

DATA is a folder in the CIFAR-10 layout. Each budget (seconds of training) takes the recipe that `openmlops train --budget`
takes; accuracy is on the publisher's test images, one view each, which nothing was chosen on. The tutorial recipe is what
beginners copy: PIL transforms one image at a time, a DataLoader with two workers, three convolutions, Adam, three epochs.
After it, our recipe gets a quarter of the seconds that it took: it must be at least as good.

    python benchmarks/train_cifar10.py DATA [--budgets 60 180 600] [--tutorial]

The figures are wall-clock seconds: they mean something on a machine with nothing else to do. Cpu-seconds are printed beside
them; with two cores of our own, they are about 1.9 times the seconds.
"""

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from openmlops.core.types import Preprocessing
from openmlops.usecases import classifier
from openmlops.usecases.base import Rows
from openmlops.usecases.cifar10 import data, model
from openmlops.usecases.cifar10.recipe import TrainConfig

TUTORIAL_EPOCHS = 3
FASTER = 4


def main(folder: Path, budgets: list[float], tutorial: bool) -> None:
    rows = data.read(folder)
    splits = classifier.split(rows, 0)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| recipe | test accuracy | epochs | seconds | cpu-seconds |\n|---|---|---|---|---|")
    for budget in budgets:
        ours(rows, splits, budget)
    if tutorial:
        seconds, reached = tutorial_recipe(rows, splits)
        accuracy = ours(rows, splits, seconds / FASTER)
        verdict = "reached" if accuracy >= reached else "NOT reached"
        print(f"\nThe tutorial's accuracy was {verdict} in 1/{FASTER} of its time.")


def ours(rows: Rows, splits: dict[str, np.ndarray], budget: float) -> float:
    """Train for `budget` seconds; test accuracy."""
    train = splits["train"]
    preprocessing, config = classifier.preprocess(rows, train), TrainConfig(budget=budget)
    network = model.build(config, preprocessing, rows, train)
    cpu = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        result = model.fit(network, rows, splits, config, folder=Path(folder), key="", on_epoch=lambda metrics: None)
    cpu = cpu_seconds() - cpu
    test = torch.from_numpy(rows.images[splits["test"]]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        predictions = torch.cat([network(batch)[0].argmax(1) for batch in test.split(500)])
    settled = result.config
    assert isinstance(settled, TrainConfig)
    assert settled.steps is not None
    assert settled.batch_size is not None
    name = f"ours, {budget:.0f} s: {settled.channels}, batch {settled.batch_size}, {settled.precision}"
    epochs = settled.steps * settled.batch_size / len(train)
    return report(name, predictions.numpy(), rows.labels[splits["test"]], epochs, result.seconds, cpu)


def report(name: str, predictions: np.ndarray, labels: np.ndarray, epochs: float, seconds: float, cpu: float) -> float:
    """Print one line of the table; accuracy."""
    accuracy = float(np.mean(predictions == labels))
    print(f"| {name} | {accuracy:.4f} | {epochs:.1f} | {seconds:.0f} | {cpu:.0f} |", flush=True)
    return accuracy


def cpu_seconds() -> float:
    """Of this process and its workers that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Images(Dataset):
    """One image at a time through PIL, as torchvision's CIFAR10 gives them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: T.Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), int(self.labels[row])


def tutorial_network() -> nn.Module:
    """Three convolutions and two linear layers."""
    sides = ((3, 32), (32, 64), (64, 128))
    layers = [(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for inputs, outputs in sides]
    convolutions = [layer for group in layers for layer in group]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(128 * 4 * 4, 256), nn.ReLU(), nn.Linear(256, 10))


def tutorial_recipe(rows: Rows, splits: dict[str, np.ndarray]) -> tuple[float, float]:
    """Train as the tutorials do; seconds and test accuracy."""
    train, test = splits["train"], splits["test"]
    preprocessing = classifier.preprocess(rows, train)
    augmented = T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), *normalised(preprocessing)])
    training = DataLoader(Images(rows.images[train], rows.labels[train], augmented), 64, shuffle=True, num_workers=2)
    torch.manual_seed(0)
    network = tutorial_network()
    optimizer = torch.optim.Adam(network.parameters())
    started, cpu = time.perf_counter(), cpu_seconds()
    for _ in range(TUTORIAL_EPOCHS):
        for images, labels in training:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    network.eval()
    testing = DataLoader(Images(rows.images[test], rows.labels[test], T.Compose(normalised(preprocessing))), 500)
    with torch.inference_mode():
        predictions = torch.cat([network(images).argmax(1) for images, _ in testing])
    return seconds, report("tutorial", predictions.numpy(), rows.labels[test], TUTORIAL_EPOCHS, seconds, cpu)


def normalised(preprocessing: Preprocessing) -> list[object]:
    """The tutorial's last two transforms, with this data set's own moments (pixel units / 255)."""
    mean, std = ([value / 255 for value in values] for values in (preprocessing.mean, preprocessing.std))
    return [T.ToTensor(), T.Normalize(mean, std)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budgets", type=float, nargs="+", default=[60, 180, 600], help="seconds of training")
    parser.add_argument("--tutorial", action="store_true", help="compare with the tutorial recipe")
    arguments = parser.parse_args()
    main(arguments.data, arguments.budgets, arguments.tutorial)
