"""Runs a pipeline and reads the outputs of its steps.

ZenML imports steps by module name relative to a source root, by default the folder of the main module. With
`python -m openmlops` that is the package's own folder, and every module would be imported twice under different names; with
`python -c` there is none.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zenml.integrations.registry import integration_registry
from zenml.utils import source_utils

from openmlops.adapters import zenml_store
from openmlops.operations.release.gate import check_champion
from openmlops.operations.retries import require_services
from openmlops.operations.run_leases import close_orphans
from openmlops.pipelines.stack import open_workspace
from openmlops.settings import zenml_folder
from openmlops.terminal import say

NOT_RETURNED = ("numpy", "pandas", "pillow", "polars", "pytorch", "scipy", "sklearn")
"""ZenML's integrations that only bring materializers, and import torch or scikit-learn to do so: our steps return values"""
PACKAGE = Path(__file__).resolve().parents[1]


def outputs_of(pipeline: Callable[..., Any], trains: bool = True, **arguments: Any) -> Callable[[str], Any]:
    """Run a pipeline on the active stack. Returns a function: step name -> value of that step's only output. Raises the
    error of a failed step.

    Services must be reachable at the start; during the run, steps wait for them. What would fail after a training is checked
    before it, if the pipeline `trains`.
    """
    workspace = open_workspace()
    if gone := zenml_store.what_is_gone(zenml_folder()):
        say(f"ZenML: {gone}. {zenml_store.AGAIN}.")
    require_services(workspace, experiment=trains)
    close_orphans(workspace)
    if trains:
        check_champion(workspace)
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is None or PACKAGE in Path(main).resolve().parents:
        source_utils.set_custom_source_root(str(PACKAGE.parent))
    with _without_materializers():
        run = pipeline(**arguments)

    def output(step: str) -> Any:
        ((artifact,),) = run.steps[step].outputs.values()
        return artifact.load()

    return output


@contextmanager
def _without_materializers() -> Iterator[None]:
    """Before a pipeline's first step ZenML activates every integration whose packages are installed; here, all but these."""
    found = [integration_registry.integrations[name] for name in NOT_RETURNED]
    activations = [vars(integration)["activate"] for integration in found]
    for integration in found:
        setattr(integration, "activate", _nothing)  # noqa: B010 (a method, which mypy lets nobody assign)
    try:
        yield
    finally:
        for integration, activate in zip(found, activations, strict=True):
            setattr(integration, "activate", activate)  # noqa: B010


def _nothing() -> None:
    """What such an integration does when it is activated."""
