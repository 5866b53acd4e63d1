"""The centre line of a street, a straight line or an arc, and the street coordinates (s, t) that follow it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A centre line through (east, north) = (0, 0) at s = 0.

    Attributes:
        heading: Bearing of the line at s = 0, radians.
        curvature: Change of bearing per metre, radians; positive turns right; 0 is straight.
    """

    heading: float
    curvature: float

    def bearing(self, s: ArrayLike) -> NDArray[np.float64]:
        """Bearing of the line at s, radians."""
        return self.heading + self.curvature * np.asarray(s, dtype=np.float64)

    def to_world(self, s: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
        """East and north (..., 2) of the points (s, t)."""
        along, across = np.asarray(s, dtype=np.float64), np.asarray(t, dtype=np.float64)
        bearing = self.bearing(along)
        if self.curvature == 0.0:
            east, north = along * np.sin(bearing), along * np.cos(bearing)
        else:  # closed form of the integral of (sin, cos) of a bearing that grows evenly
            east = (np.cos(self.heading) - np.cos(bearing)) / self.curvature
            north = (np.sin(bearing) - np.sin(self.heading)) / self.curvature
        return np.stack((east + across * np.cos(bearing), north - across * np.sin(bearing)), axis=-1)

    def to_street(self, east: Array, north: Array) -> tuple[Array, Array]:
        """Street coordinates s, t of world points, in single precision for whole pictures."""
        if self.curvature == 0.0:
            sine, cosine = np.float32(np.sin(self.heading)), np.float32(np.cos(self.heading))
            return east * sine + north * cosine, east * cosine - north * sine
        radius = 1.0 / self.curvature
        sign = np.float32(np.sign(self.curvature))
        from_centre_e = (east - np.float32(radius * np.cos(self.heading))) * -sign
        from_centre_n = (north + np.float32(radius * np.sin(self.heading))) * -sign
        t = np.float32(radius) - sign * np.hypot(from_centre_e, from_centre_n)
        turned = np.arctan2(-from_centre_n, from_centre_e) - np.float32(self.heading)
        turned = (turned + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi)
        return turned * np.float32(radius), t

    def plot(self, start: float, end: float, front: float, depth: float, side: int) -> NDArray[np.float32]:
        """A rectangle beside the street, for a house.

        Args:
            start: Smallest s.
            end: Largest s.
            front: Distance of its front from the centre line, metres.
            depth: Its size away from the street, metres.
            side: 1 for the right of the street, -1 for the left.

        Returns:
            (4, 2) world points: front left, front right, back right, back left as seen from the street.
        """
        middle = (start + end) / 2
        origin = self.to_world(middle, side * front)
        bearing = float(self.bearing(middle))
        half = -side * np.array((np.sin(bearing), np.cos(bearing))) * (end - start) / 2
        inward = side * np.array((np.cos(bearing), -np.sin(bearing))) * depth
        corners = (origin - half, origin + half, origin + half + inward, origin - half + inward)
        return np.stack(corners).astype(np.float32)
