"""Classification of your own images, in one folder per class. `image_folder` returns the use case of a project.

Functions that need torch are lazy, because the server loads this use case without torch.
"""

from functools import partial

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.usecases import classifier
from openmlops.usecases.base import UseCase, lazy, no_sample
from openmlops.usecases.image_folder import data
from openmlops.usecases.image_folder.arrange import arrange
from openmlops.usecases.image_folder.labelled import labelled
from openmlops.usecases.image_folder.recipe import TrainConfig

__all__ = ["TrainConfig", "image_folder"]


def image_folder(
    name: str,
    classes: tuple[str, ...],
    size: int,
    config: type[TrainConfig] = TrainConfig,
    about: str = "Custom images.",
) -> UseCase:
    """The use case `name`, whose data is in the folder of that name below DATA_RAW_DIR.

    `classes`: names of the folders, in the order of the class indices. `size`: side in pixels of the squares that images are
    resized to. `about`: source and licence of the images, for the model card.
    """
    layout = data.ImageFolder(classes, size)
    return UseCase(
        name=name,
        model_name=name,
        folder=name,
        about=about,
        task=CLASSIFICATION,
        config=config,
        read=layout.read,
        check=layout.check,
        split=data.split,
        preprocess=data.preprocess,
        build=lazy("openmlops.usecases.image_folder.model", "build"),
        fit=lazy("openmlops.usecases.image_folder.model", "fit"),
        served=lazy("openmlops.learning.export", "ServedClassifier"),
        decode=layout.decode,
        frame=(size, size),
        to_model_input=data.to_model_input,
        to_predictions=classifier.to_predictions,
        features=classifier.features,
        sample=no_sample,
        extend=layout.extend,
        labelled=partial(labelled, layout),
        files=layout.files,
        arrange=arrange,
        in_layout=data.in_layout,
    )
