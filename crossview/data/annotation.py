"""What a reader returns for one image.

Conventions: pixels are continuous, x right, y down, origin at the image's top left corner; boxes are `xyxy`,
0-based and half-open. Latitude and longitude are degrees in float64. Yaw is the bearing of the image's centre
column, clockwise from north, in radians. G is the number of objects in the image (0 is legal).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """One image and the objects annotated in it; as it is: an ordinary photo, which ends at its edges.

    Attributes:
        view: File stem, the name used in image sets.
        image: The image file.
        source: The annotation file.
        width: Width of the image file itself, pixels.
        height: Height of the image file itself, pixels.
        boxes: (G, 4) float64, `xyxy` pixels of the image file.
        labels: (G,) int64, 1..C in the order of the configured class names (0 is background).
        ids: (G,) int64 identities; meaningless where `has_id` is False.
        has_id: (G,) bool.
        difficult: (G,) bool.
        truncated: (G,) bool.
        locations: (G, 2) float64 latitude, longitude; meaningless where `has_location` is False.
        has_location: (G,) bool.
    """

    is_panorama: ClassVar[bool] = False

    view: str
    image: Path
    source: Path
    width: int
    height: int
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    has_id: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    locations: NDArray[np.float64]
    has_location: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ViewAnnotation(ImageAnnotation):
    """One panorama with its camera pose.

    Attributes:
        position: Latitude and longitude of the camera.
        yaw: Bearing of the image's centre column, radians.
    """

    is_panorama: ClassVar[bool] = True

    position: tuple[float, float]
    yaw: float
