"""The ground of a street as a map seen from above, drawn once with its shadows, and its picture in every panorama.

The map's columns run along the street (s), its rows across it (t), 5 cm a pixel.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossview.data.streets.canvas import Picture
from crossview.data.streets.curve import Curve
from crossview.data.streets.light import Light
from crossview.data.streets.noise import fractal_noise, tile
from crossview.data.streets.projection import Panorama

Array = NDArray[np.floating[Any]]
PIXELS_PER_M = 20.0
HALF_WIDTH_M = 36.0
FARTHEST_M = 130.0
GRASS = {"summer": (66, 118, 104), "autumn": (72, 114, 122), "spring": (62, 128, 100)}

_CROSS = np.array(((0, 1, 0), (1, 1, 1), (0, 1, 0)), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Profile:
    """The cross-section of a street: metres from the centre line, equal on both sides."""

    road: float  # where the asphalt ends
    kerb: float  # where the planting strip begins
    strip: float  # where the sidewalk begins
    walk: float  # where the gardens begin


@dataclass(frozen=True, slots=True)
class Ground:
    """The finished map: levels of halving resolution, and where the first one begins."""

    curve: Curve
    start: float
    levels: tuple[Picture, ...]


class GroundPainter:
    """Draws a map: surfaces first, then shadows, then `finish`."""

    def __init__(
        self, rng: np.random.Generator, curve: Curve, span: tuple[float, float], profile: Profile, season: str
    ) -> None:
        """Lays asphalt, kerbs, grass and sidewalks over the whole span (smallest and largest s)."""
        self._rng, self._curve, self._start = rng, curve, span[0]
        self._profile = profile
        self._shape = (int(2 * HALF_WIDTH_M * PIXELS_PER_M), int((span[1] - span[0]) * PIXELS_PER_M))
        self._fine = fractal_noise(rng, 512, 512, 128, 3, 1.2)
        self._coarse = fractal_noise(rng, 512, 512, 6, 6, 0.75)
        self._mixed = 0.8 * self._fine + 0.4 * self._coarse
        self._map = np.empty((*self._shape, 3), dtype=np.uint8)
        self._shadow = np.zeros((self._shape[0] // 2, self._shape[1] // 2), dtype=np.float32)
        self._occlusion = np.zeros_like(self._shadow)
        self._grass = np.array(GRASS[season], dtype=np.float32) * rng.uniform(0.85, 1.12)
        self._lay_zones()

    def _lay_zones(self) -> None:
        rng, profile = self._rng, self._profile
        road = np.array((112, 110, 108), dtype=np.float32) * rng.uniform(0.72, 1.12)
        concrete = np.array((168, 176, 180), dtype=np.float32) * rng.uniform(0.85, 1.05)
        edges = (0.0, profile.road - 0.35, profile.road, profile.kerb, profile.strip, profile.walk, HALF_WIDTH_M)
        kinds = (road, road * 1.18, concrete * 1.02, self._grass, concrete, self._grass)
        for sign in (-1.0, 1.0):
            for inner, outer, colour in zip(edges[:-1], edges[1:], kinds, strict=True):
                self._fill_rows(sign * inner, sign * outer, colour, 0.16 if colour is self._grass else 0.06)
        for sign in (-1.0, 1.0):
            rows = self._rows(sign * profile.strip, sign * profile.walk)
            for column in range(0, self._shape[1], int(1.5 * PIXELS_PER_M)):
                self._map[rows, column : column + 1] = (concrete * 0.72).astype(np.uint8)
            self._map[self._rows(sign * profile.road, sign * (profile.road + 0.05))] = (concrete * 0.6).astype(np.uint8)

    def _rows(self, from_t: float, to_t: float) -> slice:
        low, high = sorted((from_t, to_t))
        return slice(max(0, round((low + HALF_WIDTH_M) * PIXELS_PER_M)), round((high + HALF_WIDTH_M) * PIXELS_PER_M))

    def _fill_rows(self, from_t: float, to_t: float, colour: Array, contrast: float) -> None:
        rows = self._rows(from_t, to_t)
        height = rows.stop - rows.start
        noise = contrast * tile(self._mixed, height, self._shape[1])
        self._map[rows] = np.clip((1.0 + noise)[..., None] * colour, 0, 255).astype(np.uint8)

    def pixels(self, s: ArrayLike, t: ArrayLike, scale: float = PIXELS_PER_M) -> NDArray[np.int32]:
        """Map pixels (..., 2) column, row of street points."""
        columns = (np.asarray(s) - self._start) * scale
        rows = (np.asarray(t) + HALF_WIDTH_M) * scale
        return np.round(np.stack((columns, rows), axis=-1)).astype(np.int32)

    def rectangle(
        self, s: tuple[float, float], t: tuple[float, float], colour: ArrayLike, contrast: float = 0.05
    ) -> None:
        """Fills a rectangle of the street, for driveways, crossings and patches."""
        (left, top), (right, bottom) = self.pixels(min(s), min(t)), self.pixels(max(s), max(t))
        left, right = np.clip((left, right), 0, self._shape[1])
        top, bottom = np.clip((top, bottom), 0, self._shape[0])
        noise = tile(self._mixed, max(bottom - top, 0), max(right - left, 0))[..., None]
        shade = np.clip(np.asarray(colour, dtype=np.float32) * (1.0 + contrast * noise), 0, 255)
        self._map[top:bottom, left:right] = shade.astype(np.uint8)

    def line(self, s: ArrayLike, t: ArrayLike, colour: tuple[int, int, int], width_m: float) -> None:
        """Draws a chain of street points, for markings and cracks."""
        points = self.pixels(s, t)
        cv2.polylines(self._map, [points], False, colour, max(1, round(width_m * PIXELS_PER_M)), cv2.LINE_AA)

    def spot(self, s: float, t: float, radius_m: float, colour: ArrayLike, contrast: float = 0.15) -> None:
        """A round patch with a ragged rim: earth around a trunk, a manhole."""
        column, row = (int(v) for v in self.pixels(s, t))
        reach = int(radius_m * PIXELS_PER_M * 1.5) + 1
        rows = slice(max(0, row - reach), min(self._shape[0], row + reach))
        columns = slice(max(0, column - reach), min(self._shape[1], column + reach))
        y, x = np.mgrid[rows, columns].astype(np.float32)
        noise = self._window(rows, columns)
        inside = np.hypot(x - column, y - row) < radius_m * PIXELS_PER_M * (1.0 + contrast * noise)
        self._map[rows, columns][inside] = np.clip(
            np.asarray(colour, dtype=np.float32) * (1.0 + 0.1 * noise[inside][:, None]), 0, 255
        ).astype(np.uint8)

    def _window(self, rows: slice, columns: slice) -> Array:
        y, x = np.arange(rows.start, rows.stop) % 512, np.arange(columns.start, columns.stop) % 512
        return np.asarray(self._coarse[y[:, None], x[None]])

    def litter(self, s: float, t: float, radius_m: float, colours: Array, count: int) -> None:
        """Fallen leaves or petals around a tree."""
        spread = self._rng.normal(0, radius_m * 0.6, (2, count))
        points = self.pixels(s + spread[0], t + spread[1])
        inside = ((points >= 0) & (points < self._shape[::-1])).all(axis=1)
        chosen = colours[self._rng.integers(len(colours), size=count)][inside]
        self._map[points[inside, 1], points[inside, 0]] = np.clip(chosen * 0.9, 0, 255).astype(np.uint8)

    def cast_points(self, points: Array, light: Light) -> None:
        """Adds the shadow of leaves (N, 3), straight down and away from the sun."""
        for plane, reach in ((self._shadow, 1.0 / max(float(light.sun[2]), 0.12)), (self._occlusion, 0.0)):
            away = points[:, :2] - points[:, 2:3] * light.sun[:2] * np.float32(reach)
            pixels = self._half_pixels(away)
            inside = ((pixels >= 0) & (pixels < plane.shape[::-1])).all(axis=1)
            plane[pixels[inside, 1], pixels[inside, 0]] = 1.0

    def cast_prism(self, corners: Array, height: float, light: Light) -> None:
        """Adds the shadow of an upright prism over (N, 2) world corners."""
        reach = height / max(float(light.sun[2]), 0.12)
        shifted = corners - light.sun[:2] * np.float32(reach)
        hull = cv2.convexHull(self._half_pixels(np.concatenate((corners, shifted))))
        cv2.fillConvexPoly(self._shadow, hull, (1.0,))
        cv2.fillConvexPoly(self._occlusion, cv2.convexHull(self._half_pixels(corners)), (1.6,))

    def _half_pixels(self, world: Array) -> NDArray[np.int32]:
        s, t = self._curve.to_street(world[..., 0].astype(np.float32), world[..., 1].astype(np.float32))
        return self.pixels(s, t, PIXELS_PER_M / 2)

    def finish(self, light: Light) -> Ground:
        """Lights the map and makes its levels."""
        shadow = np.clip(1.25 * cv2.GaussianBlur(cv2.dilate(self._shadow, _CROSS), (0, 0), 1.3), 0, 1)
        occlusion = cv2.dilate(self._occlusion, _CROSS)
        occlusion = np.clip(cv2.GaussianBlur(occlusion, (0, 0), 7.0), 0, 1.6) * 0.34
        steep = max(float(light.sun[2]), 0.3)
        received = light.ambient * (1 - occlusion)[..., None] + light.direct * steep * (1 - shadow)[..., None]
        large = cv2.resize(received.astype(np.float32), self._shape[::-1], interpolation=cv2.INTER_LINEAR)
        lit = cv2.multiply(self._map, large, dtype=cv2.CV_8U)
        levels = [np.asarray(lit, dtype=np.uint8)]
        for _ in range(3):
            levels.append(np.asarray(cv2.pyrDown(levels[-1]), dtype=np.uint8))
        return Ground(self._curve, self._start, tuple(levels))


def paint_ground(image: Picture, camera: Panorama, ground: Ground, light: Light) -> None:
    """Paints the lower half of a panorama."""
    horizon = camera.height // 2
    slopes = camera.row_slopes(horizon, camera.height)
    distance = np.minimum(-camera.up / slopes, FARTHEST_M).astype(np.float32)
    bearings = camera.column_bearings(0, camera.width)
    # Levels by distance: far rows take coarser ones, or the texture would flicker.
    bands = ((0.0, 7.0), (7.0, 16.0), (16.0, 34.0), (34.0, np.inf))
    haze = light.haze_share(distance)[:, None]
    for level, (near, far) in enumerate(bands):
        rows = np.flatnonzero((distance >= near) & (distance < far))
        if not rows.size:
            continue
        reach = distance[rows][:, None]
        s, t = ground.curve.to_street(
            np.float32(camera.east) + reach * np.sin(bearings), np.float32(camera.north) + reach * np.cos(bearings)
        )
        scale = np.float32(PIXELS_PER_M / 2**level)
        map_x = (s - np.float32(ground.start)) * scale - np.float32(0.5)
        map_y = (t + np.float32(HALF_WIDTH_M)) * scale - np.float32(0.5)
        seen = cv2.remap(ground.levels[level], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        part = slice(horizon + int(rows[0]), horizon + int(rows[-1]) + 1)
        if level < 2:
            image[part] = seen
        else:
            share = haze[rows][..., None]
            image[part] = (seen * (1 - share) + light.haze * share).astype(np.uint8)
