"""How labelled production inputs came: drawn at random, asked about because the champion was uncertain, or of themselves.

Not here: drawing them (`core.monitoring.sampling`), and which of them may be trained on (`production_labels`).
"""

from collections.abc import Sequence
from typing import Literal

from openmlops.adapters.labelled_inputs import LabelledInput
from openmlops.operations.workspace import Workspace

Came = Literal["random", "uncertain", "itself"]
REQUESTS = 1000
"""latest decisions of a model that are searched for requests of earlier releases, whose draw is not stored"""


def came(workspace: Workspace, model: str, inputs: Sequence[LabelledInput]) -> dict[str, Came]:
    """How each input came, by its SHA-256. One that came in several ways counts as drawn at random if it ever was, else as
    asked about because of uncertainty."""
    draws = workspace.label_draws.of([found.prediction for found in inputs])
    random = {name for draw in draws for name, each in draw.items() if each.at_random}
    uncertain = {name for draw in draws for name, each in draw.items() if each.stratum == "uncertain"}
    for record in workspace.decisions.list(model, REQUESTS):
        random |= set(record.labels.random)
        uncertain |= set(record.labels.uncertain)
    found: dict[str, Came] = {}
    for each in inputs:
        how: Came = "random" if each.prediction in random else "uncertain" if each.prediction in uncertain else "itself"
        found[each.sha256] = min(found.get(each.sha256, how), how, key=("random", "uncertain", "itself").index)
    return found
