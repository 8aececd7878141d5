"""Classification of your own images, in one folder per class. `image_folder` returns the use case of a project.

Functions that need torch are lazy, because the server loads this use case without torch.
"""

from functools import partial

from pydantic import Field, create_model

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
    size: int | None = None,
    config: type[TrainConfig] = TrainConfig,
    about: str = "Custom images.",
) -> UseCase:
    """The use case `name`, whose data is in the folder of that name below DATA_RAW_DIR.

    `classes`: names of the folders, in the order of the class indices. `size`: side in pixels of the square around the centre
    that the model is shown, unless the configuration names one; None: the backbone's own. `about`: source and licence of the
    images, for the model card.
    """
    layout = data.ImageFolder(classes, size or data.SIDE)
    sized = create_model(
        config.__name__,
        __base__=config,
        __module__=config.__module__,
        __doc__=config.__doc__,
        size=(int | None, Field(size, ge=16, le=1024, description=config.model_fields["size"].description)),
    )
    return UseCase(
        name=name,
        model_name=name,
        folder=name,
        about=about,
        task=CLASSIFICATION,
        config=sized,
        read=layout.read,
        check=layout.check,
        split=data.split,
        preprocess=data.preprocess,
        build=lazy("openmlops.usecases.image_folder.model", "build"),
        fit=lazy("openmlops.usecases.image_folder.model", "fit"),
        served=lazy("openmlops.learning.export", "ServedClassifier"),
        decode=layout.decode,
        decode_for=data.decode_for,
        to_model_input=data.to_model_input,
        to_predictions=classifier.to_predictions,
        features=classifier.features,
        sample=no_sample,
        extend=layout.extend,
        labelled=partial(labelled, layout),
        files=layout.files,
        arrange=arrange,
        in_layout=data.in_layout,
        resolve=lazy("openmlops.usecases.image_folder.model", "resolve"),
        origin=lazy("openmlops.usecases.image_folder.model", "origin"),
        resizings={"crop": data.cropped_to_model_input},
        unrecorded={"backbone": "none"},
    )
