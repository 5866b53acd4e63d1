"""Which of the two numbers of a location is the latitude.

Conventions: positions and the result are (latitude, longitude) in degrees; longitude is in -180..180. Camera positions
always have this order; locations of objects have either, the same one in the whole data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LocationOrder = Literal["auto", "lat_lng", "lng_lat"]

_EARTH_RADIUS_M: Final = 6_371_000.0


class Ordered(NamedTuple):
    """Locations in one order.

    Attributes:
        latlng: (N, 2) latitude, longitude.
        distance: (N,) metres from the camera; infinite where the numbers are no latitude and longitude.
        notice: What was chosen and why; None if nothing had to be chosen.
    """

    latlng: NDArray[np.float64]
    distance: NDArray[np.float64]
    notice: str | None


def is_latlng(latlng: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether (..., 2) numbers are a latitude and a longitude; shape (...,)."""
    return (np.abs(latlng[..., 0]) <= 90.0) & (np.abs(latlng[..., 1]) <= 180.0)


def order_locations(written: NDArray[np.float64], cameras: NDArray[np.float64], order: LocationOrder) -> Ordered:
    """Bring locations into the order latitude, longitude.

    With "auto", the order in which more objects are nearer to the camera that saw them wins: an object seen in a
    street view is some metres away, while its swapped location is somewhere else on Earth, or nowhere.

    Args:
        written: (N, 2) the two numbers as in the files.
        cameras: (N, 2) latitude and longitude of the camera that saw each object.
        order: The order in the files, or "auto".

    Returns:
        The locations with their distances from the cameras.
    """
    straight = np.ascontiguousarray(written)
    swapped = np.ascontiguousarray(written[:, ::-1])
    if order != "auto":
        latlng = straight if order == "lat_lng" else swapped
        return Ordered(latlng, _distance(latlng, cameras), None)
    near_straight, near_swapped = _distance(straight, cameras), _distance(swapped, cameras)
    votes = int((near_straight < near_swapped).sum()), int((near_swapped < near_straight).sum())
    if not any(votes):
        return Ordered(straight, near_straight, None)
    is_swapped = votes[1] > votes[0]
    chosen, other = ("lng_lat", "lat_lng") if is_swapped else ("lat_lng", "lng_lat")
    notice = (
        f"location_order=auto chose {chosen}: {max(votes)} of {len(written)} locations are nearer to their camera "
        f"this way; set location_order={other} if that is wrong"
    )
    return Ordered(swapped, near_swapped, notice) if is_swapped else Ordered(straight, near_straight, notice)


def _distance(latlng: NDArray[np.float64], cameras: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) metres on a locally flat Earth; infinite where the numbers are out of range."""
    step = np.radians(latlng - cameras)
    east = (step[:, 1] + np.pi) % (2 * np.pi) - np.pi  # the short way around the date line
    metres = _EARTH_RADIUS_M * np.hypot(step[:, 0], east * np.cos(np.radians(cameras[:, 0])))
    return np.where(is_latlng(latlng), metres, np.inf)
