"""Leaves as points in space: crowns, hedges and bushes. Points turn properly when they are seen from another side.

The leaves of a plant are drawn once, in random order, with their light; a view takes as many of them as its distance
asks for, projects them and paints each as a small ellipse, the nearest last.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Canvas
from crossview.data.streets.light import Light

Array = NDArray[np.floating[Any]]
Index = NDArray[np.int32]
LEAF_FILL = 0.6  # area of a leaf relative to a disc of its radius
LAYERS = 5.0  # how many leaves cover a point of a crown on average
MAX_LEAVES = 36_000


@dataclass(frozen=True, slots=True)
class Leaves:
    """Leaves of one plant.

    Attributes:
        points: (N, 3) world points in random order.
        colours: (N, 3) BGR with their light.
        radius: Radius of a leaf (rather a tuft) in metres.
        centre: World point (3,) in the middle.
        extent: Half of the width and half of the height of the whole, metres.
    """

    points: Array
    colours: Array
    radius: float
    centre: Array
    extent: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Blob:
    """An ellipsoid of leaves: centre (3,), half axes (3,) and a factor of brightness."""

    centre: Array
    axes: Array
    tone: float


def grow_leaves(
    rng: np.random.Generator,
    blobs: list[Blob],
    radius: float,
    palette: Array,
    weights: Array,
    light: Light,
    density: float = 1.0,
) -> Leaves:
    """Leaves in the outer shells of blobs, lit by the side they are on and darker inside.

    Args:
        rng: Source of randomness.
        blobs: Ellipsoids; the plant is their union.
        radius: Radius of a leaf in metres.
        palette: (P, 3) BGR colours of leaves in full light.
        weights: (P,) shares of these colours.
        light: Light of the street.
        density: Factor of the number of leaves; below 1 one sees through.
    """
    centres = np.stack([blob.centre for blob in blobs])
    axes = np.stack([blob.axes for blob in blobs])
    low, high = (centres - axes).min(axis=0), (centres + axes).max(axis=0)
    half = (high - low) / 2
    silhouette = np.pi * float(max(half[0], half[1]) * half[2])
    count = int(np.clip(density * LAYERS * silhouette / (LEAF_FILL * np.pi * radius**2), 150, MAX_LEAVES))
    area = np.prod(axes, axis=1) ** (2 / 3)
    chosen = rng.choice(len(blobs), size=count, p=area / area.sum())
    direction = rng.standard_normal((count, 3), dtype=np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    shell = 1.0 - 0.55 * rng.random((count, 1), dtype=np.float32) ** 2
    points = centres[chosen] + direction * axes[chosen] * shell
    tones = np.array([blob.tone for blob in blobs], dtype=np.float32)[chosen]
    colours = _lit_colours(rng, points, direction, (centres, axes), palette, weights, light) * tones[:, None]
    centre = ((low + high) / 2).astype(np.float32)
    return Leaves(
        points.astype(np.float32),
        np.clip(colours, 0, 255),
        radius,
        centre,
        (float(max(half[0], half[1])), float(half[2])),
    )


def _lit_colours(
    rng: np.random.Generator,
    points: Array,
    direction: Array,
    shape: tuple[Array, Array],
    palette: Array,
    weights: Array,
    light: Light,
) -> Array:
    """Colours (N, 3) of leaves with light, shade inside the plant and the differences between leaves."""
    centres, axes = shape
    count = len(points)
    nearest = np.full(count, np.inf, dtype=np.float32)  # squared: 0 in the middle of a blob, 1 on its surface
    for centre, half in zip(centres, axes, strict=True):
        offset = (points - centre) / half
        np.minimum(nearest, np.einsum("ij,ij->i", offset, offset), out=nearest)
    depth = np.clip(1.0 - np.sqrt(nearest), 0.0, 1.0)
    low, high = points.min(axis=0), points.max(axis=0)
    outward = (points - (low + high) / 2) / np.maximum(high - low, 1e-3)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    normal = 0.55 * direction + 0.45 * outward
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    openness = np.clip(1.0 - 1.5 * depth, 0.28, 1.0)
    rank = (points[:, 2] - low[2]) / max(float(high[2] - low[2]), 1e-3)
    openness = openness * (0.72 + 0.28 * rank)
    shine = np.clip((normal @ light.sun + 0.25) / 1.25, 0.0, 1.0) * openness
    received = light.ambient * (openness * (0.7 + 0.3 * normal[:, 2]))[:, None] + light.direct * shine[:, None] * 1.15
    albedo = palette[rng.choice(len(palette), size=count, p=weights / weights.sum())]
    spread = np.exp(0.17 * rng.standard_normal((count, 1), dtype=np.float32))
    return np.asarray(albedo * received * spread, dtype=np.float32)


def paint_leaves(canvas: Canvas, leaves: Leaves, tree: int = 0) -> None:
    """Paints a plant without wood."""
    sprite = LeafSprite.of(canvas, leaves)
    if sprite is not None:
        sprite.splat(sprite.order)
        sprite.paste(canvas, None, tree)


@dataclass(slots=True)
class LeafSprite:
    """One plant in one view: which leaf is seen at each pixel of its window (-1: none).

    Wood is painted into ``index`` with numbers of ``len(colours)`` and above, between the far and the near leaves.
    """

    left: int
    top: int
    index: Index
    order: NDArray[np.int64]  # leaves from far to near
    distance: Array  # metres over ground, in that order
    cells: Index  # flat position in the window, in that order
    kernels: Index  # (4, K) offsets of the pixels of a leaf, four shapes
    colours: Array
    mean_distance: float

    @classmethod
    def of(
        cls, canvas: Canvas, leaves: Leaves, wood_top: float = 0.0, wood: Array | None = None
    ) -> "LeafSprite | None":
        """Projects the leaves and makes room for them and for points (M, 3) of wood."""
        camera = canvas.camera
        scale = camera.pixels_per_radian
        offset = camera.relative(leaves.centre)
        mean_distance = float(np.linalg.norm(offset))
        tilt = float(np.arctan2(offset[2], np.hypot(offset[0], offset[1])))
        radius_px = leaves.radius * scale / mean_distance
        stretch = min(1.0 / max(np.cos(tilt), 0.35), 2.5)
        size = int(np.clip(round(LEAF_FILL * np.pi * radius_px**2 * stretch), 1, 220))
        area = np.pi * leaves.extent[0] * leaves.extent[1] * (scale / mean_distance) ** 2
        count = int(np.clip(LAYERS * area * stretch / size, 40, len(leaves.points)))
        reference = float(camera.project(leaves.centre)[0])
        x, y, flat = camera.project(leaves.points[:count], reference)
        kernels, reach = _leaf_kernels(size, round(stretch * 4) / 4)
        bounds_x, bounds_y = [x.min(), x.max()], [y.min(), y.max()]
        if wood is not None:
            wood_x, wood_y, _ = camera.project(wood, reference)
            bounds_x += [wood_x.min() - wood_top, wood_x.max() + wood_top]
            bounds_y += [wood_y.min(), wood_y.max() + 4]
        left, top = int(np.floor(min(bounds_x))) - reach, max(0, int(np.floor(min(bounds_y)))) - reach
        width = int(np.ceil(max(bounds_x))) + reach + 1 - left
        height = min(camera.height, int(np.ceil(max(bounds_y))) + 1) + reach + 1 - top
        column, row = np.floor(x).astype(np.int32) - left, np.floor(y).astype(np.int32) - top
        order = np.argsort(-flat, kind="stable")
        order = order[(row[order] >= reach) & (row[order] < height - reach)]
        cells = row[order] * width + column[order]
        index = np.full((height, width), -1, dtype=np.int32)
        offsets = (kernels[..., 0] * width + kernels[..., 1]).astype(np.int32)
        return cls(left, top, index, order, flat[order], cells, offsets, leaves.colours[:count], mean_distance)

    def splat(self, part: NDArray[np.int64] | slice) -> None:
        """Paints leaves into the window, the later over the earlier.

        Args:
            part: The leaves, as a slice of the order, or all when it is the order itself.
        """
        chosen = part if isinstance(part, slice) else slice(None)
        leaf = self.order[chosen].astype(np.int32)
        pixels = self.cells[chosen][:, None] + self.kernels[leaf & 3]
        self.index.ravel()[pixels.ravel()] = np.repeat(leaf, pixels.shape[1])

    def paste(self, canvas: Canvas, wood_colours: Array | None, tree: int) -> None:
        """Puts the window into the canvas; ``wood_colours`` (M, 3) continue the colours of the leaves."""
        colours = self.colours if wood_colours is None else np.concatenate((self.colours, wood_colours))
        share = canvas.light.haze_share(self.mean_distance)
        table = np.clip(colours + (canvas.light.haze - colours) * share, 0, 255).astype(np.uint8)
        canvas.paste(self.left, self.top, table[self.index], self.index >= 0, tree)


@lru_cache(maxsize=256)
def _leaf_kernels(size: int, stretch: float) -> tuple[Index, int]:
    """Offsets (4, size, 2) row, column of the pixels of four leaf shapes of equal area, and how far they reach."""
    reach = int(np.ceil(np.sqrt(size * stretch / np.pi) * 1.6)) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    shapes = []
    for angle in (0.3, 1.1, 1.9, 2.7):
        x = columns / stretch * np.cos(angle) + rows * np.sin(angle)
        y = -columns / stretch * np.sin(angle) + rows * np.cos(angle)
        nearest = np.argsort(x**2 + (1.9 * y) ** 2, kind="stable")[:size]
        shapes.append(np.stack((rows[nearest], columns[nearest]), axis=1))
    return np.stack(shapes).astype(np.int32), reach
