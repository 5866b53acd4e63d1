"""The data set of single views: photos, or panoramas on their own.

Convention:
    Of a panorama the seam is kept, as the number of pixels in 360 degrees; its pose is not used, and objects have no
    locations. Photos have edges: their ``period`` is infinite.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from crossview.data.annotation import ImageAnnotation
from crossview.data.augment import Augmentation, View
from crossview.data.batch import ViewBatch, ViewSample, collate_views
from crossview.data.errors import DataError
from crossview.data.image_files import ImageSource
from crossview.data.samples import Key, SampleDataset, epoch_and_index, objects_of
from crossview.geometry.camera import panorama_camera, period


class ViewDataset(SampleDataset[ViewSample, ImageAnnotation]):
    """Single views with their objects.

    Args:
        views: annotations; their positions in this list are the batch's ``view_index``.
        image_size: height and width of the network's images, pixels.
        augment: random changes; None for a plain resize.
        seed: of all random draws, 0 to 2**32 - 1.
        images: where the pixels come from; None for the image files.

    Raises:
        ValueError: a number is out of its range.
        DataError: ``augment`` rolls and there are photos.
    """

    def __init__(
        self,
        views: Sequence[ImageAnnotation],
        image_size: tuple[int, int] = (300, 300),
        augment: Augmentation | None = None,
        seed: int = 0,
        images: ImageSource | None = None,
    ) -> None:
        super().__init__(views, image_size, augment, seed, images)
        photo = next((view for view in views if not view.is_panorama), None)
        if photo is not None and self.augment.roll is not None:
            raise DataError(
                f"data.augment rolls images, which only panoramas allow, but {photo.image} is a photo: use "
                "data/augment=photo, or set data.augment.roll=null"
            )

    @staticmethod
    def collate(samples: Sequence[ViewSample]) -> ViewBatch:
        """The batch of some items."""
        return collate_views(samples)

    def __len__(self) -> int:
        """Number of views."""
        return len(self.views)

    def __getitem__(self, key: Key) -> ViewSample:
        """The view ``key`` = (epoch, index), or index in epoch 0.

        Raises:
            DataError: an image is missing, damaged, or not of the size it had when the annotations were read.
        """
        epoch, index = epoch_and_index(key)
        annotation = self.views[index]
        images, (finished,) = self._finish([annotation], [self._view(annotation)], (epoch, index))
        return ViewSample(
            image=images[0],
            objects=objects_of(annotation, finished, torch.zeros(len(annotation.labels), dtype=torch.bool)),
            period=period(finished.view.camera).item() if annotation.is_panorama else math.inf,
            image_size=torch.tensor([annotation.width, annotation.height]),
            view_index=index,
            name=annotation.view,
        )

    def _view(self, annotation: ImageAnnotation) -> View:
        """A view as it is on disk. Its camera stands anywhere: only the map of its pixels is used."""
        nowhere = torch.zeros(2, dtype=torch.float64)
        return View(
            raster=self._raster(annotation),
            camera=panorama_camera(nowhere, nowhere[0], nowhere[1], annotation.width, annotation.height),
            boxes=annotation.boxes,
            locations=np.zeros((len(annotation.labels), 2)),
            rows=np.arange(len(annotation.labels)),
        )
