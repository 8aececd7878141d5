"""Detection on your own images in YOLO's layout. `yolo_folder` returns the use case of a project.

Training needs the optional extra `yolo` (ultralytics, AGPL-3.0; docs/decisions/0003); reading data, serving and monitoring do
not. Functions that need torch or ultralytics are lazy, because the server loads this use case without them.
"""

from openmlops.core.detection.task import DETECTION
from openmlops.usecases.base import UseCase, lazy, no_sample
from openmlops.usecases.yolo_folder import data, features, inference
from openmlops.usecases.yolo_folder.arrange import arrange
from openmlops.usecases.yolo_folder.extend import extend
from openmlops.usecases.yolo_folder.folder import label_path
from openmlops.usecases.yolo_folder.labelled import labelled
from openmlops.usecases.yolo_folder.recipe import TrainConfig

__all__ = ["TrainConfig", "yolo_folder"]

NEEDS = {"ultralytics": "yolo", "cv2": "yolo"}
"""package -> the optional extra that installs it"""


def yolo_folder(name: str, config: type[TrainConfig] = TrainConfig, about: str = "Custom images.") -> UseCase:
    """The use case `name`, whose data is in the folder of that name below DATA_RAW_DIR; its `data.yaml` names the classes.

    `about`: source and licence of the images, for the model card.
    """
    return UseCase(
        name=name,
        model_name=name,
        folder=name,
        about=about,
        task=DETECTION,
        config=config,
        read=data.read,
        check=data.check,
        split=data.split,
        preprocess=data.preprocess,
        build=lazy("openmlops.usecases.yolo_folder.model", "build", NEEDS),
        fit=lazy("openmlops.usecases.yolo_folder.training", "fit", NEEDS),
        served=lazy("openmlops.usecases.yolo_folder.model", "served", NEEDS),
        decode=data.decode,
        to_model_input=inference.to_model_input,
        to_predictions=inference.to_predictions,
        features=features.features,
        sample=no_sample,
        extend=extend,
        labelled=labelled,
        files=data.files,
        beside=lambda path: (label_path(path),),
        names=data.names,
        arrange=arrange,
        in_layout=data.in_layout,
        leave_out_bad_labels=data.leave_out_bad_labels,
    )
