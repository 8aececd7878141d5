"""Person detection: one class, YOLOv8 nano, on a subset of COCO128 or on generated scenes.

Training needs the optional extra `yolo` (ultralytics, AGPL-3.0; docs/decisions/0003); reading data, serving and monitoring do
not. Functions that need torch or ultralytics are lazy, because the server loads this use case without them.
"""

from dataclasses import replace

from openmlops.usecases import BUILT_IN
from openmlops.usecases.base import Archive
from openmlops.usecases.person.sample import field, sample
from openmlops.usecases.person.tiny import tiny_person
from openmlops.usecases.yolo_folder import yolo_folder

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

USE_CASE = replace(
    yolo_folder(
        "person",
        about="COCO (Lin et al., 2014), annotations under CC BY 4.0, images under the terms of Flickr; or drawn scenes.",
    ),
    model_name=BUILT_IN["person"],
    sample=sample,
    field=field,
    archive=COCO128,
    from_archive=tiny_person,
    labelled=None,
    weights=YOLOV8N,
)
