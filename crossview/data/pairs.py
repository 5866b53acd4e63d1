"""The data set of pairs: from annotations to samples of pixels, boxes and cameras at the network's size.

Convention:
    The pair's frame has its origin at view 1's camera, metres east and north, made in float64 and then cast to float32.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.data.annotation import ViewAnnotation
from crossview.data.augment import Augmentation, View
from crossview.data.batch import PairBatch, PairSample, collate
from crossview.data.image_files import ImageSource
from crossview.data.samples import Key, SampleDataset, epoch_and_index, objects_of
from crossview.geometry.camera import Camera, panorama_camera
from crossview.geometry.frames import to_local


class PairDataset(SampleDataset[PairSample, ViewAnnotation]):
    """Pairs of views with their objects, both augmented together.

    Args:
        views: annotations; their positions in this list are the batch's ``view_index``.
        pairs: (P, 2) positions in ``views`` of view 1 and view 2 of each pair.
        image_size: height and width of the network's images, pixels.
        camera_height_m: height of the cameras above the ground, metres.
        augment: random changes; None for a plain resize.
        seed: of all random draws, 0 to 2**32 - 1.
        images: where the pixels come from; None for the image files.

    Raises:
        ValueError: ``pairs`` does not fit ``views``, or a number is out of its range.
    """

    def __init__(
        self,
        views: Sequence[ViewAnnotation],
        pairs: Sequence[tuple[int, int]] | NDArray[np.integer],
        image_size: tuple[int, int] = (300, 600),
        camera_height_m: float = 3.0,
        augment: Augmentation | None = None,
        seed: int = 0,
        images: ImageSource | None = None,
    ) -> None:
        super().__init__(views, image_size, augment, seed, images)
        self.pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        if self.pairs.size and not (self.pairs.min() >= 0 and self.pairs.max() < len(views)):
            found = f"{self.pairs.min()} to {self.pairs.max()}"
            raise ValueError(f"pairs name views {found}; expected 0 to {len(views) - 1}")
        if not camera_height_m > 0:
            raise ValueError(f"camera_height_m is {camera_height_m}; expected metres above the ground, more than 0")
        self.camera_height_m = camera_height_m

    @staticmethod
    def collate(samples: Sequence[PairSample]) -> PairBatch:
        """The batch of some items."""
        return collate(samples)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, key: Key) -> PairSample:
        """The pair ``key`` = (epoch, index), or index in epoch 0.

        Raises:
            DataError: an image is missing, damaged, or not of the size it had when the annotations were read.
        """
        epoch, index = epoch_and_index(key)
        annotations = [self.views[number] for number in self.pairs[index]]
        first, second = annotations
        images, finished = self._finish(annotations, [self._view(view, first) for view in annotations], (epoch, index))
        cameras = zip(*(view.view.camera for view in finished), strict=True)
        one, two = (
            objects_of(annotation, view, torch.from_numpy(annotation.has_location))
            for annotation, view in zip(annotations, finished, strict=True)
        )
        return PairSample(
            images=images,
            objects=(one, two),
            cameras=Camera(*(torch.stack(field).float() for field in cameras)),
            panorama_size=torch.tensor([[first.width, first.height], [second.width, second.height]]),
            view_index=torch.from_numpy(self.pairs[index].copy()),
            pair_index=index,
            names=(first.view, second.view),
        )

    def _view(self, annotation: ViewAnnotation, origin: ViewAnnotation) -> View:
        """A view as it is on disk, in the frame of the pair whose view 1 is ``origin``."""
        position = torch.from_numpy(to_local(annotation.position, origin.position))
        height, yaw = position.new_tensor(self.camera_height_m), position.new_tensor(annotation.yaw)
        latlng = np.where(annotation.has_location[:, None], annotation.locations, np.array(origin.position))
        return View(
            raster=self._raster(annotation),
            camera=panorama_camera(position, height, yaw, annotation.width, annotation.height),
            boxes=annotation.boxes,
            locations=to_local(latlng, origin.position),
            rows=np.arange(len(annotation.labels)),
        )
