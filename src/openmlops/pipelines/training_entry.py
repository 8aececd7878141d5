"""The entry to training for the command line and the Python API: the options, and the pipeline of the use case.

ZenML is imported when the pipeline is run. Not here: the pipelines (`training_pipeline`, `person_baseline`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openmlops.errors import SettingsError
from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    from openmlops.core.quality import TrainingOutcome
    from openmlops.core.types import Value


def run(workspace: Workspace, config: "Value", folds: int = 0) -> "TrainingOutcome":
    """Run the training pipeline, with ZenML's store under OPENMLOPS_HOME unless the user has configured one."""
    from openmlops.settings import embed_zenml
    from openmlops.usecases.base import LazyFunction

    if isinstance(fit := workspace.use_case.fit, LazyFunction):
        fit.require()  # report a missing extra before ZenML starts
    embed_zenml(workspace.home)
    if workspace.use_case.name == "person":
        from openmlops.pipelines.person_baseline import run_baseline

        return run_baseline(config, folds)
    from openmlops.pipelines.training_pipeline import run_training

    return run_training(config, folds)


def config_of(workspace: Workspace, given: dict[str, Any], called: Callable[[str], str] = str) -> "Value":
    """The use case's TrainConfig with the given options, those that are None left out. `called`: how the user writes an option.
    Raises SettingsError naming option and value."""
    from pydantic import ValidationError

    chosen = {name: value for name, value in given.items() if value is not None}
    if unknown := sorted(chosen.keys() - workspace.use_case.config.model_fields.keys()):
        problem = f"{called(unknown[0])} is not an option of the use case '{workspace.use_case.name}'"
        raise SettingsError(problem, "Remove it")
    try:
        return workspace.use_case.config(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else sorted(chosen)[0]
        problem = f"{called(name)} has the value {chosen.get(name)!r}: {first['msg'].lower()}"
        raise SettingsError(problem, "See 'openmlops train --help'") from None
