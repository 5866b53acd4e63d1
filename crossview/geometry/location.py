"""Where objects stand on Earth, from one view or from two, and how sure that is.

Convention:
    NumPy float64, as in `crossview.geometry.ground`. M objects; positions are metres east and north in the pair's
    frame; covariances are square metres, of (east, north).
    A covariance is of the absolute position. It holds the uncertainty of the boxes' feet, in bearing and in distance,
    and that of the cameras' poses: the stated one of each view's prior, or, after a refinement, what remains of both
    together. What moves the whole pair, which no refinement can see, is in it. Slopes of the ground, an error of the
    camera's height and wrong matches are not.
    A hidden foot is not known to be hidden: every covariance is that of the mixture of both cases, the more likely one
    counting for more.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from crossview.geometry.camera import Camera
from crossview.geometry.frames import to_latlng
from crossview.geometry.ground import Array, GroundPoints, polar_covariance
from crossview.geometry.projection import Standing, locate_boxes, or_placeholder, view_boxes


class Location(NamedTuple):
    """Positions of objects.

    Attributes:
        east_north: (M, 2) metres in the pair's frame.
        covariance: (M, 2, 2) square metres.
        valid: (M,) bool; where it is False the numbers are finite and meaningless.
    """

    east_north: Array
    covariance: Array
    valid: NDArray[np.bool_]

    def split(self, counts: Sequence[int]) -> list["Location"]:
        """So many positions each, one part after another."""
        ends = np.cumsum(counts)[:-1]
        return [Location(*parts) for parts in zip(*(np.split(field, ends) for field in self), strict=True)]

    def latlng(self, origin: ArrayLike) -> Array:
        """Latitude and longitude (M, 2) in degrees, for the latitude and longitude (2,) of the frame's origin."""
        return to_latlng(self.east_north, origin)


class Ellipse(NamedTuple):
    """Error ellipses around positions.

    Attributes:
        semi_major: (M,) metres.
        semi_minor: (M,) metres.
        bearing: (M,) radians clockwise from north of the major axis, 0 to pi.
    """

    semi_major: Array
    semi_minor: Array
    bearing: Array


def confidence_square(confidence: float) -> float:
    """Squared Mahalanobis distance of two dimensions within which a share of a normal distribution lies.

    Raises:
        ValueError: the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a share between 0 and 1, such as 0.9")
    return -2.0 * math.log1p(-confidence)


def error_ellipse(covariance: Array, confidence: float = 0.9) -> Ellipse:
    """Ellipses that hold the true positions with a given confidence, from covariances (M, 2, 2)."""
    values, vectors = np.linalg.eigh(covariance)
    axes = np.sqrt(confidence_square(confidence) * np.maximum(values, 0.0))
    major = vectors[:, :, 1]
    return Ellipse(axes[:, 1], axes[:, 0], np.arctan2(major[:, 0], major[:, 1]) % np.pi)


def is_inside(location: Location, east_north: Array, confidence: float = 0.9) -> NDArray[np.bool_]:
    """Whether points (M, 2) lie in the error ellipses; False where there is no position."""
    gap = (east_north - location.east_north)[:, :, None]
    squares = (np.swapaxes(gap, 1, 2) @ np.linalg.solve(location.covariance, gap))[:, 0, 0]
    return np.asarray(location.valid & (squares <= confidence_square(confidence)))


def locate_single(view: GroundPoints, pose_covariance: Array, hidden_probability: float = 0.0) -> Location:
    """Positions of objects seen in one view: their ground points.

    Args:
        view: M ground points, with the pose to use.
        pose_covariance: (3, 3) of that pose, or (M, 3, 3) of the pose that each object was seen from.
        hidden_probability: how often a foot is hidden.
    """
    variance = (1 - hidden_probability) * view.along**2 + hidden_probability * view.along_hidden**2
    jacobian = view.pose_jacobian()
    pose = jacobian @ pose_covariance @ np.swapaxes(jacobian, 1, 2)
    return Location(view.points, polar_covariance(view.bearing, np.sqrt(variance), view.across) + pose, view.valid)


def locate_pairs(
    view_1: GroundPoints, view_2: GroundPoints, pose_covariance: Array, hidden_probability: float = 0.0
) -> Location:
    """Positions of objects seen in both views, from both bearings and both distances.

    The best linear unbiased estimate: generalised least squares for one position from two ground points, whose errors
    the poses make dependent. With a hidden foot in view 1, in view 2, or none, weighted by how well each explains the
    distance between both points. An object with a ground point in one view only has the position of that view.

    Args:
        view_1: M ground points, with the pose to use.
        view_2: those of the same objects in view 2.
        pose_covariance: (6, 6) of both poses, view 1's first, or (M, 6, 6) of each object's.
        hidden_probability: how often a foot is hidden.
    """
    singles = [
        locate_single(view, pose_covariance[..., rows, rows], hidden_probability)
        for view, rows in ((view_1, slice(0, 3)), (view_2, slice(3, 6)))
    ]
    hidden = max(hidden_probability, np.finfo(np.float64).tiny)  # the logarithm of never stays finite
    cases = (
        (view_1.along, view_2.along, 1 - 2 * hidden),
        (view_1.along_hidden, view_2.along, hidden),
        (view_1.along, view_2.along_hidden, hidden),
    )
    found = [_fuse(view_1, view_2, along_1, along_2, pose_covariance) for along_1, along_2, _ in cases]
    positions, covariances, fits = (np.stack(part) for part in zip(*found, strict=True))
    weights = fits + np.log([case[2] for case in cases])[:, None]
    weights = np.exp(weights - weights.max(axis=0))
    weights /= weights.sum(axis=0)
    position = (weights[..., None] * positions).sum(axis=0)
    apart = positions - position
    spread = covariances + apart[..., :, None] * apart[..., None, :]
    covariance = (weights[..., None, None] * spread).sum(axis=0)
    both = view_1.valid & view_2.valid
    first = view_1.valid
    return Location(
        _choose(both, position, _choose(first, singles[0].east_north, singles[1].east_north)),
        _choose(both, covariance, _choose(first, singles[0].covariance, singles[1].covariance)),
        view_1.valid | view_2.valid,
    )


def _choose(condition: NDArray[np.bool_], yes: Array, no: Array) -> Array:
    """Rows (M, ...) of ``yes`` where the condition (M,) holds, else of ``no``."""
    return np.where(condition.reshape(-1, *(1,) * (yes.ndim - 1)), yes, no)


def _fuse(
    view_1: GroundPoints, view_2: GroundPoints, along_1: Array, along_2: Array, pose_covariance: Array
) -> tuple[Array, Array, Array]:
    """Positions (M, 2), their covariances (M, 2, 2), and log densities (M,) of the two points' distance."""
    count = len(view_1.points)
    jacobian = np.zeros((count, 4, 6))
    jacobian[:, :2, :3], jacobian[:, 2:, 3:] = view_1.pose_jacobian(), view_2.pose_jacobian()
    joint = jacobian @ pose_covariance @ np.swapaxes(jacobian, 1, 2)
    joint[:, :2, :2] += polar_covariance(view_1.bearing, along_1, view_1.across)
    joint[:, 2:, 2:] += polar_covariance(view_2.bearing, along_2, view_2.across)
    own_1, own_2, crossed = joint[:, :2, :2], joint[:, 2:, 2:], joint[:, :2, 2:]
    gap = (view_2.points - view_1.points)[:, :, None]
    gap_covariance = own_1 + own_2 - crossed - np.swapaxes(crossed, 1, 2)
    # From the first point towards the second, as far as the first point's share of the gap's uncertainty goes.
    gain = np.swapaxes(np.linalg.solve(gap_covariance, np.swapaxes(own_1 - crossed, 1, 2)), 1, 2)
    position = view_1.points + (gain @ gap)[:, :, 0]
    covariance = own_1 - gain @ np.swapaxes(own_1 - crossed, 1, 2)
    square = (np.swapaxes(gap, 1, 2) @ np.linalg.solve(gap_covariance, gap))[:, 0, 0]
    return position, covariance, -0.5 * square - 0.5 * np.log(np.linalg.det(gap_covariance))


def place_at(
    camera_from: Camera, camera_to: Camera, boxes: ArrayLike, east_north: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Boxes (M, 4) of one view placed in the other, for objects whose positions are known better than by their feet.

    Width and height in metres follow from the box and the distance of the position, as in
    `crossview.geometry.projection`. For a hidden foot that mends distance, width and height at once.

    Args:
        camera_from: that of the boxes, or those (M,) of each.
        camera_to: that of the other view, or those (M,).
        boxes: (M, 4) pixels.
        east_north: (M, 2) positions.

    Returns:
        Boxes (M, 4) in pixels of the other view, and where (M,) they exist.
    """
    rows = torch.tensor(np.asarray(boxes, dtype=np.float64))
    from_, to = (
        Camera(*(field.detach().to("cpu", torch.float64) for field in camera)) for camera in (camera_from, camera_to)
    )
    standing, seen = locate_boxes(from_, rows)
    position = torch.tensor(east_north)
    distance = torch.linalg.vector_norm(position - from_.position, dim=-1)
    growth = distance / torch.where(seen, standing.distance, 1.0)
    # Both the width and the height above the camera grow with the distance.
    height = from_.height + (standing.height - from_.height) * growth
    placed, _, visible = view_boxes(to, Standing(position, standing.width * growth, height, distance))
    valid = seen & visible
    return or_placeholder(placed, valid).numpy(), valid.numpy()
