"""What the steps of a finished pipeline run returned."""

from collections.abc import Callable
from typing import Any


def outputs_of(run: Any) -> Callable[[str], Any]:
    """Step name -> the value of its only output."""

    def output(step: str) -> Any:
        ((artifact,),) = run.steps[step].outputs.values()
        return artifact.load()

    return output
