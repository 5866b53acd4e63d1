"""One view on its way through the augmentation: image geometry, boxes, locations and camera change together.

Convention:
    Boxes are ``xyxy`` pixels of the image as it is at that point of the chain, float64. In a whole panorama a box
    may cross the seam (0 <= xmin < W < xmax). As soon as the image has real edges (crop, expansion), a box is what
    one sees in one piece: the side of the seam with the box's centre. ``rows`` says which rows of the annotation
    are left: labels, ids and flags are never passed through the chain.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crossview.data.augment.raster import Raster
from crossview.geometry.camera import Camera, cropped, mirrored, rolled

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """A view and what is annotated in it.

    Attributes:
        raster: which pixels of the panorama file the image shows.
        camera: float64, of the image. Of a photo nothing but the map from pixels to fractions of the file (scale and
            offset) means anything.
        boxes: (G, 4) float64 ``xyxy`` pixels of the image.
        locations: (G, 2) float64 metres east and north in the pair's frame.
        rows: (G,) int64, the objects' rows in the annotation.
    """

    raster: Raster
    camera: Camera
    boxes: Floats
    locations: Floats
    rows: NDArray[np.int64]

    def select(self, keep: NDArray[np.bool_]) -> "View":
        """Only the objects where ``keep`` (G,) is True."""
        if keep.all():
            return self
        return replace(self, boxes=self.boxes[keep], locations=self.locations[keep], rows=self.rows[keep])

    def roll(self, shift: int) -> "View":
        """Rolls the columns of a whole panorama to the right: a change of yaw."""
        boxes = _within_turn(self.boxes + np.array([shift, 0, shift, 0]), self.raster.width)
        return replace(self, raster=self.raster.rolled(shift), camera=rolled(self.camera, shift), boxes=boxes)

    def window(self, left: int, top: int, width: int, height: int) -> "View":
        """Crops, or expands where the window reaches out of the image.

        Boxes whose centre is outside are dropped, the others clipped.
        """
        boxes = self.boxes_in_turn()
        center = (boxes[:, :2] + boxes[:, 2:]) / 2 - (left, top)
        inside: NDArray[np.bool_] = np.asarray(((center >= 0) & (center < (width, height))).all(axis=1))
        # Clipped to the old image first: what lies beyond the seam of a panorama is not in an expanded one.
        visible = np.clip(boxes[inside], 0, (self.raster.width, self.raster.height) * 2)
        return replace(
            self.select(inside),
            raster=self.raster.windowed(left, top, width, height),
            camera=cropped(self.camera, left, top),
            boxes=np.clip(visible - (left, top, left, top), 0, (width, height, width, height)),
        )

    def mirror(self) -> "View":
        """Mirrors the image, and with it the world east to west about the frame's origin."""
        width = self.raster.width
        boxes = self.boxes.copy()
        boxes[:, [0, 2]] = width - self.boxes[:, [2, 0]]
        return replace(
            self,
            raster=self.raster.flipped(),
            camera=mirrored(self.camera, width),
            boxes=_within_turn(boxes, width) if self.raster.is_whole else boxes,
            locations=self.locations * (-1.0, 1.0),
        )

    def boxes_in_turn(self) -> Floats:
        """Boxes (G, 4); of a whole panorama moved by full turns so that their centres lie in [0, W)."""
        if not self.raster.is_whole:
            return self.boxes
        width = self.raster.width
        boxes = self.boxes.copy()
        boxes[:, [0, 2]] -= np.floor((self.boxes[:, :1] + self.boxes[:, 2:3]) / 2 / width) * width
        return boxes


def _within_turn(boxes: Floats, width: int) -> Floats:
    """The same boxes of a whole panorama, moved by full turns so that 0 <= xmin < width."""
    moved = boxes.copy()
    moved[:, [0, 2]] -= np.floor(boxes[:, :1] / width) * width
    return moved
