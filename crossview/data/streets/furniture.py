"""What stands in a street besides trees and houses: cars, lamp posts, utility poles with wires, bins."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Canvas
from crossview.data.streets.houses import lit_surface
from crossview.data.streets.light import Light
from crossview.data.streets.surfaces import Surface, paint_surface

Array = NDArray[np.floating[Any]]
PAINTS = (
    (200, 202, 204), (60, 58, 56), (30, 28, 26), (140, 142, 146), (120, 60, 40), (40, 36, 150), (96, 104, 90),
    (160, 178, 190), (226, 228, 230), (90, 70, 50),
)  # fmt: skip
GLASS = np.array((62, 54, 48), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Thing:
    """Something made of surfaces, painted in the given order: each hides those before it."""

    middle: Array  # (2,) world point
    footprint: Array  # (4, 2) world points, for the shadow
    height: float
    surfaces: tuple[Surface, ...]


@dataclass(frozen=True, slots=True)
class Rod:
    """A pole, an arm or a wire: a chain of world points with a radius in metres."""

    points: Array  # (N, 3)
    radius: float
    colour: Array  # (3,) BGR with its light


def paint_thing(canvas: Canvas, thing: Thing) -> None:
    """Paints the surfaces that face the camera."""
    for surface in thing.surfaces:
        paint_surface(canvas, surface)


def paint_rod(canvas: Canvas, rod: Rod) -> None:
    """Paints a chain of thick line segments."""
    camera = canvas.camera
    reference = float(camera.project(rod.points[len(rod.points) // 2])[0])
    x, y, flat = camera.project(rod.points, reference)
    radius = np.maximum(rod.radius * camera.pixels_per_radian / np.maximum(flat, 0.5), 0.5)
    pad = int(radius.max()) + 2
    left, top = int(x.min()) - pad, int(y.min()) - pad
    mask = np.zeros((int(y.max()) + pad + 1 - top, int(x.max()) + pad + 1 - left), dtype=np.uint8)
    for number in range(len(x) - 1):
        direction = np.array((x[number + 1] - x[number], y[number + 1] - y[number]))
        across = np.array((-direction[1], direction[0])) / max(float(np.hypot(*direction)), 1e-6)
        ends = np.array(((x[number], y[number]), (x[number + 1], y[number + 1]))) - (left, top)
        near, far = across * radius[number], across * radius[number + 1]
        quad = np.stack((ends[0] + near, ends[1] + far, ends[1] - far, ends[0] - near))
        cv2.fillConvexPoly(mask, np.round(quad * 16).astype(np.int32), 255, shift=4)
    distance = float(flat.min())
    share = float(canvas.light.haze_share(distance))
    colour = np.clip(rod.colour * (1 - share) + canvas.light.haze * share, 0, 255).astype(np.uint8)
    canvas.paste(left, top, np.broadcast_to(colour, (*mask.shape, 3)), mask > 0)


def build_car(rng: np.random.Generator, place: Array, bearing: float, light: Light) -> Thing:
    """A parked car, estate, van or pick-up at a world point (2,), its front towards a bearing."""
    kind = int(rng.integers(3))
    length, width = rng.uniform(4.1, 4.8), rng.uniform(1.75, 1.9)
    belt, roof = ((0.86, 1.44), (0.92, 1.62), (1.02, 1.92))[kind]
    paint = np.array(PAINTS[rng.integers(len(PAINTS))], dtype=np.float32)
    forward = np.array((np.sin(bearing), np.cos(bearing)), dtype=np.float32)
    right = np.array((np.cos(bearing), -np.sin(bearing)), dtype=np.float32)
    body = _box_corners(place, forward, right, length, width)
    surfaces: list[Surface] = []
    for side in range(4):
        start, end = body[side], body[(side + 1) % 4]
        lights = ((200, 205, 210), None, (40, 40, 190), None)[side]
        albedo, opacity = _body_side(paint, side % 2 == 1, lights)
        surfaces.append(_upright(start, end, belt, 0.0, albedo, light, opacity))
    surfaces.append(_lid(body, belt, paint * 0.98, light))
    # The cabin stands on the belt line: windows around, a roof on top.
    behind = {0: -0.12, 1: -0.42, 2: -0.30}[kind] * length / 4.4
    cabin_low = _box_corners(place + forward * behind, forward, right, length * (0.56, 0.66, 0.72)[kind], width * 0.94)
    cabin_high = _box_corners(
        place + forward * (behind - 0.05), forward, right, length * (0.33, 0.5, 0.6)[kind], width * 0.78
    )
    surfaces += [_cabin_side(cabin_low, cabin_high, side, belt, roof, paint, light) for side in range(4)]
    surfaces.append(_lid(cabin_high, roof, paint, light))
    return Thing(place, body, roof, tuple(surfaces))


def build_bin(rng: np.random.Generator, place: Array, bearing: float, light: Light) -> Thing:
    """A wheeled bin."""
    forward = np.array((np.sin(bearing), np.cos(bearing)), dtype=np.float32)
    right = np.array((np.cos(bearing), -np.sin(bearing)), dtype=np.float32)
    colour = np.array(((60, 90, 40), (110, 70, 40), (60, 60, 60), (50, 60, 120))[rng.integers(4)], dtype=np.float32)
    corners = _box_corners(place, forward, right, 0.6, 0.55)
    albedo = np.broadcast_to(colour, (16, 16, 3)).astype(np.float32)
    sides = [_upright(corners[n], corners[(n + 1) % 4], 1.0, 0.0, albedo, light, None) for n in range(4)]
    return Thing(place, corners, 1.0, (*sides, _lid(corners, 1.0, colour * 1.1, light)))


def build_fence(rng: np.random.Generator, start: Array, end: Array, light: Light) -> Thing:
    """A wooden or white fence between two world points (2,), left and right as seen from the street."""
    colour = np.array(((96, 124, 148), (78, 98, 118), (216, 220, 222))[rng.integers(3)], dtype=np.float32)
    height = rng.uniform(1.2, 1.9)
    columns = 160
    planks = (
        colour * (1.0 + 0.08 * np.repeat(rng.standard_normal(columns // 5), 5)[None, :, None]) * np.ones((24, 1, 1))
    )
    planks[:, ::5] *= 0.6
    corner = np.array((*start, height), dtype=np.float32)
    along, down = np.array((*(end - start), 0.0)), np.array((0.0, 0.0, -height))
    surface = lit_surface(corner, along, down, planks, light, two_sided=True)
    footprint = np.stack((start, end, end, start)).astype(np.float32)
    return Thing(footprint.mean(axis=0), footprint, float(height), (surface,))


def build_lamp(place: Array, towards: float, light: Light) -> list[Rod]:
    """A lamp post whose arm reaches towards a bearing."""
    metal = np.array((112, 114, 112), dtype=np.float32) * (light.ambient + 0.4 * light.direct)
    reach = np.array((np.sin(towards), np.cos(towards)))
    foot, arm = np.array((*place, 0.0)), np.array((*(place + reach * 1.6), 7.6))
    bend = np.array((*(place + reach * 0.4), 7.5))
    rise = np.array((*place, 6.9))
    head = np.array((*(place + reach * 2.2), 7.55))
    return [
        _rod((foot, np.array((*place, 0.7))), 0.13, metal),
        _rod((foot, rise), 0.075, metal),
        _rod((rise, bend, arm), 0.05, metal),
        _rod((arm, head), 0.13, metal * 1.2),
    ]


def build_poles(places: Array, light: Light) -> list[Rod]:
    """Wooden utility poles (N, 2) with wires that sag between them."""
    wood = np.array((66, 78, 92), dtype=np.float32) * (light.ambient + 0.4 * light.direct)
    rods = []
    for number, place in enumerate(places):
        foot = np.array((*place, 0.0))
        rods.append(_rod((foot, np.array((*place, 9.2))), 0.14, wood))
        step = places[min(number + 1, len(places) - 1)] - places[max(number - 1, 0)]
        across = np.array((step[1], -step[0])) / max(float(np.hypot(*step)), 1e-6)
        for level in (8.9, 8.2):
            ends = [np.array((*(place + sign * 0.9 * across), level)) for sign in (-1, 1)]
            rods.append(_rod(ends, 0.07, wood))
        if number + 1 < len(places):
            for shift in (-0.8, 0.8, 0.0):
                start = np.array((*(place + shift * across), 8.95 if shift else 7.4))
                end = np.array((*(places[number + 1] + shift * across), start[2]))
                share = np.linspace(0, 1, 17)[:, None]
                wire = start + (end - start) * share - np.array((0, 0, 0.9)) * 4 * share * (1 - share)
                rods.extend(_rod(wire[n : n + 2], 0.012, np.full(3, 38.0)) for n in range(16))
    return rods


def _rod(points: object, radius: float, colour: Array) -> Rod:
    return Rod(np.asarray(points, dtype=np.float32), radius, np.asarray(colour, dtype=np.float32))


def _box_corners(place: Array, forward: Array, right: Array, length: float, width: float) -> Array:
    """Front left, ... in the order in which each side runs to the right as seen from outside (4, 2)."""
    half_l, half_w = forward * length / 2, right * width / 2
    # Seen from the front, the car's own right side is on the left.
    return np.stack(
        (place + half_l + half_w, place + half_l - half_w, place - half_l - half_w, place - half_l + half_w)
    )


def _upright(
    start: Array, end: Array, top: float, bottom: float, albedo: Array, light: Light, opacity: NDArray[np.uint8] | None
) -> Surface:
    return lit_surface(
        np.array((*start, top), dtype=np.float32),
        np.array((*(end - start), 0.0), dtype=np.float32),
        np.array((0, 0, bottom - top), dtype=np.float32),
        albedo,
        light,
        opacity,
    )


def _lid(corners: Array, level: float, colour: Array, light: Light) -> Surface:
    """A horizontal rectangle seen from above."""
    albedo = np.broadcast_to(colour, (12, 12, 3)).astype(np.float32)
    top_left, top_right, bottom_left = corners[1], corners[0], corners[2]
    return lit_surface(
        np.array((*top_left, level), dtype=np.float32),
        np.array((*(top_right - top_left), 0), dtype=np.float32),
        np.array((*(bottom_left - top_left), 0), dtype=np.float32),
        albedo,
        light,
        two_sided=True,
    )


def _body_side(paint: Array, is_flank: bool, lights: tuple[int, int, int] | None) -> tuple[Array, NDArray[np.uint8]]:
    """Albedo and opacity of the lower part of a car: a flank with wheels, or front and rear with lights."""
    rows, columns = 48, 220 if is_flank else 96
    shade = np.linspace(1.05, 0.72, rows, dtype=np.float32)[:, None, None]
    albedo = np.ascontiguousarray(np.broadcast_to(paint, (rows, columns, 3)) * shade, dtype=np.float32)
    opacity = np.full((rows, columns), 255, dtype=np.uint8)
    opacity[38:] = 0
    if is_flank:
        albedo[34:38] = 30
        for x in (40, columns - 40):
            cv2.circle(albedo, (x, 34), 19, (22.0, 22.0, 22.0), -1)
            cv2.circle(opacity, (x, 32), 16, 255, -1)
            cv2.circle(albedo, (x, 32), 16, (28.0, 28.0, 28.0), -1)
            cv2.circle(albedo, (x, 32), 9, (140.0, 140.0, 140.0), -1)
            cv2.circle(albedo, (x, 32), 3, (60.0, 60.0, 60.0), -1)
        for x in (78, 122, 160):
            cv2.line(albedo, (x, 2), (x, 33), [float(c) * 0.6 for c in paint], 1)
    elif lights is not None:
        bright = [float(c) for c in lights]
        cv2.rectangle(albedo, (4, 8), (22, 18), bright, -1)
        cv2.rectangle(albedo, (columns - 22, 8), (columns - 4, 18), bright, -1)
        cv2.rectangle(albedo, (36, 24), (60, 31), (200.0, 205.0, 205.0), -1)
        albedo[32:38] = 34
        opacity[38:46, 6:18] = 255
        opacity[38:46, -18:-6] = 255
        albedo[38:46] = 24
    return albedo, opacity


def _cabin_side(low: Array, high: Array, side: int, belt: float, roof: float, paint: Array, light: Light) -> Surface:
    """A slanted window: the parallelogram over the lower edge, cut to the trapezoid between both edges."""
    start, end = low[side], low[(side + 1) % 4]
    high_start, high_end = high[side], high[(side + 1) % 4]
    unit = (end - start) / np.linalg.norm(end - start)
    length = float(np.linalg.norm(end - start))
    cut_start, cut_end = float((high_start - start) @ unit) / length, 1.0 - float((high_end - start) @ unit) / length
    inward = (high_start - start) - unit * float((high_start - start) @ unit)
    rows, columns = 32, 120 if side % 2 else 64
    y = ((np.arange(rows) + 0.5) / rows)[:, None]
    x = ((np.arange(columns) + 0.5) / columns)[None]
    inside = np.minimum(x - (1 - y) * cut_start, 1.0 - (1 - y) * cut_end - x)
    frame = (inside < 0.035) | (y < 0.12) | ((np.abs(x - 0.5) < 0.02) & (side % 2 == 1))
    glass = GLASS * (1.0 + 1.1 * (1 - y))[..., None] * np.ones((1, columns, 1))
    albedo = np.where(frame[..., None], paint * 0.8, glass).astype(np.float32)
    corner = np.array((*(start + inward), roof), dtype=np.float32)
    down = np.array((*(-inward), belt - roof), dtype=np.float32)
    along = np.array((*(end - start), 0.0), dtype=np.float32)
    return lit_surface(corner, along, down, albedo, light, np.where(inside > 0, 255, 0).astype(np.uint8))
