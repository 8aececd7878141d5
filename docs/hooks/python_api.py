"""The page of the Python API: which modules users import, in the order in which they meet them. mkdocstrings writes it."""

PAGE = "reference/python.md"
MODULES = (
    "openmlops.operations.workspace",
    "openmlops.usecases.base",
    "openmlops.core.types",
    "openmlops.core.quality",
    "openmlops.core.gate.rules",
    "openmlops.core.monitoring.drift",
    "openmlops.core.monitoring.drift_reference",
    "openmlops.core.monitoring.policy",
    "openmlops.adapters.ledger",
    "openmlops.adapters.inference_log",
    "openmlops.adapters.decisions",
    "openmlops.errors",
)
HEAD = """# Python API

The modules that programs import, from their docstrings. What begins with an underscore may change at any time. A program opens
the [workspace](#openmlops.operations.workspace.Workspace) once and hands it to what it calls:

```python
from openmlops.operations.workspace import Workspace

workspace = Workspace.open()
print(workspace.ledger.champion(workspace.model_name))
```
"""


def page() -> str:
    """The page, in Markdown; `:::` is where mkdocstrings puts a module."""
    return "\n".join([HEAD, *(f"## {name}\n\n::: {name}\n" for name in MODULES)])
