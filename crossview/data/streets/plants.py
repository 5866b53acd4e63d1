"""Plants that are not trees: hedges, bushes, and the thickets behind the gardens. They bear no annotation."""

import numpy as np

from crossview.data.streets.foliage import Array, Blob, Leaves, grow_leaves
from crossview.data.streets.light import Light

GREENS = np.array(((44, 92, 60), (38, 78, 50), (58, 108, 76)), dtype=np.float32)
EVEN = np.ones(3)


def build_hedge(rng: np.random.Generator, places: Array, height: float, light: Light) -> Leaves:
    """A piece of hedge along world points (N, 2): overlapping blobs with an even top."""
    blobs = [
        Blob(_point(place, height * up), _axes(0.5, height * 0.3), rng.uniform(0.9, 1.1))
        for place in places
        for up in (0.25, 0.7)
    ]
    return grow_leaves(rng, blobs, 0.06, GREENS * 0.95, EVEN, light, 1.3)


def build_bush(rng: np.random.Generator, place: Array, light: Light) -> Leaves:
    """A round bush at a world point (2,)."""
    size = rng.uniform(0.35, 0.85)
    blobs = [
        Blob(
            _point(place + rng.uniform(-0.4, 0.4, 2) * size, size * 0.75),
            _axes(size, size * 0.75),
            rng.uniform(0.85, 1.1),
        )
        for _ in range(4)
    ]
    return grow_leaves(rng, blobs, 0.06, GREENS * rng.uniform(0.8, 1.4, 3), EVEN, light, 1.2)


def build_thicket(rng: np.random.Generator, places: Array, light: Light) -> Leaves:
    """Wild growth along world points (N, 2), dense down to the ground, as high as a house's eaves."""
    blobs = []
    for place in places:
        height = rng.uniform(2.8, 5.6)
        for up in (0.3, 0.7):
            shifted = place + rng.uniform(-0.8, 0.8, 2)
            blobs.append(
                Blob(_point(shifted, height * up), _axes(rng.uniform(1.4, 2.2), height * 0.32), rng.uniform(0.75, 1.1))
            )
    return grow_leaves(rng, blobs, 0.17, GREENS * rng.uniform(0.75, 1.15), EVEN, light)


def _point(place: Array, up: float) -> Array:
    return np.array((place[0], place[1], up), dtype=np.float32)


def _axes(wide: float, high: float) -> Array:
    return np.array((wide, wide, high), dtype=np.float32)
