"""The band of rows that a training step looks at.

The objects of a street stand on the ground near by: in a panorama, 180 degrees from top to bottom, they leave half of
the rows to the sky and to the road under the camera. The time of a backbone is that of the rows it sees, so a step
shows it a band that holds all objects of the batch, each time another one, and whole images where no band does.
Features outside the band are zeros, and background anchors there teach nothing. Evaluation always sees whole images.

Convention:
    Rows are pixels of the network's image. A band starts at a multiple of the stride of the coarsest map that the
    backbone gives, so that its maps are rows of the maps of the whole image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Band(NamedTuple):
    """Rows of an image, from ``first`` to before ``last``."""

    first: int
    last: int

    def cut(self, images: Tensor) -> Tensor:
        """The band (B, 3, last - first, W) of images (B, 3, H, W)."""
        return images[:, :, self.first : self.last]

    def put_back(self, features: Tensor, stride: int, height: int) -> Tensor:
        """A map (B, C, ceil(height / stride), w) with features (B, C, h, w) of the band where they belong, else zeros.

        Args:
            features: a backbone's map of the band.
            stride: of that map, a divisor of ``first``.
            height: of the whole images, pixels.
        """
        above = self.first // stride
        below = -(-height // stride) - above - features.shape[2]
        return functional.pad(features, (0, 0, above, below))

    def holds(self, anchors: Tensor) -> Tensor:
        """Which anchors (N, 4) ``cxcywh`` pixels have their centre in the band: (N,) bool."""
        return (anchors[:, 1] >= self.first) & (anchors[:, 1] < self.last)


@dataclass(frozen=True)
class BandChoice:
    """Chooses the band of a batch.

    Attributes:
        rows: of a band, a multiple of ``stride``.
        height: of the images, pixels.
        stride: of the backbone's coarsest map, pixels.
    """

    rows: int
    height: int
    stride: int

    @classmethod
    def of_share(cls, share: float, height: int, strides: Sequence[int]) -> "BandChoice":
        """Bands of a share of the rows, as near as the strides of the backbone's maps allow, but no less than one.

        Raises:
            ValueError: ``share`` is none.
        """
        if isinstance(share, bool) or not 0 < share <= 1:
            raise ValueError(f"found {share}, expected null or a share of the rows, above 0 and up to 1")
        coarsest = max(strides)
        return cls(max(1, round(share * height / coarsest)) * coarsest, height, coarsest)

    def draw(self, boxes: Tensor, present: Tensor) -> Band | None:
        """One of the bands that hold all objects, each as likely; None if there is none, or no object.

        Draws from torch's generator of the processor.

        Args:
            boxes: (..., 4) ``xyxy`` pixels.
            present: (...) bool, which of them are objects.
        """
        top, bottom = boxes[..., 1][present], boxes[..., 3][present]
        if self.rows >= self.height or not len(top):
            return None
        lowest = max(0, -(-(int(bottom.max().ceil()) - self.rows) // self.stride))
        highest = min(int(top.min().floor()), self.height - self.rows) // self.stride
        if highest < lowest:
            return None
        first = self.stride * int(torch.randint(lowest, highest + 1, ()))
        return Band(first, first + self.rows)
