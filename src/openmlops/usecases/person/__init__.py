"""People in images: one class, found by YOLOv8 nano, on a few images of COCO or on drawn scenes.

Training needs the optional extra `yolo` (ultralytics, AGPL-3.0; docs/decisions/0003); reading data, serving and monitoring do
not. The functions that need torch or ultralytics are named, not imported: the server loads this use case too.
"""

from openmlops.core.detection_task import DETECTION
from openmlops.usecases.base import Archive, UseCase, on_call
from openmlops.usecases.person import answering, data, features
from openmlops.usecases.person.extend import extend
from openmlops.usecases.person.recipe import TrainConfig
from openmlops.usecases.person.sample import field, sample
from openmlops.usecases.person.tiny import tiny_person

COCO128 = Archive(
    url="https://github.com/ultralytics/assets/releases/download/v0.0.0/coco128.zip",
    checksum="sha256:61e5e3028863d8ffc3b81d6a514603954889f0edd5e4b44c4ce60b2da99aeb8e",
    folder="coco128",
)
YOLOV8N = Archive(
    url="https://github.com/ultralytics/assets/releases/download/v8.4.0/yolov8n.pt",
    checksum="sha256:f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
    folder="yolov8n.pt",
)
_NEEDS = {"ultralytics": "yolo", "cv2": "yolo"}

USE_CASE = UseCase(
    name="person",
    model_name="person_yolo",
    folder="person",
    about="COCO (Lin et al., 2014), annotations under CC BY 4.0, images under the terms of Flickr; or drawn scenes.",
    task=DETECTION,
    config=TrainConfig,
    read=data.read,
    check=data.check,
    split=data.split,
    preprocess=data.preprocess,
    build=on_call("openmlops.usecases.person.model", "build", _NEEDS),
    fit=on_call("openmlops.usecases.person.training", "fit", _NEEDS),
    served=on_call("openmlops.usecases.person.model", "served", _NEEDS),
    decode=data.decode,
    show=answering.show,
    answer=answering.answer,
    features=features.features,
    sample=sample,
    field=field,
    archive=COCO128,
    from_archive=tiny_person,
    extend=extend,
    weights=YOLOV8N,
)
