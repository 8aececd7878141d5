"""Images and boxes for ultralytics' augmentation, read on demand. No label caches, no worker processes.

Images are resized as in serving (core.images.boxes), and kept resized if there is room. What is not here: the augmentations,
which are ultralytics', and seeds (`trainer`).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from openmlops.core.images import boxes
from openmlops.images.lazy import fitted, sizes
from openmlops.usecases.base import Rows
from openmlops.usecases.yolo_folder.yolo import Albumentations, YOLODataset


class RowsDataset(YOLODataset):
    """The images `which` (int64 indices) of `rows` for canvases of `imgsz` pixels: unpadded for augmentation, letterboxed for
    validation. ultralytics works on BGR; batches are RGB."""

    def __init__(self, rows: Rows, which: np.ndarray, imgsz: int, batch_size: int, augment: bool, hyp: Any) -> None:
        self._side, canvas = imgsz, (imgsz, imgsz)
        self._sizes = [(height, width) for height, width in sizes(rows.images)[which].tolist()]
        self._placed = [boxes.place(size, canvas) for size in self._sizes]
        self._boxes = [rows.labels[row] for row in which]
        self._images = fitted(rows.images[which], lambda image: boxes.letterbox(image, canvas), canvas)
        data = {"names": dict(enumerate(rows.names)), "nc": len(rows.names), "channels": 3}
        super().__init__(img_path="", imgsz=imgsz, batch_size=batch_size, augment=augment, hyp=hyp, data=data, task="detect")

    def _part(self, number: int) -> boxes.Placement:
        """The part of the canvas that is used: what the image covers (for augmentation), or all of it."""
        whole = boxes.Placement(scale=1, left=0, top=0, height=self._side, width=self._side)
        return self._placed[number] if self.augment else whole

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Placeholder names, because rows have no files."""
        return [f"{number}.png" for number in range(len(self._images))]

    def get_labels(self) -> list[dict[str, Any]]:
        """Boxes as centre and size, relative to the images that `load_image` returns."""
        return [self._label(number) for number in range(len(self._images))]

    def _label(self, number: int) -> dict[str, Any]:
        corners, classes = self._boxes[number][:, :4].astype(np.float32), self._boxes[number][:, 4:5].astype(np.float32)
        height, width = self._sizes[number]
        if not self.augment:
            corners, height, width = boxes.to_canvas(corners, self._placed[number]), self.imgsz, self.imgsz
        corners = corners / np.array([width, height, width, height], dtype=np.float32)
        centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
        return {
            "im_file": self.im_files[number],
            "shape": (self._part(number).height, self._part(number).width),
            "cls": classes,
            "bboxes": centred.astype(np.float32),
            "segments": [],
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """A copy (some augmentations work in place), the image's original size, and its size on the canvas."""
        at = self._part(i)
        image = self._images[i][at.top : at.top + at.height, at.left : at.left + at.width, ::-1].copy()
        return image, self._sizes[i], (at.height, at.width)

    def build_transforms(self, hyp: Any) -> Any:
        """ultralytics' own transforms. Mosaics are drawn from all images, not from the most recent ones, so that an epoch
        depends only on its seed; albumentations is not used even if it is installed."""
        self.cache = "ram"
        transforms = super().build_transforms(hyp)
        transforms.transforms = [each for each in transforms.transforms if not isinstance(each, Albumentations)]
        return transforms


class Batches:
    """Batches of a data set, shuffled with torch's current random state if `shuffle`; the last batch may be smaller. Implements
    the data loader interface that ultralytics needs."""

    num_workers = 0
    drop_last = False

    def __init__(self, dataset: RowsDataset, batch_size: int, shuffle: bool) -> None:
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.sampler = range(len(dataset))

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = torch.randperm(len(self.dataset)) if self.shuffle else torch.arange(len(self.dataset))
        for part in rows.split(self.batch_size):
            yield self.dataset.collate_fn([self.dataset[number] for number in part.tolist()])

    def reset(self) -> None:
        """Nothing to do: nothing is prefetched, so a change of the data set applies from the next image on."""
