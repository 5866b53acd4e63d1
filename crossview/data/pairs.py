"""The data set of pairs: from annotations to samples of pixels, boxes and cameras at the network's size.

Convention:
    An item is asked for by (epoch, index), which decides all its random draws together with the seed; a plain index
    means epoch 0. The pair's frame has its origin at view 1's camera, metres east and north, made in float64 and
    then cast to float32.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from crossview.data.annotation import ViewAnnotation
from crossview.data.augment import Augmentation, Draws, Finished, View
from crossview.data.augment.raster import Image, Raster
from crossview.data.augment.seeding import SEED_LIMIT
from crossview.data.batch import Objects, PairBatch, PairSample, collate
from crossview.data.errors import DataError
from crossview.data.images import load_image
from crossview.geometry.camera import Camera, panorama_camera
from crossview.geometry.frames import to_local

Key = int | tuple[int, int]


class PairDataset(Dataset[PairSample]):
    """Pairs of views with their objects, both augmented together.

    Args:
        views: annotations; their positions in this list are the batch's ``view_index``.
        pairs: (P, 2) positions in ``views`` of view 1 and view 2 of each pair.
        image_size: height and width of the network's images, pixels.
        camera_height_m: height of the cameras above the ground, metres.
        augment: random changes; None for a plain resize.
        seed: of all random draws, 0 to 2**32 - 1.

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
    ) -> None:
        self.views = views
        self.pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        if self.pairs.size and not (self.pairs.min() >= 0 and self.pairs.max() < len(views)):
            found = f"{self.pairs.min()} to {self.pairs.max()}"
            raise ValueError(f"pairs name views {found}; expected 0 to {len(views) - 1}")
        if not 0 <= seed < SEED_LIMIT:
            raise ValueError(f"seed is {seed}; expected 0 to {SEED_LIMIT - 1}")
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(f"image_size is {image_size}; expected height and width in pixels")
        if not camera_height_m > 0:
            raise ValueError(f"camera_height_m is {camera_height_m}; expected metres above the ground, more than 0")
        self.height, self.width = image_size
        self.camera_height_m = camera_height_m
        self.augment = Augmentation() if augment is None else augment
        self.seed = seed

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
        epoch, index = key if isinstance(key, tuple) else (0, key)
        first, second = (self.views[number] for number in self.pairs[index])
        finished = self.augment(
            (self._view(first, first), self._view(second, first)),
            self.height,
            self.width,
            Draws(self.seed, epoch, index),
        )
        pixels = np.empty((2, self.height, self.width, 3), dtype=np.uint8)
        for annotation, view, out in zip((first, second), finished, pixels, strict=True):
            view.render(partial(_load, annotation), out)
        cameras = zip(*(view.view.camera for view in finished), strict=True)
        return PairSample(
            images=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            objects=(_objects(first, finished[0]), _objects(second, finished[1])),
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
            raster=Raster.whole(annotation.width, annotation.height),
            camera=panorama_camera(position, height, yaw, annotation.width, annotation.height),
            boxes=annotation.boxes,
            locations=to_local(latlng, origin.position),
            rows=np.arange(len(annotation.labels)),
        )


def _load(annotation: ViewAnnotation, reduction: int) -> Image:
    """The panorama's pixels (h, w, 3), reduced by a factor that divides its size."""
    image = load_image(annotation.image, reduction)
    expected = (annotation.height // reduction, annotation.width // reduction)
    if image.shape[:2] != expected:
        height, width = (length * reduction for length in image.shape[:2])
        raise DataError(
            f"{annotation.image}: the image is {width}x{height} pixels, but was {annotation.width}x{annotation.height} "
            "when the annotations were read; it has changed since: start again"
        )
    return image


def _objects(annotation: ViewAnnotation, finished: Finished) -> Objects:
    """The objects of a view that are left, in final pixels."""
    rows = finished.view.rows
    return Objects(
        boxes=torch.from_numpy(finished.view.boxes).float(),
        labels=torch.from_numpy(annotation.labels[rows]),
        ids=torch.from_numpy(annotation.ids[rows]),
        has_id=torch.from_numpy(annotation.has_id[rows]),
        difficult=torch.from_numpy(annotation.difficult[rows]),
        present=torch.ones(len(rows), dtype=torch.bool),
        location=torch.from_numpy(finished.view.locations).float(),
        has_location=torch.from_numpy(annotation.has_location[rows]),
    )
