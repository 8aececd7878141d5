"""CIFAR-10: ten classes of 32x32 colour images, classified by a small convolutional network.

Functions that need torch are lazy, because the server loads this use case without torch.
"""

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.usecases import BUILT_IN, classifier
from openmlops.usecases.base import UseCase, lazy
from openmlops.usecases.cifar10 import data
from openmlops.usecases.cifar10.extend import extend
from openmlops.usecases.cifar10.recipe import TrainConfig
from openmlops.usecases.cifar10.sample import field, sample

USE_CASE = UseCase(
    name="cifar10",
    model_name=BUILT_IN["cifar10"],
    folder="cifar-10-batches-py",
    about="CIFAR-10 (Krizhevsky, 2009), 60,000 images of ten classes; published for research without a stated licence.",
    task=CLASSIFICATION,
    config=TrainConfig,
    read=data.read,
    check=data.check,
    split=classifier.split,
    preprocess=classifier.preprocess,
    build=lazy("openmlops.usecases.cifar10.model", "build"),
    fit=lazy("openmlops.usecases.cifar10.model", "fit"),
    served=lazy("openmlops.learning.export", "ServedClassifier"),
    decode=data.decode,
    frame=(data.SIDE, data.SIDE),
    to_model_input=classifier.to_model_input,
    to_predictions=classifier.to_predictions,
    features=classifier.features,
    sample=sample,
    field=field,
    archive=data.ARCHIVE,
    extend=extend,
)
