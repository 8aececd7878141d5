"""Classification of one's own images, a folder for each class. `image_folder` makes the use case of a project.

The functions that need torch are named, not imported: the server loads this use case too.
"""

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.usecases import classifier
from openmlops.usecases.base import UseCase, lazy, no_sample
from openmlops.usecases.image_folder import data
from openmlops.usecases.image_folder.recipe import TrainConfig

__all__ = ["TrainConfig", "image_folder"]


def image_folder(
    name: str,
    classes: tuple[str, ...],
    size: int,
    config: type[TrainConfig] = TrainConfig,
    about: str = "Images of one's own.",
) -> UseCase:
    """The use case `name`, its data below DATA_RAW_DIR in the folder of that name.

    `classes`: names of the folders, in the order of their numbers. `size`: side in pixels of the squares that images are scaled
    to. `about`: source and licence of the images, for the model card.
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
        to_model_input=data.to_model_input,
        to_predictions=classifier.to_predictions,
        features=classifier.features,
        sample=no_sample,
        extend=layout.extend,
        labelled=layout.labelled,
    )
