"""The page of the Python API: which modules users import, in the order in which they meet them. mkdocstrings writes it."""

PAGE = "reference/python.md"
MODULES = (
    "openmlops.api",
    "openmlops.operations.release.loaded_model",
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

What the commands do, as functions of `openmlops`, in the folder of a project:

```python
import openmlops

outcome = openmlops.train(epochs=2, seed=1)  # as `openmlops train --epochs 2 --seed 1`
model = openmlops.load(f"{outcome.model.name}@champion")
probabilities = model.predict(["a.jpg", "b.jpg"])  # or arrays, Pillow images, bytes
decisions = openmlops.decisions()  # a pandas DataFrame
```

Below are these functions, then the modules that programs import to go further, from their docstrings. What begins with an
underscore may change at any time. Such a program opens the [workspace](#openmlops.operations.workspace.Workspace) once and
hands it to what it calls:

```python
from openmlops.operations.workspace import Workspace

workspace = Workspace.open()
print(workspace.ledger.champion(workspace.model_name))
```
"""


def page() -> str:
    """The page, in Markdown; `:::` is where mkdocstrings puts a module."""
    return "\n".join([HEAD, *(f"## {name}\n\n::: {name}\n" for name in MODULES)])
