"""What the data sets of pairs and of single views share: settings, augmentation and pixels.

Convention:
    An item is asked for by (epoch, index), which decides all its random draws together with the seed; a plain index
    means epoch 0.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crossview.data.annotation import ImageAnnotation
from crossview.data.augment import Augmentation, Draws, Finished, View
from crossview.data.augment.raster import Raster
from crossview.data.augment.seeding import SEED_LIMIT
from crossview.data.batch import Objects
from crossview.data.image_files import ImageFiles, ImageSource

Key = int | tuple[int, int]

Sample = TypeVar("Sample", covariant=True)
Annotation = TypeVar("Annotation", bound=ImageAnnotation)


class SampleDataset(Dataset[Sample], Generic[Sample, Annotation]):
    """Samples of one or several views at the network's size.

    Args:
        views: annotations; their positions in this list are a batch's ``view_index``.
        image_size: height and width of the network's images, pixels.
        augment: random changes; None for a plain resize.
        seed: of all random draws, 0 to 2**32 - 1.
        images: where the pixels come from; None for the image files.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        views: Sequence[Annotation],
        image_size: tuple[int, int],
        augment: Augmentation | None,
        seed: int,
        images: ImageSource | None,
    ) -> None:
        if not 0 <= seed < SEED_LIMIT:
            raise ValueError(f"seed is {seed}; expected 0 to {SEED_LIMIT - 1}")
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(f"image_size is {image_size}; expected height and width in pixels")
        self.views = views
        self.height, self.width = image_size
        self.augment = Augmentation() if augment is None else augment
        self.seed = seed
        self._images = ImageFiles() if images is None else images

    @staticmethod
    @abstractmethod
    def collate(samples: Sequence[Any]) -> Any:  # noqa: ANN401  # of one type in each subclass
        """The batch of some items."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    def _raster(self, annotation: ImageAnnotation) -> Raster:
        """An image as it is on disk."""
        return Raster.whole(
            annotation.width,
            annotation.height,
            is_panorama=annotation.is_panorama,
            least_reduction=self._images.least_reduction(annotation),
        )

    def _finish(
        self, annotations: Sequence[ImageAnnotation], views: Sequence[View], key: tuple[int, int]
    ) -> tuple[Tensor, tuple[Finished, ...]]:
        """Augments the views of a sample.

        Args:
            annotations: of the N views.
            views: as they are on disk.
            key: epoch and index of the sample.

        Returns:
            Pixels (N, 3, H, W) uint8 RGB, in memory pixel by pixel, and the views at their final size.

        Raises:
            DataError: an image is missing, damaged, or not of the size it had when the annotations were read.
        """
        finished = self.augment(views, self.height, self.width, Draws(self.seed, *key))
        pixels = np.empty((len(views), self.height, self.width, 3), dtype=np.uint8)
        for annotation, view, out in zip(annotations, finished, pixels, strict=True):
            view.render(partial(self._images.load, annotation), out)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), finished


def epoch_and_index(key: Key) -> tuple[int, int]:
    """Epoch and index of an item; a plain index is of epoch 0."""
    return key if isinstance(key, tuple) else (0, key)


def objects_of(annotation: ImageAnnotation, finished: Finished, has_location: Tensor) -> Objects:
    """The objects of a view that are left, in final pixels.

    Args:
        annotation: the view on disk.
        finished: the view at its final size.
        has_location: (G,) bool, of all objects of the annotation.
    """
    rows = finished.view.rows
    return Objects(
        boxes=torch.from_numpy(finished.view.boxes).float(),
        labels=torch.from_numpy(annotation.labels[rows]),
        ids=torch.from_numpy(annotation.ids[rows]),
        has_id=torch.from_numpy(annotation.has_id[rows]),
        difficult=torch.from_numpy(annotation.difficult[rows]),
        present=torch.ones(len(rows), dtype=torch.bool),
        location=torch.from_numpy(finished.view.locations).float(),
        has_location=has_location[torch.from_numpy(rows)],
    )
