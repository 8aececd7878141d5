"""Images and labels that versions are evaluated on, in terms of the data's classes.

Each version is judged by class name: the order and number of its own classes do not matter. What a version cannot know because
its data had no such class is left out of a comparison with it (`known_to`). Not here: the verdict (`gate`).
"""

from collections.abc import Sequence

import numpy as np

from openmlops.core.gate.rules import Contender
from openmlops.core.types import Comparison, ModelRef, SplitsRef
from openmlops.errors import GateError
from openmlops.images.lazy import Images, sizes
from openmlops.names import position
from openmlops.operations.data.datasets import indices_of
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release.cached_predictions import cached_predictions
from openmlops.operations.release.trained_on import seen_by, unseen
from openmlops.operations.workspace import Workspace

HOLDOUT = "holdout"


class EvaluationSet:
    """n images and labels; `names` are the classes by their numbers in the labels. Only `rows` of the images are judged."""

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        images: Images,
        labels: np.ndarray,
        names: tuple[str, ...],
        rows: np.ndarray | None = None,
    ) -> None:
        self.workspace, self.name, self.images, self.names = workspace, name, images, names
        self.labels, self.rows = labels, np.arange(len(labels)) if rows is None else rows
        self.task = workspace.use_case.task

    def of_classes(self, classes: Sequence[int], name: str = "") -> "EvaluationSet":
        """The part on which only these classes are judged."""
        rows, labels = self.task.of_classes(self.labels, classes)
        return EvaluationSet(self.workspace, name or self.name, self.images, labels, self.names, self.rows[rows])

    def known_to(self, classes: Sequence[str]) -> "EvaluationSet":
        """The part that a version of these classes can know."""
        known = [number for number, name in enumerate(self.names) if position(name, classes) is not None]
        return self if len(known) == len(self.names) else self.of_classes(known)

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it can be judged: no image, or no box in any label."""
        return not len(self.labels) or (self.labels.dtype == object and not any(len(each) for each in self.labels))

    def predictions(self, model: ModelRef) -> np.ndarray:
        """Predictions of the version's exported model."""
        return cached_predictions(self.workspace, model, self.images, self.names)[self.rows]

    def contender(self, model: ModelRef) -> Contender:
        """The version with its score."""
        score = self.task.score_of(self.labels, self.predictions(model), len(self.names))
        return Contender(version=model.version, sha256=model.sha256, score=score)

    def compare(self, challenger: ModelRef, opponent: ModelRef) -> Comparison:
        """Both versions on the same images."""
        ours, theirs = self.predictions(challenger), self.predictions(opponent)
        return self.task.compare(self.name, self.labels, ours, theirs, opponent.version, self.name == HOLDOUT)


class Holdout(EvaluationSet):
    """The frozen test split, without the images that one of the `contenders` was trained on: it knows their answers. Raises
    GateError if no image is left."""

    def __init__(self, workspace: Workspace, splits: SplitsRef, contenders: Sequence[ModelRef] = ()) -> None:
        rows, whole = rows_of(workspace, splits.dataset), indices_of(workspace, splits)["test"]
        version = f"{splits.dataset.name}, version {splits.dataset.fingerprint[:12]},"
        if len(whole) == 0:
            raise GateError(f"The test split of {version} has no images", "Add a test set to the data")
        test = unseen(rows.images, whole, seen_by(workspace, contenders))
        if len(test) == 0:
            problem = f"All {len(whole)} images of the test split of {version} were trained on by a version to be compared"
            raise GateError(problem, "Add test images that were never in a training or validation split")
        left = len(whole) - len(test)
        seen = f"{left} of {len(whole)} test images are left out: this version or a champion was trained on them."
        self.notes: tuple[str, ...] = (seen,) if left else ()
        super().__init__(workspace, HOLDOUT, rows.images[test], rows.labels[test], rows.names)
        self.data = rows

    @property
    def floor(self) -> float:
        """The score of the best constant prediction."""
        return self.task.floor(sizes(self.images), self.labels, len(self.names))
