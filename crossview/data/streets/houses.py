"""Houses: four walls with windows and doors, and a gable or hip roof, as textured surfaces."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.light import Light
from crossview.data.streets.noise import fractal_noise, tile
from crossview.data.streets.surfaces import Surface, texture_levels

Array = NDArray[np.floating[Any]]
TEXELS_PER_M = 36
STOREY_M = 2.9

WALLS = (
    (206, 214, 222), (178, 200, 214), (150, 178, 200), (214, 206, 190), (170, 178, 180), (128, 150, 186),
    (190, 204, 206), (120, 132, 140), (168, 196, 224), (92, 116, 160), (200, 196, 168), (226, 230, 232),
)  # fmt: skip
ROOFS = ((62, 78, 132), (70, 72, 78), (84, 92, 104), (58, 64, 88), (88, 110, 160), (52, 56, 60))


@dataclass(frozen=True, slots=True)
class House:
    """A house.

    Attributes:
        corners: (4, 2) world points: front left, front right, back right, back left as seen from the street.
        height: Height of its highest point in metres.
        middle: World point (2,) in the middle of the footprint.
        surfaces: Walls and roof.
    """

    corners: Array
    height: float
    middle: Array
    surfaces: tuple[Surface, ...]


def build_house(rng: np.random.Generator, corners: Array, light: Light, noise: Array) -> House:
    """A random house on a footprint.

    Args:
        rng: Source of randomness.
        corners: (4, 2) front left, front right, back right, back left as seen from the street; a rectangle.
        light: Light of the street.
        noise: Tiling noise for the plaster.
    """
    storeys = 2 if rng.random() < 0.35 else 1
    eaves = storeys * STOREY_M + rng.uniform(0.1, 0.5)
    wall = np.array(WALLS[rng.integers(len(WALLS))], dtype=np.float32) * rng.uniform(0.85, 1.05)
    trim = np.array((235, 238, 240), dtype=np.float32) * rng.uniform(0.55, 1.0)
    siding = rng.random() < 0.5
    surfaces = []
    for side in range(4):
        start, end = corners[side], corners[(side + 1) % 4]
        length = float(np.linalg.norm(end - start))
        albedo = _facade(rng, length, eaves, storeys, wall, trim, noise, siding, is_front=side == 0)
        corner = np.array((start[0], start[1], eaves), dtype=np.float32)
        along = np.array((end[0] - start[0], end[1] - start[1], 0.0), dtype=np.float32)
        down = np.array((0.0, 0.0, -eaves), dtype=np.float32)
        surfaces.append(lit_surface(corner, along, down, albedo, light))
    pitch = rng.uniform(0.35, 0.7)
    roof = np.array(ROOFS[rng.integers(len(ROOFS))], dtype=np.float32) * rng.uniform(0.8, 1.15)
    ridge, roof_surfaces = _roof(rng, corners, eaves, pitch, roof, wall, light, noise)
    return House(corners, ridge, corners.mean(axis=0).astype(np.float32), (*surfaces, *roof_surfaces))


def lit_surface(
    corner: Array,
    along: Array,
    down: Array,
    albedo: Array,
    light: Light,
    opacity: NDArray[np.uint8] | None = None,
    two_sided: bool = False,
) -> Surface:
    """A surface with the light of its orientation.

    Args:
        corner: World point (3,) of the texture's top left.
        along: World vector (3,) along the texture's top.
        down: World vector (3,) down the texture's left.
        albedo: (h, w, 3) BGR in full light.
        light: Light of the street.
        opacity: (h, w) 0 to 255; None for opaque.
        two_sided: Also seen from behind.
    """
    normal = np.cross(down, along)
    normal = (normal / np.linalg.norm(normal)).astype(np.float32)
    texture = np.empty((*albedo.shape[:2], 4), dtype=np.uint8)
    texture[..., :3] = np.clip(albedo * light.on(normal), 0, 255)
    texture[..., 3] = 255 if opacity is None else opacity
    return Surface(
        np.asarray(corner, dtype=np.float32),
        np.asarray(along, dtype=np.float32),
        np.asarray(down, dtype=np.float32),
        texture_levels(texture),
        two_sided,
    )


def _facade(
    rng: np.random.Generator,
    length: float,
    height: float,
    storeys: int,
    wall: Array,
    trim: Array,
    noise: Array,
    siding: bool,
    is_front: bool,
) -> Array:
    """Albedo (h, w, 3) of a wall with windows, and on the front a door and perhaps a garage."""
    rows, columns = max(8, int(height * TEXELS_PER_M)), max(8, int(length * TEXELS_PER_M))
    grain = tile(noise, rows, columns)[..., None]
    picture = wall * (1.0 + 0.035 * grain)
    if siding:
        picture[(np.arange(rows) % 8) < 1] *= 0.82
    picture[-int(0.35 * TEXELS_PER_M) :] *= 0.78  # the base
    picture = np.ascontiguousarray(picture, dtype=np.float32)
    bays = max(1, int(length / rng.uniform(2.6, 3.6)))
    bay = length / bays
    door = int(rng.integers(bays)) if is_front else -1
    garage = int(rng.integers(bays)) if is_front and rng.random() < 0.45 and bays > 2 else -2
    wide, tall = bay * rng.uniform(0.36, 0.6), rng.uniform(1.1, 1.6)
    for storey in range(storeys):
        floor = height - storey * STOREY_M  # metres below the eaves
        for number in range(bays):
            middle = (number + 0.5) * bay
            if storey == 0 and number == garage and garage != door:
                _garage(picture, middle, floor, min(bay * 0.9, 2.7), trim)
            elif storey == 0 and number == door:
                _door(rng, picture, middle, floor, trim)
            elif is_front or rng.random() < 0.55:
                _window(rng, picture, middle, floor - 0.95, wide, tall, trim)
    shadow = max(2, int(0.5 * TEXELS_PER_M))  # of the eaves
    picture[:shadow] *= np.linspace(0.55, 1.0, shadow, dtype=np.float32)[:, None, None]
    return picture


def _rectangle(picture: Array, left: float, top: float, right: float, bottom: float, colour: Array) -> None:
    """Fills a rectangle given in metres."""
    scale = TEXELS_PER_M
    cv2.rectangle(
        picture,
        (int(left * scale), int(top * scale)),
        (int(right * scale), int(bottom * scale)),
        [float(c) for c in colour],
        -1,
    )


def _window(
    rng: np.random.Generator, picture: Array, middle: float, sill: float, wide: float, tall: float, trim: Array
) -> None:
    """A framed window of panes that mirror the sky; ``sill`` is metres below the eaves."""
    left, right, top = middle - wide / 2, middle + wide / 2, sill - tall
    _rectangle(picture, left - 0.09, top - 0.09, right + 0.09, sill + 0.12, trim)
    glass = np.array((96, 84, 72), dtype=np.float32) * rng.uniform(0.5, 1.3)
    _rectangle(picture, left, top, right, sill, glass)
    _rectangle(picture, left, top, right, top + tall * rng.uniform(0.2, 0.5), glass * 1.5 + 14)
    if rng.random() < 0.4:  # a curtain or a blind
        _rectangle(
            picture, left, top, left + wide * rng.uniform(0.15, 0.5), sill, np.array((170, 180, 186), dtype=np.float32)
        )
    for share in (0.5,) if wide < 1.5 else (0.33, 0.67):
        _rectangle(picture, left + wide * share - 0.03, top, left + wide * share + 0.03, sill, trim)
    if rng.random() < 0.5:
        _rectangle(picture, left, top + tall / 2 - 0.025, right, top + tall / 2 + 0.025, trim)


def _door(rng: np.random.Generator, picture: Array, middle: float, floor: float, trim: Array) -> None:
    """A door with its frame and a step."""
    colour = np.array(
        ((60, 70, 110), (90, 60, 50), (50, 90, 60), (40, 50, 140), (60, 60, 60))[rng.integers(5)], dtype=np.float32
    )
    _rectangle(picture, middle - 0.58, floor - 2.2, middle + 0.58, floor, trim)
    _rectangle(picture, middle - 0.47, floor - 2.1, middle + 0.47, floor, colour)
    _rectangle(picture, middle - 0.3, floor - 1.95, middle + 0.3, floor - 1.3, colour * 0.6 + 40)
    _rectangle(picture, middle - 0.9, floor - 0.16, middle + 0.9, floor, np.array((150, 152, 156), dtype=np.float32))


def _garage(picture: Array, middle: float, floor: float, wide: float, trim: Array) -> None:
    """A panelled garage door."""
    _rectangle(picture, middle - wide / 2, floor - 2.25, middle + wide / 2, floor, trim * 0.92)
    for step in range(5):
        top = floor - 2.2 + step * 0.44
        _rectangle(picture, middle - wide / 2, top, middle + wide / 2, top + 0.03, trim * 0.7)


def _roof(
    rng: np.random.Generator,
    corners: Array,
    eaves: float,
    pitch: float,
    colour: Array,
    wall: Array,
    light: Light,
    noise: Array,
) -> tuple[float, list[Surface]]:
    """Height of the ridge and the surfaces of a roof: hip, or gable with the ridge along the street or across it."""
    kind = str(rng.choice(["hip", "along", "across"], p=[0.4, 0.35, 0.25]))
    if kind == "across":
        corners = np.roll(corners, -1, axis=0)
    over = 0.45
    front, side = corners[1] - corners[0], corners[3] - corners[0]
    width, depth = float(np.linalg.norm(front)), float(np.linalg.norm(side))
    unit_front, unit_side = front / width, side / depth
    low = eaves - 0.1
    ridge = low + pitch * (depth / 2 + over)
    outer = np.stack(
        [
            corners[number] + over * (sign_f * unit_front + sign_s * unit_side)
            for number, (sign_f, sign_s) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1)))
        ]
    )
    inset = min(depth / 2 + over, width / 2) if kind == "hip" else 0.0
    surfaces = []
    for number in range(4):
        start, end = outer[number], outer[(number + 1) % 4]
        length = float(np.linalg.norm(end - start))
        inward = (unit_side, -unit_front, -unit_side, unit_front)[number]
        if number % 2 == 0:
            rise, cut = (depth / 2 + over), inset
        elif kind == "hip":
            rise, cut = inset, length / 2
        else:
            surfaces.append(_gable(corners, number, eaves, ridge, wall, light))
            continue
        top = np.array((*(start + inward * rise), ridge if number % 2 == 0 else low + pitch * rise), dtype=np.float32)
        along = np.array((*(end - start), 0.0), dtype=np.float32)
        down = np.array((*(-inward * rise), low - top[2]), dtype=np.float32)
        albedo = _tiles(length, float(np.linalg.norm(down)), colour, noise)
        surfaces.append(
            lit_surface(top, along, down, albedo, light, _trapezoid(albedo.shape[:2], cut / length), two_sided=True)
        )
    return ridge, surfaces


def _gable(corners: Array, number: int, eaves: float, ridge: float, wall: Array, light: Light) -> Surface:
    """The triangle of wall under a gable roof."""
    start, end = corners[number], corners[(number + 1) % 4]
    tall = max(ridge - eaves - 0.15, 0.2)
    albedo = np.broadcast_to(wall * 0.97, (48, 96, 3)).astype(np.float32).copy()
    cv2.rectangle(albedo, (42, 26), (54, 42), (70.0, 64.0, 60.0), -1)
    return lit_surface(
        np.array((*start, eaves + tall), dtype=np.float32),
        np.array((*(end - start), 0.0), dtype=np.float32),
        np.array((0, 0, -tall), dtype=np.float32),
        albedo,
        light,
        _trapezoid((48, 96), 0.5),
    )


def _tiles(length: float, slope: float, colour: Array, noise: Array) -> Array:
    """Albedo (h, w, 3) of a roof with rows of tiles."""
    rows, columns = max(8, int(slope * 24)), max(8, int(length * 24))
    picture = colour * (1.0 + 0.10 * tile(noise, rows, columns)[..., None])
    picture[(np.arange(rows) % 8) < 2] *= 0.8
    picture[-3:] = 150
    return np.asarray(picture, dtype=np.float32)


def _trapezoid(shape: tuple[int, int], cut: float) -> NDArray[np.uint8]:
    """Opacity of a shape that is full at the bottom and loses ``cut`` of its width on each side at the top."""
    rows, columns = shape
    share = (1.0 - (np.arange(rows) + 0.5) / rows)[:, None] * cut
    x = ((np.arange(columns) + 0.5) / columns)[None]
    return np.where((x >= share) & (x <= 1.0 - share), 255, 0).astype(np.uint8)


def plaster_noise(rng: np.random.Generator) -> Array:
    """Tiling noise (256, 256) for walls and roofs."""
    return fractal_noise(rng, 256, 256, 8, 5, 0.75)
