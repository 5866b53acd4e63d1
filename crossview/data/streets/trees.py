"""Trees: a trunk that stands on the ground, branches, and a crown of leaves."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Canvas
from crossview.data.streets.crowns import palm_crown
from crossview.data.streets.foliage import Blob, LeafSprite, Leaves, grow_leaves
from crossview.data.streets.light import Light
from crossview.data.streets.species import Species

Array = NDArray[np.floating[Any]]
WOOD_TONES = 32
MAX_STREET_RADIUS_M = 3.0


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree.

    Attributes:
        number: Its number in the street, from 1.
        foot: World point (2,) where the middle of the trunk meets the ground.
        height: Height in metres.
        species: Name of its species.
        leaves: Its crown.
        trunk_top: World point (3,) where the trunk ends inside the crown.
        trunk_radius: Radius of the trunk at breast height, metres.
        branches: (B, 2, 3) world end points of the main branches.
        wood: (WOOD_TONES, 3) BGR from the darkest to the brightest side of the bark.
        bark: (64, 32) unevenness of the bark, mean 0.
    """

    number: int
    foot: Array
    height: float
    species: str
    leaves: Leaves
    trunk_top: Array
    trunk_radius: float
    branches: Array
    wood: Array
    bark: Array

    @property
    def base(self) -> Array:
        """World point (3,) of the foot."""
        return np.array((self.foot[0], self.foot[1], 0.0), dtype=np.float32)


def grow_tree(
    rng: np.random.Generator, number: int, foot: Array, species: Species, season: str, light: Light, max_radius: float
) -> Tree:
    """A random tree of a species at a place; ``max_radius`` bounds its crown in metres."""
    height = rng.uniform(*species.height)
    radius = min(height * rng.uniform(*species.slenderness), max_radius)
    base = height * rng.uniform(*species.crown_base)
    lean = rng.uniform(-1, 1, 2) * 0.025 * height
    shape = species.shape(rng, base, height, radius)
    centre = np.array((foot[0] + lean[0], foot[1] + lean[1], 0.0), dtype=np.float32)
    blobs = [Blob(blob.centre + centre, blob.axes, blob.tone) for blob in shape]
    palette = np.array(species.leaves[season], dtype=np.float32) * rng.uniform(0.85, 1.18) * rng.uniform(0.93, 1.07, 3)
    leaves = grow_leaves(
        rng,
        blobs,
        species.leaf_radius * rng.uniform(0.85, 1.15),
        palette.astype(np.float32),
        rng.uniform(0.4, 1.0, len(palette)),
        light,
        species.density * rng.uniform(0.8, 1.15),
    )
    is_palm = species.shape is palm_crown
    top = base + (height - base) * (0.55 if is_palm else 0.5)
    trunk_top = np.array((centre[0], centre[1], top), dtype=np.float32)
    branches = np.zeros((0, 2, 3), dtype=np.float32)
    if not is_palm and base > 0.2 * height:  # crowns down to the ground hide their branches
        ends = np.stack([blob.centre for blob in blobs])[rng.permutation(len(blobs))[:9]]
        starts = np.array((foot[0], foot[1], 0.0)) + (trunk_top - np.array((foot[0], foot[1], 0.0))) * rng.uniform(
            0.45, 0.9, (len(ends), 1)
        )
        branches = np.stack((starts, ends), axis=1).astype(np.float32)
    bark = np.array(species.bark, dtype=np.float32) * rng.uniform(0.8, 1.15)
    tones = np.linspace(0.0, 1.0, WOOD_TONES, dtype=np.float32)[:, None]
    wood = bark * (light.ambient * (0.45 + 0.45 * tones) + light.direct * 0.75 * np.clip(tones * 1.6 - 0.6, 0, 1))
    grain = rng.standard_normal((64, 32), dtype=np.float32)
    grain = np.asarray(
        cv2.GaussianBlur(grain, (0, 0), sigmaX=0.7, sigmaY=2.2, borderType=cv2.BORDER_REFLECT), dtype=np.float32
    )
    return Tree(
        number,
        np.asarray(foot, dtype=np.float32),
        float(height),
        species.name,
        leaves,
        trunk_top,
        float(max(height * species.trunk * rng.uniform(0.85, 1.2), 0.06)),
        branches,
        np.clip(wood, 0, 255).astype(np.float32),
        (grain / grain.std()).astype(np.float32),
    )


def paint_tree(canvas: Canvas, tree: Tree) -> None:
    """Paints a tree: the far half of the crown, the wood, the near half."""
    camera = canvas.camera
    flat = float(np.hypot(*camera.relative(tree.base)[:2]))
    widest = tree.trunk_radius * 2.2 * camera.pixels_per_radian / flat + 2
    sprite = LeafSprite.of(canvas, tree.leaves, widest, np.stack((tree.base, tree.trunk_top)))
    if sprite is None:
        return
    behind = int(np.searchsorted(-sprite.distance, -flat))
    sprite.splat(slice(0, behind))
    _paint_branches(canvas, tree, sprite, flat)
    _paint_trunk(canvas, tree, sprite, flat)
    sprite.splat(slice(behind, None))
    sprite.paste(canvas, tree.wood, tree.number)


def _paint_branches(canvas: Canvas, tree: Tree, sprite: LeafSprite, flat: float) -> None:
    """Tapering lines from the trunk into the crown, in a middle tone."""
    if not len(tree.branches):
        return
    reference = float(canvas.camera.project(tree.leaves.centre)[0])
    x, y, _ = canvas.camera.project(tree.branches, reference)
    thick = tree.trunk_radius * 0.8 * canvas.camera.pixels_per_radian / flat
    tone = len(sprite.colours) + WOOD_TONES // 3
    for (x0, x1), (y0, y1) in zip(x - sprite.left, y - sprite.top, strict=True):
        middle = (int((x0 + x1) / 2), int((y0 + y1) / 2))
        cv2.line(sprite.index, (int(x0), int(y0)), middle, (tone,), max(1, round(thick)))
        cv2.line(sprite.index, middle, (int(x1), int(y1)), (tone,), max(1, round(thick * 0.55)))


def _paint_trunk(canvas: Canvas, tree: Tree, sprite: LeafSprite, flat: float) -> None:
    """A round, tapering trunk with a flare at the foot, brighter towards the sun."""
    camera = canvas.camera
    scale = camera.pixels_per_radian
    height, width = sprite.index.shape
    foot_x = float(camera.project(tree.base, float(camera.project(tree.leaves.centre)[0]))[0]) - sprite.left
    offset = camera.relative(tree.base)
    sight = offset[:2] / flat
    slopes = camera.row_slopes(sprite.top, sprite.top + height)
    up = camera.up + flat * slopes
    top = float(tree.trunk_top[2])
    rows = np.flatnonzero((up < top) & (up > -0.8))
    if not rows.size:
        return
    level = np.clip(up[rows], 0.0, top)
    radius = tree.trunk_radius * (1.12 - 0.55 * level / top) + tree.trunk_radius * 0.7 * np.exp(-level / 0.22)
    half = np.maximum(radius * scale / flat, 0.8)
    drift = tree.trunk_top[:2] - tree.foot
    sideways = float(drift[0] * sight[1] - drift[1] * sight[0])  # positive to the right as seen
    middle = foot_x + sideways * scale / flat * (level / top) ** 1.4
    first, last = max(0, int((middle - half).min()) - 1), min(width, int((middle + half).max()) + 2)
    side = (np.arange(first, last, dtype=np.float32)[None] + 0.5 - middle[:, None]) / half[:, None]
    depth = np.sqrt(np.clip(1.0 - side**2, 0.0, None))
    # The foot is round: in the middle it meets the ground nearer to the camera than at its sides.
    front = -camera.up * 0.8 * radius[:, None] * depth / flat
    mask = (np.abs(side) < 1.0) & (up[rows][:, None] >= front)
    right = np.array((sight[1], -sight[0]), dtype=np.float32)
    sun = canvas.light.sun
    facing = side * float(right @ sun[:2]) - depth * float(sight @ sun[:2])
    grain = tree.bark[(level * 14).astype(np.int64)[:, None] % 64, np.clip((side + 1) * 16, 0, 31).astype(np.int64)]
    under_crown = 0.25 * np.clip((level - tree.leaves.centre[2] + tree.leaves.extent[1]) / 0.8, 0, 1)[:, None]
    tone = np.clip(0.42 + 0.42 * facing + 0.10 * grain - under_crown - 0.12 * (1 - depth), 0, 0.999)
    area = sprite.index[rows[0] : rows[-1] + 1, first:last]
    np.copyto(area, len(sprite.colours) + (tone * WOOD_TONES).astype(np.int32), where=mask)
