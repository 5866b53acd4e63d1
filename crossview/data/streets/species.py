"""The species of trees: how their crowns are built from blobs, their leaves in every season, their bark."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.foliage import Blob

Array = NDArray[np.float32]
CrownShape = Callable[[np.random.Generator, float, float, float], list[Blob]]


@dataclass(frozen=True, slots=True)
class Species:
    """A kind of tree.

    Attributes:
        name: Its name.
        share: How often it is planted, relative to the others.
        height: Smallest and largest height, metres.
        slenderness: Smallest and largest crown radius divided by the height.
        crown_base: Smallest and largest height of the lowest leaves divided by the tree's height.
        shape: Builds the crown around (0, 0) from its base, top and radius.
        leaf_radius: Radius of a tuft of leaves in metres.
        density: Factor of the number of leaves.
        leaves: BGR colours by season.
        bark: BGR colour of the trunk.
        trunk: Trunk radius divided by the tree's height.
    """

    name: str
    share: float
    height: tuple[float, float]
    slenderness: tuple[float, float]
    crown_base: tuple[float, float]
    shape: CrownShape
    leaf_radius: float
    density: float
    leaves: dict[str, tuple[tuple[int, int, int], ...]]
    bark: tuple[int, int, int]
    trunk: float


def _blob(centre: tuple[float, float, float], axes: tuple[float, float, float], tone: float) -> Blob:
    return Blob(np.array(centre, dtype=np.float32), np.array(axes, dtype=np.float32), tone)


def round_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """Blobs around a core: oaks, maples, camphor trees."""
    middle, half = (base + top) / 2, (top - base) / 2
    blobs = [_blob((0, 0, middle), (radius * 0.66, radius * 0.66, half * 0.72), 0.95)]
    count = int(rng.integers(13, 22))
    turn = rng.uniform(0, 2 * np.pi)
    for number in range(count):
        # Golden-angle directions cover the sphere evenly: lumpy, but as wide on every side.
        angle = turn + number * 2.39996
        rise = 1.0 - 2.0 * (number + 0.5) / count
        flat = np.sqrt(1.0 - rise**2)
        size = rng.uniform(0.30, 0.46)
        reach = 1.0 - size
        blobs.append(
            _blob(
                (
                    radius * reach * flat * np.cos(angle),
                    radius * reach * flat * np.sin(angle),
                    middle + half * reach * rise,
                ),
                (radius * size, radius * size, half * size * rng.uniform(0.75, 1.0)),
                rng.uniform(0.86, 1.12),
            )
        )
    return blobs


def spreading_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """A wide, flat umbrella: stone pines, jacarandas."""
    blobs = []
    count = int(rng.integers(12, 18))
    turn = rng.uniform(0, 2 * np.pi)
    for number in range(count):
        angle, reach = turn + number * 2.39996, np.sqrt((number + 0.5) / count) * 0.72
        size = radius * rng.uniform(0.28, 0.38)
        lift = top - (top - base) * (0.42 + 0.35 * reach + rng.uniform(-0.1, 0.1))
        blobs.append(
            _blob(
                (radius * reach * np.cos(angle), radius * reach * np.sin(angle), lift),
                (size, size, (top - base) * 0.38),
                rng.uniform(0.86, 1.12),
            )
        )
    return blobs


def conical_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """Rings that shrink upwards: firs, cedars."""
    blobs = []
    rings = int(rng.integers(7, 10))
    for ring in range(rings):
        share = ring / (rings - 0.3)
        wide = radius * (1.0 - share) + 0.12
        up = base + (top - base) * (share * 0.92 + 0.07)
        thick = (top - base) / rings * 0.75
        boughs = max(1, round(7 * (1.0 - share)))
        turn = rng.uniform(0, 2 * np.pi)
        for bough in range(boughs):
            angle = turn + bough * 2 * np.pi / boughs
            reach = wide * 0.55 if boughs > 1 else 0.0
            blobs.append(
                _blob(
                    (reach * np.cos(angle), reach * np.sin(angle), up),
                    (wide * 0.48 + 0.05, wide * 0.48 + 0.05, thick),
                    rng.uniform(0.85, 1.1),
                )
            )
    return blobs


def columnar_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """A slim column: cypresses, columnar hornbeams."""
    blobs = []
    count = 9
    for number in range(count):
        share = (number + 0.5) / count
        wide = radius * float(np.sin(np.pi * (0.12 + 0.82 * share)) ** 0.6)
        angle = rng.uniform(0, 2 * np.pi)
        shift = 0.12 * radius
        blobs.append(
            _blob(
                (shift * np.cos(angle), shift * np.sin(angle), base + (top - base) * share),
                (wide, wide, (top - base) / count * 1.1),
                rng.uniform(0.9, 1.08),
            )
        )
    return blobs


def vase_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """Wider towards the top: elms, zelkovas."""
    blobs = []
    for ring, (share, wide, count) in enumerate(((0.18, 0.30, 3), (0.45, 0.52, 5), (0.70, 0.62, 7), (0.86, 0.30, 3))):
        turn = rng.uniform(0, 2 * np.pi) + ring
        for number in range(count):
            angle = turn + number * 2 * np.pi / count
            size = radius * rng.uniform(0.32, 0.40)
            blobs.append(
                _blob(
                    (radius * wide * np.cos(angle), radius * wide * np.sin(angle), base + (top - base) * share),
                    (size, size, (top - base) * 0.16),
                    rng.uniform(0.86, 1.12),
                )
            )
    return blobs


def palm_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """Fronds that rise and hang over, each a chain of small flat blobs."""
    blobs = []
    fronds = int(rng.integers(15, 21))
    turn = rng.uniform(0, 2 * np.pi)
    heart = base + (top - base) * 0.55
    for number in range(fronds):
        angle, rise = turn + number * 2.39996, 1.0 - 1.6 * number / fronds
        tone = rng.uniform(0.85, 1.15) * (0.75 if rise < -0.3 else 1.0)
        for step in range(1, 7):
            reach = step / 6
            flat = radius * reach * (0.94 if abs(rise) < 0.6 else 0.72)
            up = heart + (top - base) * (0.62 * rise * reach - 0.42 * reach**2 + 0.18 * reach)
            thick = 0.17 * radius * (1.15 - reach)
            blobs.append(
                _blob(
                    (flat * np.cos(angle), flat * np.sin(angle), max(up, base)),
                    (thick, thick, thick * 0.6 + 0.05),
                    tone,
                )
            )
    return blobs


_GREEN = ((52, 112, 84), (44, 98, 70), (66, 130, 104))
_DARK_GREEN = ((46, 84, 58), (38, 72, 50), (58, 98, 72))
_OLIVE = ((84, 124, 112), (72, 110, 98), (100, 138, 128))
_FRESH = ((70, 158, 128), (58, 142, 112), (92, 172, 148))
_YELLOW = ((52, 168, 204), (40, 140, 190), (60, 150, 160))
_RED = ((46, 74, 168), (40, 92, 184), (52, 60, 138))
_PURPLE = ((178, 112, 156), (196, 128, 168), (150, 96, 128))
_WHITE = ((214, 216, 226), (196, 204, 222), (120, 160, 138))
_PINK = ((188, 158, 226), (170, 140, 212), (120, 140, 150))

SPECIES: tuple[Species, ...] = (
    Species(
        "oak",
        2.2,
        (5.5, 11.0),
        (0.27, 0.38),
        (0.24, 0.36),
        round_crown,
        0.13,
        1.0,
        {"summer": _DARK_GREEN, "autumn": _DARK_GREEN, "spring": _GREEN},
        (74, 88, 98),
        0.026,
    ),
    Species(
        "maple",
        2.0,
        (4.5, 9.5),
        (0.26, 0.36),
        (0.25, 0.40),
        round_crown,
        0.12,
        0.95,
        {"summer": _GREEN, "autumn": _RED, "spring": _FRESH},
        (88, 98, 108),
        0.022,
    ),
    Species(
        "ginkgo",
        1.3,
        (5.0, 10.0),
        (0.20, 0.28),
        (0.22, 0.34),
        round_crown,
        0.11,
        0.75,
        {"summer": _GREEN, "autumn": _YELLOW, "spring": _FRESH},
        (100, 108, 116),
        0.018,
    ),
    Species(
        "jacaranda",
        1.2,
        (5.0, 8.5),
        (0.36, 0.46),
        (0.40, 0.52),
        spreading_crown,
        0.11,
        0.85,
        {"summer": _GREEN, "autumn": _OLIVE, "spring": _PURPLE},
        (84, 94, 104),
        0.024,
    ),
    Species(
        "stone pine",
        0.8,
        (6.0, 11.0),
        (0.33, 0.42),
        (0.46, 0.60),
        spreading_crown,
        0.12,
        1.1,
        {"summer": _DARK_GREEN, "autumn": _DARK_GREEN, "spring": _DARK_GREEN},
        (60, 84, 112),
        0.026,
    ),
    Species(
        "cedar",
        0.9,
        (6.0, 13.0),
        (0.20, 0.28),
        (0.08, 0.16),
        conical_crown,
        0.11,
        1.0,
        {"summer": ((78, 96, 66), (66, 84, 54), (92, 110, 84)), "autumn": _DARK_GREEN, "spring": _DARK_GREEN},
        (62, 74, 90),
        0.020,
    ),
    Species(
        "cypress",
        0.9,
        (4.0, 9.0),
        (0.09, 0.14),
        (0.05, 0.10),
        columnar_crown,
        0.09,
        1.2,
        {"summer": _DARK_GREEN, "autumn": _DARK_GREEN, "spring": _DARK_GREEN},
        (70, 82, 96),
        0.018,
    ),
    Species(
        "elm",
        1.3,
        (5.5, 10.0),
        (0.28, 0.36),
        (0.32, 0.44),
        vase_crown,
        0.12,
        0.9,
        {"summer": _GREEN, "autumn": _YELLOW, "spring": _FRESH},
        (80, 90, 98),
        0.022,
    ),
    Species(
        "cherry",
        1.0,
        (3.2, 5.5),
        (0.30, 0.40),
        (0.32, 0.42),
        vase_crown,
        0.10,
        0.85,
        {"summer": _GREEN, "autumn": _RED, "spring": _PINK},
        (62, 70, 88),
        0.022,
    ),
    Species(
        "olive",
        0.8,
        (3.2, 5.5),
        (0.30, 0.38),
        (0.28, 0.38),
        round_crown,
        0.09,
        0.75,
        {"summer": _OLIVE, "autumn": _OLIVE, "spring": _OLIVE},
        (92, 102, 110),
        0.026,
    ),
    Species(
        "pear",
        1.0,
        (3.5, 7.0),
        (0.18, 0.25),
        (0.28, 0.38),
        round_crown,
        0.10,
        0.9,
        {"summer": _GREEN, "autumn": _RED, "spring": _WHITE},
        (84, 92, 100),
        0.018,
    ),
    Species(
        "palm",
        1.3,
        (6.0, 13.5),
        (0.15, 0.20),
        (0.66, 0.74),
        palm_crown,
        0.085,
        1.5,
        {"summer": _GREEN, "autumn": _GREEN, "spring": _GREEN},
        (104, 120, 132),
        0.016,
    ),
)
