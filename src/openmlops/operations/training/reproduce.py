"""Reproducibility check: retrains a version from its recorded data, split, preprocessing and configuration, and compares
the weights.

Not here: evaluation of the model. Nothing is registered and no run is created.
"""

from pathlib import Path

import numpy as np

from openmlops.adapters.data_versions import fingerprint_of
from openmlops.adapters.provenance import provenance
from openmlops.core.types import DatasetRef, ModelRef, SplitsRef, Value
from openmlops.errors import DataError, ModelCorrupt
from openmlops.operations.data import datasets, versions
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release.aliases import find_version
from openmlops.operations.release.model_card import DESCRIPTION_FILE, Description
from openmlops.operations.training.train import code_fingerprint
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder
from openmlops.terminal import training_progress

WEIGHTS_FILE = "weights.safetensors"


class Ingredient(Value):
    """One input that determines the weights: the recorded and the current value."""

    name: str
    recorded: str
    now: str

    @property
    def changed(self) -> bool:
        """Whether the current value differs from the recorded one."""
        return self.recorded != self.now


class Verification(Value):
    """Whether retraining reproduced the recorded weights. `largest_difference` is the largest absolute one over all weights."""

    model: ModelRef
    reproduced: bool
    largest_difference: float
    tensors: int
    differing: int
    changed: tuple[Ingredient, ...]
    seconds: float

    @property
    def summary(self) -> str:
        """The result in one sentence."""
        if self.reproduced:
            return f"Bit-identical: all {self.tensors} tensors of {self.model.name}/{self.model.version} were reproduced"
        why = ", ".join(ingredient.name for ingredient in self.changed) or "nothing recorded"
        return (
            f"{self.differing} of {self.tensors} tensors differ, by {self.largest_difference:.3g} at most; changed since: {why}"
        )


def verify(workspace: Workspace, spec: str) -> Verification:
    """Retrain `MODEL/3` or `MODEL@champion` and compare every weight.

    Raises ModelNotFound, ModelCorrupt, DataError if the recorded data cannot be restored, TrainingError.
    """
    model = find_version(workspace, spec)
    folder = workspace.registry.fetch(model)
    description = Description.read(folder / DESCRIPTION_FILE)
    with temporary_folder(_scratch(workspace), "verify-") as scratch:
        splits = _splits(workspace, model, description)
        weights, seconds = _retrain(workspace, splits, description, scratch)
        ingredients = _ingredients(workspace, model, description, splits)
    return _compare(model, _recorded(folder), weights, tuple(i for i in ingredients if i.changed), seconds)


def _scratch(workspace: Workspace) -> Path:
    workspace.home.mkdir(parents=True, exist_ok=True)
    return workspace.home


def _splits(workspace: Workspace, model: ModelRef, description: Description) -> SplitsRef:
    """The recorded data version, restored and verified, split with the recorded seed."""
    record = workspace.tracking.read_files(model.run_id, "data")
    if not record:
        raise DataError(
            f"The run {model.run_id} has no data version recorded", "Only versions trained by openmlops can be verified"
        )
    name, fingerprint = workspace.use_case.name, fingerprint_of(record) or description.dataset
    dataset = DatasetRef(name=name, fingerprint=fingerprint, rows=description.dataset_rows)
    versions.local(workspace, dataset, record)
    return datasets.split(workspace, dataset, description.split_seed)


def _retrain(
    workspace: Workspace, splits: SplitsRef, description: Description, scratch: Path
) -> tuple[dict[str, np.ndarray], float]:
    use_case = workspace.use_case
    rows, indices = rows_of(workspace, splits.dataset), datasets.indices_of(workspace, splits)
    config = use_case.recorded_config(description.config)
    model = use_case.build(config, description.preprocessing, rows, indices["train"])
    with training_progress() as progress:
        result = use_case.fit(
            model,
            rows,
            indices,
            config,
            folder=scratch / "training",
            key="verify",
            on_epoch=progress.epoch,
            on_step=progress.step,
        )
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, result.seconds


def _recorded(folder: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelCorrupt(
            f"{folder / WEIGHTS_FILE} cannot be read ({type(error).__name__})", "Fetch the version again"
        ) from error


def _ingredients(workspace: Workspace, model: ModelRef, description: Description, splits: SplitsRef) -> tuple[Ingredient, ...]:
    tags, here = workspace.tracking.tags(model.run_id), provenance()
    names = {"platform": "platform", "python": "Python", "environment.sha256": "installed packages"}
    return (
        Ingredient(name="data", recorded=description.dataset, now=splits.dataset.fingerprint),
        Ingredient(name="split", recorded=description.split, now=splits.fingerprint),
        Ingredient(name="training code", recorded=tags.get("openmlops.code", ""), now=code_fingerprint(workspace)),
        *(Ingredient(name=name, recorded=tags.get(tag, ""), now=here.get(tag, "")) for tag, name in names.items()),
    )


def _compare(
    model: ModelRef,
    recorded: dict[str, np.ndarray],
    now: dict[str, np.ndarray],
    changed: tuple[Ingredient, ...],
    seconds: float,
) -> Verification:
    names = recorded.keys() | now.keys()
    gaps = {name: _gap(recorded.get(name), now.get(name)) for name in names}
    differing = [gap for gap in gaps.values() if gap > 0]
    return Verification(
        model=model,
        reproduced=not differing,
        largest_difference=max(differing, default=0.0),
        tensors=len(names),
        differing=len(differing),
        changed=changed,
        seconds=seconds,
    )


def _gap(first: np.ndarray | None, second: np.ndarray | None) -> float:
    """Largest absolute difference; infinite if a tensor is missing or its shape differs, the smallest float if only
    bits differ."""
    if first is None or second is None or first.shape != second.shape or first.dtype != second.dtype:
        return float("inf")
    if first.tobytes() == second.tobytes():
        return 0.0
    return max(float(np.abs(first.astype(np.float64) - second.astype(np.float64)).max()), float(np.finfo(np.float64).tiny))
