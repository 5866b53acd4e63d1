"""World frames: latitude and longitude (degrees, float64) to local metres and back.

Convention:
    ``latlng`` is (latitude, longitude) in degrees, float64: one float32 step of longitude at 118 degrees is 0.70 m.
    ``east_north`` is metres in the azimuthal equidistant frame around an origin, on a sphere of radius 6,371,000 m:
    distance and bearing from the origin are exact. Only numpy float64 comes in and goes out; the network gets the
    metres cast to float32.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_M = 6_371_000.0


def to_local(latlng: ArrayLike, origin: ArrayLike) -> NDArray[np.float64]:
    """Metres east and north (..., 2) of points (..., 2) in degrees, as seen from ``origin``, broadcast, in degrees.

    Raises:
        ValueError: the input came in single precision, where the metres are already lost.
    """
    points, origins = np.radians(_double(latlng)), np.radians(_double(origin))
    lat_0, lng_0 = origins[..., 0], origins[..., 1]
    lat, lng = points[..., 0], points[..., 1]
    half_lat, half_lng = np.sin((lat - lat_0) / 2), np.sin((lng - lng_0) / 2)
    # Haversine: well conditioned for the short distances of a street, where the arc cosine is not.
    chord = np.clip(half_lat**2 + np.cos(lat) * np.cos(lat_0) * half_lng**2, 0.0, 1.0)
    distance = 2.0 * EARTH_RADIUS_M * np.arcsin(np.sqrt(chord))
    east = np.cos(lat) * np.sin(lng - lng_0)
    # cos(lat_0) sin(lat) - sin(lat_0) cos(lat) cos(dlng), rewritten without the difference of two nearly equal numbers.
    north = np.sin(lat - lat_0) + 2.0 * np.sin(lat_0) * np.cos(lat) * half_lng**2
    azimuth = np.arctan2(east, north)
    return np.stack((distance * np.sin(azimuth), distance * np.cos(azimuth)), axis=-1)


def to_latlng(east_north: ArrayLike, origin: ArrayLike) -> NDArray[np.float64]:
    """Degrees (..., 2) of points (..., 2) in metres east and north of ``origin``: the inverse of `to_local`."""
    metres, origins = _double(east_north), np.radians(_double(origin))
    lat_0, lng_0 = origins[..., 0], origins[..., 1]
    arc = np.hypot(metres[..., 0], metres[..., 1]) / EARTH_RADIUS_M
    azimuth = np.arctan2(metres[..., 0], metres[..., 1])
    # The point's unit vector: along the pole, along the origin's meridian in the equator's plane, and east of that.
    pole = np.sin(lat_0) * np.cos(arc) + np.cos(lat_0) * np.sin(arc) * np.cos(azimuth)
    meridian = np.cos(lat_0) * np.cos(arc) - np.sin(lat_0) * np.sin(arc) * np.cos(azimuth)
    east = np.sin(arc) * np.sin(azimuth)
    # Arc tangents only: the arc sine loses half of the digits near the poles.
    lat = np.arctan2(pole, np.hypot(meridian, east))
    lng = lng_0 + np.arctan2(east, meridian)
    degrees: NDArray[np.float64] = np.degrees(np.stack((lat, lng), axis=-1))
    degrees[..., 1] = (degrees[..., 1] + 180.0) % 360.0 - 180.0
    return degrees


def _double(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        raise ValueError(
            f"coordinates of shape {array.shape} came as {array.dtype}, whose steps of longitude are up to a metre; "
            "keep degrees and metres of the world in float64 from the file on"
        )
    return array.astype(np.float64)
