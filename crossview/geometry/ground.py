"""Ground points of boxes with their uncertainty, and small corrections of the pose that they were seen from.

Convention:
    NumPy float64 throughout: a pair has some tens of objects, for which a tensor's overhead is most of the time, and
    nothing here needs a gradient. N objects of one view.
    Points are metres east and north in the pair's frame, bearings radians clockwise from north. A covariance is in
    square metres, of (east, north).
    A correction is (metres east, metres north, radians clockwise), added to a camera's position and yaw. The ground
    points move with their camera, as if they were fixed to it.
    Boxes are ``xyxy`` pixels of the camera's image; sigmas in pixels are of that image too.
    Where ``valid`` is False there is no ground point, and the numbers are finite and meaningless.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from crossview.geometry.camera import TAU, Camera, repeated
from crossview.geometry.projection import locate_boxes

Array = NDArray[np.float64]
NORMAL_CONFIDENCE = 0.9  # of the error ellipse in which a normal distribution stands in for Student's t


@dataclass(frozen=True, slots=True)
class FootSigma:
    """How far the middle of a box's lower edge is from where the object touches the ground; standard deviations.

    Attributes:
        pixels: part that is the same for all boxes, in x and in y, pixels of the image.
        width_share: part in x that grows with the box, shares of its width (a crown that leans, or is half hidden).
        height_share: part in y that grows with the box, shares of its height.
        hidden_share: the same where something, such as a parked car, hides the foot, which ends the box too early.
        hidden_probability: how often that is so, less than a half.
    """

    pixels: float
    width_share: float = 0.0
    height_share: float = 0.0
    hidden_share: float = 0.0
    hidden_probability: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: a value is out of its range.
        """
        if not self.pixels > 0 or not min(self.width_share, self.height_share, self.hidden_share) >= 0:
            raise ValueError(f"{self}: expected more than 0 pixels and shares of 0 or more")
        if not 0 <= self.hidden_probability < 0.5:
            raise ValueError(f"{self}: expected a probability of a hidden foot of at least 0 and less than 0.5")


class GroundPoints(NamedTuple):
    """The objects of one view on the ground.

    Attributes:
        camera: (2,) metres, the camera's position; (N, 2) where objects of several views are joined.
        camera_height: metres above the ground; (N,) where objects of several views are joined.
        points: (N, 2) metres east and north.
        distance: (N,) metres from the camera.
        bearing: (N,) radians, from the camera.
        along: (N,) metres, standard deviation along the ray of a foot that is seen.
        across: (N,) metres, standard deviation across the ray.
        along_hidden: (N,) metres, standard deviation along the ray of a foot that is hidden.
        width: (N,) metres, of the object.
        height: (N,) metres, of the object.
        span: (N, 2) pixels, width and height of the box.
        per_pixel: (N, 2) metres along and across the ray that one pixel of the foot's y and x is worth.
        valid: (N,) bool.
    """

    camera: Array
    camera_height: float | Array
    points: Array
    distance: Array
    bearing: Array
    along: Array
    across: Array
    along_hidden: Array
    width: Array
    height: Array
    span: Array
    per_pixel: Array
    valid: NDArray[np.bool_]

    @classmethod
    def joined(cls, views: Sequence["GroundPoints"]) -> "GroundPoints":
        """The objects of several views one after another."""
        counts = [len(view.bearing) for view in views]
        cameras = np.repeat([view.camera for view in views], counts, axis=0)
        heights = np.repeat([view.camera_height for view in views], counts)
        fields = zip(*(view[2:] for view in views), strict=True)
        return cls._make((cameras, heights, *(np.concatenate(parts) for parts in fields)))

    def take(self, rows: NDArray[np.integer]) -> "GroundPoints":
        """The objects (M,) of some rows."""
        return GroundPoints._make((self.camera, self.camera_height, *(field[rows] for field in self[2:])))

    def moved(self, correction: Array) -> "GroundPoints":
        """The same objects after a correction (3,) of the camera's pose."""
        camera = self.camera + correction[:2]
        bearing = self.bearing + correction[2]
        points = camera + self.distance[..., None] * np.stack((np.sin(bearing), np.cos(bearing)), axis=-1)
        return self._replace(camera=camera, points=points, bearing=bearing)

    def with_foot(self, foot: FootSigma) -> "GroundPoints":
        """The same objects with another uncertainty of their feet."""
        width, height = self.span[..., 0], self.span[..., 1]
        along, across = self.per_pixel[..., 0], self.per_pixel[..., 1]
        return self._replace(
            along=along * np.hypot(foot.pixels, foot.height_share * height),
            across=across * np.hypot(foot.pixels, foot.width_share * width),
            along_hidden=along * np.hypot(foot.pixels, foot.hidden_share * height),
        )

    def as_normal(self, freedom: float) -> "GroundPoints":
        """The same objects with feet that err by a normal distribution instead of Student's t.

        The sigmas of feet are scales of Student's t, which has heavier tails. They are widened until the normal
        ellipse of `NORMAL_CONFIDENCE` is that of Student's t in two dimensions, whose squared radius is
        ``freedom * ((1 - confidence) ** (-2 / freedom) - 1)`` (the quantile of 2 F(2, freedom)).

        Args:
            freedom: degrees of freedom of Student's t; infinity changes nothing.
        """
        if math.isinf(freedom):
            return self
        outside = math.log1p(-NORMAL_CONFIDENCE)
        wider = math.sqrt(freedom * math.expm1(-2.0 * outside / freedom) / (-2.0 * outside))
        return self._replace(
            along=wider * self.along, across=wider * self.across, along_hidden=wider * self.along_hidden
        )

    def reshaped(self, *shape: int) -> "GroundPoints":
        """The same objects in an array of another shape, to be compared by broadcasting."""
        fields = (field.reshape(*shape, *field.shape[1:]) for field in self[2:])
        return GroundPoints._make((self.camera, self.camera_height, *fields))

    def covariance(self) -> Array:
        """Covariance (N, 2, 2) of the points by the uncertainty of their feet alone, if those are seen."""
        return polar_covariance(self.bearing, self.along, self.across)

    def pose_jacobian(self) -> Array:
        """Derivatives (N, 2, 3) of the points with regard to a correction of the pose."""
        east, north = (self.points - self.camera).T
        jacobian = np.zeros((len(self.points), 2, 3))
        jacobian[:, 0, 0] = jacobian[:, 1, 1] = 1.0
        # Clockwise: what lies north of the camera moves east.
        jacobian[:, 0, 2], jacobian[:, 1, 2] = north, -east
        return jacobian


def polar_covariance(bearing: Array, along: Array, across: Array) -> Array:
    """Covariance (N, 2, 2) of points with standard deviations along and across the ray of a bearing, all (N,)."""
    east, mixed, north = polar_variances(np.sin(bearing), np.cos(bearing), along * along, across * across)
    return np.stack((east, mixed, mixed, north), axis=-1).reshape(-1, 2, 2)


def polar_variances(sin: Array, cos: Array, along: Array, across: Array) -> tuple[Array, Array, Array]:
    """Covariance (...) in east, mixed and north, from variances along and across the ray of a bearing.

    Args:
        sin: (...) of the bearing.
        cos: (...) of the bearing.
        along: (...) variance along the ray.
        across: (...) variance across it.
    """
    excess = along - across
    excess_sin = excess * sin
    return excess_sin * sin + across, excess_sin * cos, excess * (cos * cos) + across


def ground_points(camera: Camera, boxes: ArrayLike, foot: FootSigma) -> GroundPoints:
    """Where the objects of boxes stand, and how sure that is.

    Args:
        camera: of one view (batch shape ()).
        boxes: (N, 4).
        foot: uncertainty of the boxes' feet.

    Raises:
        ValueError: the camera is a batch, or the boxes are not (N, 4).
    """
    return ground_points_of_views([camera], [boxes], foot)[0]


def ground_points_of_views(
    cameras: Sequence[Camera], boxes: Sequence[ArrayLike], foot: FootSigma
) -> list[GroundPoints]:
    """`ground_points` of several views at once, which takes hardly longer than one."""
    rows = [np.asarray(own, dtype=np.float64) for own in boxes]
    for camera, own in zip(cameras, rows, strict=True):
        if camera.yaw.ndim or own.ndim != 2 or own.shape[1] != 4:
            raise ValueError(
                f"cameras {tuple(camera.yaw.shape)} and boxes {own.shape}: expected one camera () and boxes (N, 4)"
            )
    joined = repeated(cameras, [len(own) for own in rows])
    found = _one_pixel(joined, np.concatenate(rows)).with_foot(foot)
    ends = np.cumsum([len(own) for own in rows])[:-1]
    split = zip(*(np.split(field, ends) for field in found[2:]), strict=True)
    return [
        GroundPoints._make((camera.position.detach().cpu().double().numpy(), float(camera.height), *own))
        for camera, own in zip(cameras, split, strict=True)
    ]


def _one_pixel(cameras: Camera, boxes: Array) -> GroundPoints:
    """Ground points of boxes (N, 4), each with its camera (N,), whose feet are a pixel off.

    A pixel of tilt makes ``(z^2 + h^2) / h * pi / H`` metres along the ray at a distance z, one of bearing
    ``z * 2 pi / W`` across, for a whole panorama of W x H pixels and a camera at height h. Where there is no ground
    point, the numbers are those of a point a metre away.
    """
    standing, valid = locate_boxes(cameras, torch.from_numpy(boxes))
    foot, width, height, away = (part.numpy() for part in standing)
    found = valid.numpy()
    position, camera_height, scale = cameras.position.numpy(), cameras.height.numpy(), cameras.scale.numpy()
    distance = np.where(found, away, 1.0)
    points = np.where(found[:, None], foot, position)
    offset = points - position
    along = (distance * distance + camera_height * camera_height) / camera_height * np.pi * scale[:, 1]
    across = distance * TAU * scale[:, 0]
    return GroundPoints(
        camera=position,
        camera_height=camera_height,
        points=points,
        distance=distance,
        bearing=np.arctan2(offset[:, 0], offset[:, 1]),
        along=along,
        across=across,
        along_hidden=along,
        width=np.where(found, width, 1.0),
        height=np.where(found, height, 1.0),
        span=np.where(found[:, None], boxes[:, 2:] - boxes[:, :2], 1.0),
        per_pixel=np.stack((along, across), axis=-1),
        valid=found,
    )


def corrected(camera: Camera, correction: Array) -> Camera:
    """The camera (batch shape ()) with a correction (3,) of its pose, in its own precision."""
    position = camera.position
    shift = torch.tensor(correction[:2], dtype=position.dtype, device=position.device)
    return camera._replace(position=position + shift, yaw=camera.yaw + float(correction[2]))
