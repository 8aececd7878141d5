"""Preconditions of actions: why an action is not possible here, with the command that runs it elsewhere."""

from importlib.util import find_spec

from openmlops.operations.workspace import Workspace


class Preconditions:
    """Preconditions of one workspace. Each method returns a sentence; empty if the action is possible."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def to_promote(self, model: str) -> str:
        """The gate runs both versions on the test images: it needs the data set and DVC."""
        command = f"run `openmlops promote {model}/VERSION` where they are available"
        if other := self._other(model):
            return other
        if find_spec("dvc") is None:
            return f"The gate requires OpenMLOps' training dependencies, which are not installed here: {command}"
        if not self._workspace.data_folder.is_dir():
            return f"The gate requires the test images, and {self._workspace.data_folder.name} is not available here: {command}"
        return ""

    def to_run_cycle(self, model: str) -> str:
        """A cycle is a ZenML pipeline that may train."""
        if other := self._other(model):
            return other
        missing = [name for name in ("zenml", "evidently", "torch") if find_spec(name) is None]
        if missing:
            return (
                f"A cycle requires {', '.join(missing)}, not installed here: run `openmlops cycle` where training is installed"
            )
        return ""

    def _other(self, model: str) -> str:
        if model == self._workspace.model_name:
            return ""
        ours = f"{self._workspace.model_name} of the use case {self._workspace.settings.use_case}"
        return f"This console can act only on {ours}. Start another with MODEL_NAME={model} and its --use-case"
