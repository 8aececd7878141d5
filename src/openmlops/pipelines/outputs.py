"""Runs a pipeline and reads the outputs of its steps.

ZenML imports steps by module name relative to a source root, by default the folder of the main module. With
`python -m openmlops` that is the package's own folder, and every module would be imported twice under different names; with
`python -c` there is none.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zenml.utils import source_utils

from openmlops.operations.retries import require_services
from openmlops.operations.run_leases import close_orphans
from openmlops.pipelines.stack import open_workspace

PACKAGE = Path(__file__).resolve().parents[1]


def outputs_of(pipeline: Callable[..., Any], **arguments: Any) -> Callable[[str], Any]:
    """Run a pipeline on the active stack. Returns a function: step name -> value of that step's only output. Raises the
    error of a failed step.

    Services must be reachable at the start; during the run, steps wait for them.
    """
    workspace = open_workspace()
    require_services(workspace)
    close_orphans(workspace)
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is None or PACKAGE in Path(main).resolve().parents:
        source_utils.set_custom_source_root(str(PACKAGE.parent))
    run = pipeline(**arguments)

    def output(step: str) -> Any:
        ((artifact,),) = run.steps[step].outputs.values()
        return artifact.load()

    return output
