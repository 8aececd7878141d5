"""The weights of trainings: in OPENMLOPS_HOME/weights by MLflow run, and kept for other machines by their SHA-256."""

from pathlib import Path

from openmlops.core.types import Content, TrainedRef
from openmlops.errors import DataError
from openmlops.files import sha256_of
from openmlops.operations.workspace import Workspace


def place(home: Path, run_id: str) -> Path:
    """Where the weights of a run lie on this machine."""
    return home / "weights" / f"{run_id}.safetensors"


def named(path: Path) -> Content:
    """What a file of weights is called."""
    return Content(kind="weights", sha256=sha256_of(path))


def keep(workspace: Workspace, trained: TrainedRef) -> None:
    """Keep the weights, which this home has, for the steps that follow. Raises ServiceUnavailable."""
    workspace.contents.keep("weights", place(workspace.home, trained.run_id))


def local(workspace: Workspace, trained: TrainedRef) -> Path:
    """The file of the weights, fetched if it is not here, and verified; the one of the run, as it is, for a reference of an
    earlier release. Raises DataError if there is none."""
    path = place(workspace.home, trained.run_id)
    if trained.weights:
        return workspace.contents.local(trained.weights, path)
    if not path.is_file():
        raise DataError(f"There is no file {path}, in which an earlier release kept the weights", "Train again")
    return path
