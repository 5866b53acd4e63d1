"""The sky of a street: its gradient, the sun, clouds, and hills and far trees on the horizon."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Picture
from crossview.data.streets.light import Light
from crossview.data.streets.noise import fractal_noise

Array = NDArray[np.floating[Any]]


def paint_dome(rng: np.random.Generator, width: int, light: Light) -> Picture:
    """The upper half (width // 4, width, 3) of a panorama whose left border looks north, for all views of a street."""
    rows = width // 4
    tilt = ((rows - np.arange(rows, dtype=np.float32) - 0.5) * np.float32(2 * np.pi / width))[:, None]
    bearing = ((np.arange(width, dtype=np.float32) + 0.5) * np.float32(2 * np.pi / width))[None]
    height = (np.sin(tilt) ** 0.55)[..., None]
    sky = light.haze * (1 - height) + light.zenith * height
    sky = np.broadcast_to(sky, (rows, width, 3)).astype(np.float32)
    toward_sun = (
        np.cos(tilt) * (np.sin(bearing) * light.sun[0] + np.cos(bearing) * light.sun[1]) + np.sin(tilt) * light.sun[2]
    )
    if light.name != "overcast":
        warmth = np.array((150, 215, 255) if light.name == "evening" else (245, 250, 255), dtype=np.float32)
        glow = 0.55 * np.clip(toward_sun, 0, 1) ** 24 + 0.5 * np.clip(toward_sun, 0, 1) ** 300
        sky += (warmth - sky) * np.clip(glow, 0, 1)[..., None]
    sky = _add_clouds(rng, sky, tilt, bearing, toward_sun, light)
    if light.name != "overcast":
        disc = np.clip((toward_sun - np.cos(np.float32(0.022))) * 8000, 0, 1)[..., None]
        sky += (255 - sky) * disc
    sky = _add_ridge(
        rng, sky, tilt, (0.012, 0.075), np.array((120, 112, 96), dtype=np.float32), light, 0.62, rough=0.45
    )
    sky = _add_ridge(rng, sky, tilt, (0.010, 0.045), np.array((64, 92, 76), dtype=np.float32), light, 0.42, rough=0.85)
    return np.clip(sky, 0, 255).astype(np.uint8)


def _add_clouds(
    rng: np.random.Generator, sky: Array, tilt: Array, bearing: Array, toward_sun: Array, light: Light
) -> Array:
    """Clouds on a plane overhead, thinner towards their rims, darker in their middle."""
    noise = fractal_noise(rng, 512, 512, 3, 7, 0.58)
    reach = 1.0 / np.tan(tilt + 0.05)
    map_x = ((reach * np.sin(bearing) * 70) % 512).astype(np.float32)
    map_y = ((reach * np.cos(bearing) * 70) % 512).astype(np.float32)
    density = cv2.remap(noise, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    threshold = np.float32(np.quantile(noise, 1.0 - min(light.cover, 0.98)))
    cover = np.clip((density - threshold) / 0.7, 0, 1)
    bright = {"sunny": (250, 250, 250), "overcast": (226, 224, 222), "evening": (168, 196, 238)}[light.name]
    dark = {"sunny": (205, 196, 188), "overcast": (168, 166, 166), "evening": (150, 138, 150)}[light.name]
    depth = np.clip((density - threshold) / 2.4, 0, 1)[..., None]
    colours = np.array(bright, dtype=np.float32) * (1 - depth) + np.array(dark, dtype=np.float32) * depth
    colours = colours + 25 * np.clip(toward_sun, 0, 1)[..., None] ** 6
    fade = np.clip(np.sin(tilt) * 6, 0.15, 1.0)
    return np.asarray(sky + (colours - sky) * (cover * fade)[..., None], dtype=np.float32)


def _add_ridge(
    rng: np.random.Generator,
    sky: Array,
    tilt: Array,
    heights: tuple[float, float],
    colour: Array,
    light: Light,
    haze: float,
    rough: float,
) -> Array:
    """A silhouette on the horizon; heights in radians, ``haze`` the share of the air's colour."""
    profile = fractal_noise(rng, 8, sky.shape[1], 14, 7, rough)[0]
    low, high = heights
    top = np.clip(low + (high - low) * (profile + 1.6) / 3.6, 0.002, high * 1.3)
    shade = 1.0 + 0.12 * fractal_noise(rng, 32, sky.shape[1], 200, 3, 0.7)
    rows = sky.shape[0]
    texture = (
        cv2.resize(shade, (sky.shape[1], rows), interpolation=cv2.INTER_LINEAR)
        if rows < 32
        else np.tile(shade, (-(-rows // 32), 1))[:rows]
    )
    body = colour * (light.ambient + 0.4 * light.direct) * texture[..., None] * (1 - haze) + light.haze * haze
    return np.where((tilt < top[None])[..., None], body, sky).astype(np.float32)
