"""Lights and seasons: where the sun stands, how bright and how warm it is, how far one sees."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
SEASONS = ("summer", "autumn", "summer", "spring")  # of street number modulo 4
_LIGHTS = ("sunny", "overcast", "evening", "sunny", "overcast", "sunny", "sunny", "evening", "overcast", "sunny")


@dataclass(frozen=True, slots=True)
class Light:
    """The light of a street.

    Attributes:
        name: sunny, overcast or evening.
        sun: Unit vector (east, north, up) towards the sun.
        direct: (3,) BGR strength of the sunlight on a surface that faces the sun.
        ambient: (3,) BGR strength of the light from the whole sky.
        haze: (3,) BGR colour of the air far away.
        haze_range_m: Distance at which the air hides 63 % of a surface.
        zenith: (3,) BGR colour of the sky overhead.
        cover: Share of the sky under clouds, 0 to 1.
    """

    name: str
    sun: Array
    direct: Array
    ambient: Array
    haze: Array
    haze_range_m: float
    zenith: Array
    cover: float

    def on(self, normals: Array) -> Array:
        """BGR light (..., 3) on surfaces with unit normals (..., 3)."""
        facing = np.clip(normals @ self.sun, 0.0, None)[..., None]
        open_sky = (0.75 + 0.25 * normals[..., 2])[..., None]
        return np.asarray(self.ambient * open_sky + self.direct * facing, dtype=np.float32)

    def haze_share(self, distance: float | Array) -> Array:
        """Share of the air's colour in what is seen at a distance in metres."""
        return np.asarray(1.0 - np.exp(-np.asarray(distance, dtype=np.float32) / self.haze_range_m), dtype=np.float32)


def draw_light(rng: np.random.Generator, number: int) -> Light:
    """The light of street ``number``: of ten streets five are sunny, three overcast, two in the evening."""
    name = _LIGHTS[number % len(_LIGHTS)]
    azimuth = rng.uniform(0, 2 * np.pi)
    if name == "sunny":
        elevation = np.radians(rng.uniform(32, 66))
        direct, ambient = 0.72 * _bgr(0.90, 0.98, 1.05), 0.46 * _bgr(1.12, 1.02, 0.94)
        haze, zenith, haze_range = _bgr(238, 226, 212), _bgr(205, 135, 70), rng.uniform(240, 420)
        cover = rng.uniform(0.05, 0.5)
    elif name == "overcast":
        elevation = np.radians(rng.uniform(40, 60))
        direct, ambient = 0.12 * _bgr(1, 1, 1), 0.80 * _bgr(1.03, 1.0, 0.98)
        haze, zenith, haze_range = _bgr(216, 214, 210), _bgr(190, 180, 170), rng.uniform(130, 240)
        cover = rng.uniform(0.85, 1.0)
    else:
        elevation = np.radians(rng.uniform(9, 20))
        direct, ambient = 0.80 * _bgr(0.60, 0.86, 1.10), 0.46 * _bgr(1.18, 1.0, 0.92)
        haze, zenith, haze_range = _bgr(175, 200, 232), _bgr(185, 130, 85), rng.uniform(180, 320)
        cover = rng.uniform(0.15, 0.6)
    sun = np.array(
        (np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)), dtype=np.float32
    )
    return Light(name, sun, direct, ambient, haze, float(haze_range), zenith, float(cover))


def _bgr(blue: float, green: float, red: float) -> Array:
    return np.array((blue, green, red), dtype=np.float32)
