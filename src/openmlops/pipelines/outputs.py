"""Running a pipeline, and what its steps returned.

ZenML finds steps again by the name of their module below a source root, which is the folder of the main module. Started as
`python -m openmlops` that would be the package's own folder, and every module would be imported a second time under another
name; started by `python -c` there would be none.
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
    """Run a pipeline on the active stack -> step name -> the value of that step's only output. Raises what a step raised.

    First the services must answer at once; later, steps wait for them.
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
