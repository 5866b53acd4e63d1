"""Flat textured surfaces: walls, roofs, the sides of cars. A ray per pixel meets the plane: perspective is exact."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Canvas, Picture

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Surface:
    """A textured parallelogram.

    Attributes:
        corner: World point (3,) of the texture's top left corner.
        along: World vector (3,) from there to the top right corner.
        down: World vector (3,) from there to the bottom left corner.
        levels: The lit texture (h, w, 4) BGR and opacity, each level half as large as the one before.
        two_sided: Also seen from behind; otherwise only from where ``along`` runs to the right, ``down`` downwards.
    """

    corner: Array
    along: Array
    down: Array
    levels: tuple[Picture, ...]
    two_sided: bool = False

    @property
    def normal(self) -> Array:
        """Unit vector (3,) towards those who see the front."""
        normal = np.cross(self.down, self.along)
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float32)

    @property
    def middle(self) -> Array:
        """World point (3,) in the middle."""
        return np.asarray(self.corner + (self.along + self.down) / 2, dtype=np.float32)


def texture_levels(texture: Picture) -> tuple[Picture, ...]:
    """The texture and its halves, quarters and eighths, so that far surfaces do not flicker."""
    levels = [texture]
    while len(levels) < 4 and min(levels[-1].shape[:2]) >= 8:
        levels.append(np.asarray(cv2.pyrDown(levels[-1]), dtype=np.uint8))
    return tuple(levels)


def paint_surface(canvas: Canvas, surface: Surface) -> None:
    """Paints a surface into the canvas, with the haze of its distance."""
    camera = canvas.camera
    to_middle = camera.relative(surface.middle)
    if not surface.two_sided and float(camera.relative(surface.corner) @ surface.normal) >= 0.0:
        return
    left, top, right, bottom = _window(canvas, surface)
    if right - left < 1 or bottom - top < 1:
        return
    bearings = camera.column_bearings(left, right)
    sine, cosine = np.sin(bearings)[None], np.cos(bearings)[None]
    slope = camera.row_slopes(top, bottom)[:, None]
    normal = surface.normal
    offset = camera.relative(surface.corner)
    towards = normal[0] * sine + normal[1] * cosine + normal[2] * slope
    reach = np.float32(offset @ normal) / np.where(np.abs(towards) < 1e-6, np.float32(1e-6), towards)
    u, v = _plane_coordinates(surface, reach, sine, cosine, slope, offset)
    distance = float(np.linalg.norm(to_middle))
    level = _choose_level(surface, distance, camera.pixels_per_radian)
    texture = surface.levels[level]
    rows, columns = texture.shape[:2]
    seen = cv2.remap(
        texture,
        u * np.float32(columns) - np.float32(0.5),
        v * np.float32(rows) - np.float32(0.5),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = (reach > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1) & (seen[..., 3] > 127)
    colours = blend_haze(canvas, np.asarray(seen[..., :3], dtype=np.uint8), distance)
    canvas.paste(left, top, colours, inside)


def blend_haze(canvas: Canvas, colours: Picture, distance: float) -> Picture:
    """Colours (..., 3) as seen through the air of a distance in metres."""
    share = float(canvas.light.haze_share(distance))
    haze = canvas.light.haze * share
    tables = np.clip(np.arange(256, dtype=np.float32)[:, None] * (1.0 - share) + haze, 0, 255).astype(np.uint8)
    flat = np.ascontiguousarray(colours).reshape(1, -1, 3)
    return np.asarray(cv2.LUT(flat, tables[None]), dtype=np.uint8).reshape(colours.shape)


def _window(canvas: Canvas, surface: Surface) -> tuple[int, int, int, int]:
    """Columns and rows (left, top, right, bottom) that hold the surface; edges are sampled as they bend."""
    steps = np.linspace(0, 1, 9, dtype=np.float32)
    zero, one = np.zeros_like(steps), np.ones_like(steps)
    u = np.concatenate((steps, steps, zero, one))[:, None]
    v = np.concatenate((zero, one, steps, steps))[:, None]
    points = surface.corner + u * surface.along + v * surface.down
    reference = float(canvas.camera.project(surface.middle)[0])
    x, y, _ = canvas.camera.project(points, reference)
    left, right = int(np.floor(x.min())) - 1, int(np.ceil(x.max())) + 1
    top, bottom = int(np.floor(y.min())) - 1, int(np.ceil(y.max())) + 1
    return left, max(0, top), right, min(canvas.camera.height, bottom)


def _plane_coordinates(
    surface: Surface, reach: Array, sine: Array, cosine: Array, slope: Array, offset: Array
) -> tuple[Array, Array]:
    """Coordinates u, v in [0, 1] of the points at ``reach`` (metres over ground) along the rays of the window."""
    gram = np.array(
        (
            (surface.along @ surface.along, surface.along @ surface.down),
            (surface.along @ surface.down, surface.down @ surface.down),
        )
    )
    duals = (np.linalg.inv(gram) @ np.stack((surface.along, surface.down))).astype(np.float32)
    u, v = (reach * (dual[0] * sine + dual[1] * cosine + dual[2] * slope) - np.float32(dual @ offset) for dual in duals)
    return u.astype(np.float32), v.astype(np.float32)


def _choose_level(surface: Surface, distance: float, pixels_per_radian: float) -> int:
    """The texture level with about one texel a pixel."""
    texels_per_metre = surface.levels[0].shape[1] / max(float(np.linalg.norm(surface.along)), 1e-6)
    ratio = texels_per_metre * distance / pixels_per_radian
    return int(np.clip(round(np.log2(max(ratio, 1e-6))), 0, len(surface.levels) - 1))
