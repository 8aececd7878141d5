"""A trained model and its data, rebuilt from the references that steps pass on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from openmlops.core.classification.calibration import fit_temperature
from openmlops.core.quality import Evaluation
from openmlops.core.types import Preprocessing, TrainedRef, Value
from openmlops.errors import ModelCorrupt
from openmlops.images.lazy import Images
from openmlops.operations.data import datasets, weights
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release import inference
from openmlops.operations.release.model_card import Description
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

GOLDEN_IMAGES, MIN_GOLDEN_IMAGES = 64, 8
GOLDEN_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class RebuiltModel:
    """A trained model and its data, rebuilt from references; each part is loaded on first use."""

    workspace: Workspace
    trained: TrainedRef

    @cached_property
    def rows(self) -> Rows:
        return rows_of(self.workspace, self.trained.splits.dataset)

    @cached_property
    def indices(self) -> dict[str, np.ndarray]:
        return datasets.indices_of(self.workspace, self.trained.splits)

    @cached_property
    def config(self) -> Value:
        return self.workspace.use_case.recorded_config(self.trained.config)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """That of the first layer."""
        use_case = self.workspace.use_case
        return use_case.resolve(self.config, use_case.preprocess(self.rows, self.indices["train"]))[1]

    @cached_property
    def model(self) -> Any:
        """The torch module with its trained weights. Raises ModelCorrupt if they cannot be read or do not match."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        use_case = self.workspace.use_case
        model = use_case.build(self.config, self.preprocessing, self.rows, self.indices["train"])
        path = weights.local(self.workspace, self.trained)
        try:
            model.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            cause = str(error).splitlines()[0]
            raise ModelCorrupt(f"{path} does not contain the trained weights ({cause})", "Train again") from error
        return model

    @cached_property
    def served(self) -> Any:
        """The torch module in the form that is exported and served; that of a classifier with a temperature has the one that
        fits the validation images."""
        served = self.workspace.use_case.served(self.model)
        if hasattr(served, "temperature") and len(self.indices["validation"]):
            served.temperature = fit_temperature(self._logits(served), self.rows.labels[self.indices["validation"]])
        return served

    @property
    def temperature(self) -> float:
        """By what the served module divides the model's logits."""
        return float(getattr(self.served, "temperature", 1.0))

    def _logits(self, served: Any) -> np.ndarray:
        """Logits of the validation images, float32 (n, classes)."""
        from openmlops.learning.export import Eager

        eager, images = Eager(served, self.workspace.use_case.task.outputs), self.images("validation")
        parts = inference.parts_of(len(images), eager.image_shape)
        batches = inference.model_inputs(self.workspace.use_case, eager, images, parts)
        return np.concatenate([eager.run(each.pixels)["logits"] for each in batches])

    @property
    def eager(self) -> inference.Model:
        """The served module in eager mode, for inference."""
        from openmlops.learning.export import Eager

        return Eager(self.served, self.workspace.use_case.task.outputs)

    def images(self, split: str) -> Images:
        """The images of a split, as in `Rows.images`."""
        return self.rows.images[self.indices[split]]

    @property
    def golden(self) -> np.ndarray:
        """The golden batch: validation images as model input, uint8 (n, height, width, 3), at most GOLDEN_IMAGES.

        Evenly spaced over the split, which may be sorted by class.
        """
        (height, width, channels), images = self.eager.image_shape, self.images("validation")
        most = min(GOLDEN_IMAGES, max(MIN_GOLDEN_IMAGES, GOLDEN_BYTES // (height * width * channels)))
        spread = np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)
        (batch,) = inference.model_inputs(self.workspace.use_case, self.eager, images, [spread])
        return batch.pixels

    def describe(self, evaluation: Evaluation, parity: float) -> Description:
        """The description of the version. `parity` is the largest difference of outputs of the exported model."""
        use_case, splits = self.workspace.use_case, self.trained.splits
        height, width, channels = self.eager.image_shape
        return Description(
            use_case=use_case.name,
            model=self.workspace.model_name,
            about=use_case.about,
            classes=self.rows.names,
            image_shape=(height, width, channels),
            dataset=splits.dataset.fingerprint,
            dataset_rows=splits.dataset.rows,
            split=splits.fingerprint,
            split_seed=splits.seed,
            train_rows=splits.train,
            validation_rows=splits.validation,
            test_rows=splits.test,
            config=self.trained.config,
            preprocessing=self.preprocessing,
            parity=parity,
            temperature=self.temperature,
            origin=use_case.origin(self.config),
            kept=self.trained.kept,
            evaluation=evaluation,
            cross_validation=self.trained.cross_validation,
        )
