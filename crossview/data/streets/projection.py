"""Where world points fall on an equirectangular panorama, for rendering with NumPy alone.

Convention: ``bearing(x) = yaw - pi + 2 pi x / W``, ``tilt(y) = pi (1/2 - y / H)`` with ``W = 2 H``, so one radian is
``W / (2 pi)`` pixels on both axes. Worked number: W 2048, yaw 0, a point due north on the ground 15 m away, camera 3
m up: x 1024, y 576.3.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Panorama:
    """One camera: position and height in metres, bearing of the picture's centre in radians, width in pixels."""

    east: float
    north: float
    up: float
    yaw: float
    width: int

    @property
    def height(self) -> int:
        """Height of the picture in pixels."""
        return self.width // 2

    @property
    def pixels_per_radian(self) -> float:
        """Pixels of one radian, on both axes."""
        return self.width / (2.0 * np.pi)

    def relative(self, points: Array) -> Array:
        """World points (..., 3) as seen from the camera."""
        return points - np.array((self.east, self.north, self.up), dtype=np.float32)

    def project(self, points: Array, reference: float | None = None) -> tuple[Array, Array, Array]:
        """Pixels and distances of world points (..., 3).

        Args:
            points: World points, metres.
            reference: A column near which all x are unwrapped; they may then leave the picture. None: x in [0, W).

        Returns:
            x, y in pixels and the horizontal distance in metres.
        """
        east, north, up = np.moveaxis(self.relative(points), -1, 0)
        flat = np.hypot(east, north)
        scale = np.float32(self.pixels_per_radian)
        x = (np.arctan2(east, north) - np.float32(self.yaw - np.pi)) * scale
        start = 0.0 if reference is None else reference - self.width / 2
        x = (x - np.float32(start)) % np.float32(self.width) + np.float32(start)
        y = np.float32(self.height / 2) - np.arctan2(up, flat) * scale
        return x, y, flat

    def column_bearings(self, left: int, right: int) -> Array:
        """Bearings of the centres of the columns left to right - 1; columns beyond the seam go on around."""
        x = np.arange(left, right, dtype=np.float64) + 0.5
        return ((self.yaw - np.pi + x / self.pixels_per_radian) % (2 * np.pi)).astype(np.float32)

    def row_slopes(self, top: int, bottom: int) -> Array:
        """Tangents of the tilts of the centres of the rows top to bottom - 1."""
        y = np.arange(top, bottom, dtype=np.float64) + 0.5
        return np.tan((self.height / 2 - y) / self.pixels_per_radian).astype(np.float32)
