"""The shapes of crowns: ellipsoids of leaves around a trunk at (0, 0), from the lowest leaf to the top.

All shapes are about as wide on one side of the trunk as on the other, so that the middle of a tree's box is near its
foot.
"""

import numpy as np

from crossview.data.streets.foliage import Blob


def _blob(centre: tuple[float, float, float], axes: tuple[float, float, float], tone: float) -> Blob:
    return Blob(np.array(centre, dtype=np.float32), np.array(axes, dtype=np.float32), tone)


def round_crown(rng: np.random.Generator, base: float, top: float, radius: float) -> list[Blob]:
    """Blobs around a core: oaks, maples, camphor trees."""
    middle, half = (base + top) / 2, (top - base) / 2
    blobs = [_blob((0, 0, middle), (radius * 0.66, radius * 0.66, half * 0.72), 0.95)]
    count = int(rng.integers(14, 24))
    turn = rng.uniform(0, 2 * np.pi)
    for number in range(count):
        # Golden-angle directions cover the sphere evenly: lumpy, but as wide on every side.
        angle = turn + number * 2.39996
        rise = 1.0 - 2.0 * (number + 0.5) / count
        flat = np.sqrt(1.0 - rise**2)
        size = rng.uniform(0.24, 0.48)
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
    fronds = int(rng.integers(18, 26))
    turn = rng.uniform(0, 2 * np.pi)
    heart = base + (top - base) * 0.55
    for number in range(fronds):
        angle, rise = turn + number * 2.39996, 1.0 - 1.6 * number / fronds
        tone = rng.uniform(0.85, 1.15) * (0.75 if rise < -0.3 else 1.0)
        for step in range(1, 10):
            reach = step / 9
            flat = radius * reach * (0.94 if abs(rise) < 0.6 else 0.72)
            up = heart + (top - base) * (0.62 * rise * reach - 0.42 * reach**2 + 0.18 * reach)
            thick = 0.13 * radius * (1.2 - reach)
            blobs.append(
                _blob(
                    (flat * np.cos(angle), flat * np.sin(angle), max(up, base)),
                    (thick, thick, thick * 0.6 + 0.05),
                    tone,
                )
            )
    return blobs
