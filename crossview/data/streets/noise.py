"""Seamlessly tiling noise: what grass, asphalt, bark, clouds and leaves get their irregularity from."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cells: int, octaves: int, persistence: float = 0.5
) -> Array:
    """Smooth noise (height, width), mean about 0 and standard deviation 1, that tiles in both directions.

    Args:
        rng: Source of randomness.
        height: Rows.
        width: Columns.
        cells: Cells of the coarsest octave along the columns.
        octaves: Number of octaves, each with twice the cells of the one before.
        persistence: Amplitude of an octave relative to the one before.
    """
    total = np.zeros((height, width), dtype=np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        columns = min(cells * 2**octave, width)
        rows = min(max(1, round(columns * height / width)), height)
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        total += np.float32(amplitude) * _enlarge(grid, height, width)
        amplitude *= persistence
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), dtype=np.float32)


def _enlarge(grid: Array, height: int, width: int) -> Array:
    """The grid interpolated to (height, width) as if it were repeated without end."""
    rows, columns = grid.shape
    margin = 2
    padded = np.pad(grid, margin, mode="wrap")
    y = (np.arange(height, dtype=np.float32) + 0.5) * rows / height - 0.5 + margin
    x = (np.arange(width, dtype=np.float32) + 0.5) * columns / width - 0.5 + margin
    map_x, map_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return np.asarray(
        cv2.remap(padded, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32
    )


def tile(noise: Array, height: int, width: int) -> Array:
    """The tiling noise repeated and cut to (height, width)."""
    rows, columns = noise.shape
    return np.tile(noise, (-(-height // rows), -(-width // columns)))[:height, :width]
