"""What a server leaves behind for people to label: answered images, kept and logged, and a champion; no model is trained.

Of both built-in use cases. Answers are what a test says, so that it knows what a page must show.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from openmlops.adapters.decisions import DecisionRecord, new_id
from openmlops.adapters.inference_log import Entries, Layout
from openmlops.adapters.input_store import sha256_of
from openmlops.core.images.boxes import objects
from openmlops.core.images.decoding import png
from openmlops.core.monitoring.policy import WorthLabelling
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BOXES = np.array([[8, 10, 40, 60, 0.9, 0], [50.25, 20.5, 80, 70.125, 0.6, 0], [90, 5, 110, 30, 0.2, 0]], np.float32)
"""a detector's answer: the last box is below the confidence from which boxes count"""


@dataclass(frozen=True)
class World:
    """A workspace and the predictions in its log, oldest first."""

    workspace: Workspace
    ids: tuple[str, ...]

    @property
    def model(self) -> str:
        return self.workspace.model_name

    def request(self, uncertain: Sequence[str], random: Sequence[str], at: datetime = NOON) -> DecisionRecord:
        """Let a decision ask for labels of these."""
        return self.decide("collect_labels", at, uncertain, random)

    def decide(
        self, action: str, at: datetime = NOON, uncertain: Sequence[str] = (), random: Sequence[str] = ()
    ) -> DecisionRecord:
        """Keep a decision without a window."""
        record = DecisionRecord(
            id=new_id(), model=self.model, version=1, at=at, action=action, reasons=("two windows moved",), by="test",
            labels=WorthLabelling(uncertain=tuple(uncertain), random=tuple(random)),
        )  # fmt: skip
        self.workspace.decisions.append(record)
        return record

    def label_of(self, prediction: str) -> str | None:
        """What the log holds, as JSON."""
        return self.workspace.inference_log.named(self.model, [prediction]).labels[0]

    def boxes_of(self, prediction: str) -> list[list[float]]:
        """Those of its label."""
        found: list[list[float]] = json.loads(self.label_of(prediction) or "null")
        return found

    def tell(self, prediction: str, told: object) -> None:
        """Label an image as a client of /feedback does."""
        self.workspace.inference_log.label(prediction, told, self.workspace.use_case.task.read_label, NOON)

    def with_settings(self, **changed: str) -> "World":
        """The same world with other settings."""
        given = {name: SecretStr(value) if name.endswith("token") else value for name, value in changed.items()}
        return World(Workspace(self.workspace.settings.model_copy(update=given)), self.ids)

    def copy(self, home: Path) -> "World":
        """The same world again, in another folder, to be changed."""
        shutil.copytree(self.workspace.home, home)
        return World(_workspace(home, self.workspace.settings.use_case), self.ids)

    def kept(self, prediction: str) -> Path:
        """The file of its image."""
        return self.workspace.inputs.path(self.workspace.inference_log.named(self.model, [prediction]).input_sha256[0])

    def lose(self, prediction: str) -> None:
        """Prune the image of a prediction."""
        self.kept(prediction).unlink()

    def damage(self, prediction: str) -> None:
        """Let the disk forget some of its image."""
        self.kept(prediction).write_bytes(self.kept(prediction).read_bytes()[:-20])


def classified(home: Path, n: int = 6) -> World:
    """n images of 32x32, answered with classes 0, 1, 2, ... in turn, the first least surely."""
    predictions = np.full((n, 10), 0.0, np.float32)
    for row in range(n):
        sure = 0.2 + 0.7 * row / n
        predictions[row] = (1 - sure) / 9
        predictions[row, row % 10] = sure
    return _world(_workspace(home, "cifar10"), _images(n, 32, 32), predictions, CLASSES)


def detected(home: Path, n: int = 3) -> World:
    """n images of 96x128, each answered with `BOXES`."""
    return _world(_workspace(home, "person"), _images(n, 96, 128), objects([BOXES] * n), ("person",))


def scenes(home: Path, n: int = 6) -> tuple[World, list[np.ndarray]]:
    """Drawn scenes with people, each answered with all true boxes but the first, and a wrong one; the boxes left out."""
    found = _workspace(home, "person")
    assert found.use_case.field is not None
    images, labels = found.use_case.field(n, 0)
    predictions = [np.insert(boxes[1:], 4, 0.8, axis=1) for boxes in labels]
    wrong = np.array([[4, 4, 60, 70, 0.4, 0]], np.float32)
    answered = objects([np.concatenate([boxes, wrong]) for boxes in predictions])
    return _world(found, list(images), answered, ("person",)), [boxes[:1] for boxes in labels]


def _workspace(home: Path, use_case: str) -> Workspace:
    return Workspace(Settings(openmlops_home=home, use_case=use_case, data_raw_dir=home / "raw"))


def _keep(found: Workspace, image: np.ndarray) -> str:
    content = png(image)
    found.inputs.put(content, sha256_of(content))
    return sha256_of(content)


def _images(n: int, height: int, width: int) -> list[np.ndarray]:
    return list(np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8))


def _world(found: Workspace, images: Sequence[np.ndarray], predictions: np.ndarray, classes: tuple[str, ...]) -> World:
    ids = tuple(f"00000000-0000-0000-0000-{row:012d}" for row in range(len(images)))
    found.inference_log.write(
        [
            Entries(
                model=found.model_name,
                version=1,
                layout=Layout(("image.brightness",), classes),
                ids=ids,
                at=[NOON + timedelta(seconds=row) for row in range(len(images))],
                input_sha256=[_keep(found, image) for image in images],
                features=np.array([[image.mean()] for image in images], np.float32),
                predictions=found.use_case.task.pack(predictions),
                latency_ms=[1.0] * len(images),
            )
        ]
    )
    found.ledger.append(found.model_name, 0, "promote", 1, "test", ("the first",), "0" * 64, "0" * 64, None, NOON)
    return World(found, ids)
