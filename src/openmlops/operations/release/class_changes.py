"""What became of the classes since a version was trained, by name: new ones, removed ones, another order.

Not here: how predictions are mapped to other classes (`core.tasks`), and the verdict (`gate`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from openmlops.core.types import ModelRef
from openmlops.errors import ModelCorrupt, ModelNotFound
from openmlops.names import composed, position
from openmlops.operations.release.aliases import version_of
from openmlops.operations.release.cached_predictions import sealed_classes
from openmlops.operations.release.evaluation_sets import EvaluationSet
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

NEW_CLASSES = "new classes"
"""name of the evaluation set of the classes that the champion cannot know"""


@dataclass(frozen=True)
class ClassChanges:
    """The classes of champion, challenger and data. `judged` is the part of the holdout that the champion can know; `new` are
    the numbers of the classes of the test images that the challenger knows and the champion does not."""

    champion: int
    champion_classes: tuple[str, ...]
    data_classes: tuple[str, ...]
    judged: EvaluationSet
    new: tuple[int, ...]

    @classmethod
    def of(cls, holdout: EvaluationSet, champion: ModelRef, challenger_classes: Sequence[str]) -> "ClassChanges":
        """The changes for a challenger of these classes. Raises ModelNotFound and ModelCorrupt for the champion's files."""
        known = sealed_classes(holdout.workspace, champion)
        new = tuple(
            number
            for number, name in enumerate(holdout.names)
            if position(name, known) is None
            and position(name, challenger_classes) is not None
            and not holdout.of_classes([number]).is_empty
        )
        return cls(champion.version, known, holdout.names, holdout.known_to(known), new)

    def notes(self) -> tuple[str, ...]:
        """What is told with the verdict, a sentence each."""
        return told(self.champion, self.champion_classes, self.data_classes)


def told(version: int, classes: Sequence[str], data_classes: Sequence[str]) -> tuple[str, ...]:
    """What a version of `classes` cannot know of the data, and what the data no longer has, a sentence each."""
    added = [name for name in data_classes if position(name, classes) is None]
    removed = [name for name in classes if position(name, data_classes) is None]
    found = []
    if added:
        found.append(f"Version {version} does not know {_listed(added)}: new classes are judged apart.")
    if removed:
        found.append(f"The data no longer has {_listed(removed)} of version {version}: nothing is judged on it.")
    return tuple(found)


def tell_class_changes(workspace: Workspace, data_classes: Sequence[str]) -> None:
    """Before a training: say on standard error how the data's classes differ from the champion's, and what the gate will do.

    Says nothing if there is no champion, or if its files are gone, of which `gate.check_champion` tells.
    """
    name = workspace.model_name
    champion = workspace.ledger.champion(name)
    if champion is None:
        return
    try:
        classes = sealed_classes(workspace, version_of(workspace, name, champion))
    except (ModelNotFound, ModelCorrupt):
        return
    for note in told(champion, classes, data_classes):
        say(f"Note: {note}")
    if not any(position(each, classes) is not None for each in data_classes):
        say(f"Warning: version {champion}, the champion, knows no class of the data, so the gate will compare nothing.")
    elif sorted(map(composed, classes)) == sorted(map(composed, data_classes)) and tuple(classes) != tuple(data_classes):
        say(f"Note: the classes have another order than in version {champion}; they are compared by name.")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
