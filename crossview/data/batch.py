"""What batches of pairs and of single views are made of: the types that the data sets hand to the network.

Convention:
    B pairs, 2 views, G objects (padded), H x W network pixels. Images are RGB. Boxes are ``xyxy``, continuous
    pixels of the network image; a box of a whole panorama may cross the seam (xmax > W). Metres are east and north
    in the pair's frame, whose origin is view 1's camera. The images lie in memory pixel by pixel (B, 2, H, W, 3)
    and are shown as (B, 2, 3, H, W), so that ``images.flatten(0, 1)`` is a ``channels_last`` batch without a copy.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crossview.geometry.camera import Camera


class Objects(NamedTuple):
    """Annotated objects of one view (G, ...), or padded to the largest G of a batch with leading shape (B, 2).

    Attributes:
        boxes: (..., G, 4) float32 ``xyxy`` pixels; zeros on padding.
        labels: (..., G) int64 from 1 in order of the class names; 0 on padding.
        ids: (..., G) int64, meaningless where ``has_id`` is False.
        has_id: (..., G) bool.
        difficult: (..., G) bool.
        present: (..., G) bool, False on padding.
        location: (..., G, 2) float32 metres east and north, zeros where ``has_location`` is False.
        has_location: (..., G) bool.
    """

    boxes: Tensor
    labels: Tensor
    ids: Tensor
    has_id: Tensor
    difficult: Tensor
    present: Tensor
    location: Tensor
    has_location: Tensor


class PairSample(NamedTuple):
    """One pair of views.

    Attributes:
        images: (2, 3, H, W) uint8 RGB.
        objects: those of view 1 and of view 2, not padded.
        cameras: float32, leading shape (2,).
        panorama_size: (2, 2) int64, width and height in pixels of the two images on disk.
        view_index: (2,) int64, numbers of the views in their data set.
        pair_index: number of the pair in its data set.
        names: the names of the two views.
    """

    images: Tensor
    objects: tuple[Objects, Objects]
    cameras: Camera
    panorama_size: Tensor
    view_index: Tensor
    pair_index: int
    names: tuple[str, str]


class PairBatch(NamedTuple):
    """A batch of pairs.

    Attributes:
        images: (B, 2, 3, H, W) uint8 RGB.
        objects: leading shape (B, 2), padded to the largest number of objects of a view, at least 1.
        cameras: float32, leading shape (B, 2).
        panorama_size: (B, 2, 2) int64, width and height in pixels of the images on disk.
        view_index: (B, 2) int64, numbers of the views in their data set.
        pair_index: (B,) int64, numbers of the pairs in their data set.
        names: the names of the two views of every pair.
    """

    images: Tensor
    objects: Objects
    cameras: Camera
    panorama_size: Tensor
    view_index: Tensor
    pair_index: Tensor
    names: list[tuple[str, str]]

    def select(self, number: int) -> "PairBatch":
        """The batch of one that holds pair ``number``."""
        rows = slice(number, number + 1)
        return PairBatch(
            self.images[rows],
            Objects(*(field[rows] for field in self.objects)),
            Camera(*(field[rows] for field in self.cameras)),
            self.panorama_size[rows],
            self.view_index[rows],
            self.pair_index[rows],
            self.names[rows],
        )

    def title(self, number: int) -> str:
        """What messages call pair ``number``."""
        return f"pair {' / '.join(self.names[number])}"


def collate(samples: Sequence[PairSample]) -> PairBatch:
    """Joins samples into a batch; objects are padded to the batch's largest number of a view, at least 1."""
    pixels = torch.stack([sample.images.permute(0, 2, 3, 1) for sample in samples])
    return PairBatch(
        images=pixels.permute(0, 1, 4, 2, 3),
        objects=_in_pairs(_pad([view for sample in samples for view in sample.objects])),
        cameras=Camera(*(torch.stack(field) for field in zip(*(sample.cameras for sample in samples), strict=True))),
        panorama_size=torch.stack([sample.panorama_size for sample in samples]),
        view_index=torch.stack([sample.view_index for sample in samples]),
        pair_index=torch.tensor([sample.pair_index for sample in samples]),
        names=[sample.names for sample in samples],
    )


def _in_pairs(views: Objects) -> Objects:
    """Objects of 2B views with leading shape (B, 2)."""
    return Objects(*(torch.unflatten(field, 0, (-1, 2)) for field in views))


class ViewSample(NamedTuple):
    """One view by itself.

    Attributes:
        image: (3, H, W) uint8 RGB.
        objects: those of the view, not padded.
        period: network pixels in 360 degrees, infinite for an ordinary image.
        image_size: (2,) int64, width and height in pixels of the image on disk.
        view_index: number of the view in its data set.
        name: the name of the view.
    """

    image: Tensor
    objects: Objects
    period: float
    image_size: Tensor
    view_index: int
    name: str


class ViewBatch(NamedTuple):
    """A batch of views by themselves.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        objects: leading shape (B,), padded to the largest number of objects of a view, at least 1.
        period: (B,) float32 network pixels in 360 degrees, infinite for an ordinary image.
        image_size: (B, 2) int64, width and height in pixels of the images on disk.
        view_index: (B,) int64, numbers of the views in their data set.
        names: the names of the views.
    """

    images: Tensor
    objects: Objects
    period: Tensor
    image_size: Tensor
    view_index: Tensor
    names: list[str]

    def select(self, number: int) -> "ViewBatch":
        """The batch of one that holds view ``number``."""
        rows = slice(number, number + 1)
        return ViewBatch(
            self.images[rows],
            Objects(*(field[rows] for field in self.objects)),
            self.period[rows],
            self.image_size[rows],
            self.view_index[rows],
            self.names[rows],
        )

    def title(self, number: int) -> str:
        """What messages call view ``number``."""
        return f"view {self.names[number]}"


def collate_views(samples: Sequence[ViewSample]) -> ViewBatch:
    """Joins samples into a batch; objects are padded to the batch's largest number of a view, at least 1."""
    pixels = torch.stack([sample.image.permute(1, 2, 0) for sample in samples])
    return ViewBatch(
        images=pixels.permute(0, 3, 1, 2),
        objects=_pad([sample.objects for sample in samples]),
        period=torch.tensor([sample.period for sample in samples], dtype=torch.float32),
        image_size=torch.stack([sample.image_size for sample in samples]),
        view_index=torch.tensor([sample.view_index for sample in samples]),
        names=[sample.name for sample in samples],
    )


def _pad(views: Sequence[Objects]) -> Objects:
    """Objects of V views as one, with leading shape (V,)."""
    slots = max(1, *(len(view.labels) for view in views))
    padded = []
    for fields in zip(*views, strict=True):
        rows = fields[0].new_zeros((len(views), slots, *fields[0].shape[1:]))
        for row, field in zip(rows, fields, strict=True):
            row[: len(field)] = field
        padded.append(rows)
    return Objects(*padded)
