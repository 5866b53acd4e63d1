"""Geometric transforms: what is drawn, and what it does to a view.

Convention:
    ``draw`` returns parameters as fractions of the image, so that one draw fits views of different sizes; ``apply``
    turns them into whole source pixels. ``draw`` is given all views that the parameters will be applied to: both of
    a pair, or one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossview.data.augment.raster import INTERPOLATIONS
from crossview.data.augment.view import Floats, View


def check_probability(owner: object, probability: float) -> None:
    """Raises ValueError unless ``probability`` is one."""
    check(0.0 <= probability <= 1.0, owner, f"probability is {probability}; expected 0 to 1")


def check(condition: bool, owner: object, message: str) -> None:
    """Raises ValueError with the name of the transform unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{type(owner).__name__.lower()}: {message}")


@dataclass(frozen=True)
class Roll:
    """Rolls the columns of a panorama by any angle: an exact change of yaw.

    Attributes:
        probability: of a roll.
    """

    probability: float = 1.0
    mirrors_world: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_probability(self, self.probability)

    def draw(self, rng: np.random.Generator, views: Sequence[View]) -> float:
        """Fraction of a turn to the right; 0 for none."""
        return float(rng.random()) if rng.random() < self.probability else 0.0

    def apply(self, view: View, parameters: float) -> View:
        """Rolls the view."""
        return view.roll(view.raster.snapped(parameters * view.raster.width))


class Placement(NamedTuple):
    """The expanded canvas is ``ratio`` times the image; the image lies at fractions x, y of the room that is left."""

    ratio: float
    x: float
    y: float


@dataclass(frozen=True)
class Expand:
    """Puts the image somewhere onto a larger canvas of the fill colour, so that objects get smaller.

    Attributes:
        probability: of an expansion.
        max_ratio: largest side of the canvas over the image's (SSD: 4; the objects of whole panoramas are small
            already).
    """

    probability: float = 0.5
    max_ratio: float = 2.0
    mirrors_world: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_probability(self, self.probability)
        check(self.max_ratio >= 1.0, self, f"max_ratio is {self.max_ratio}; expected 1 or more")

    def draw(self, rng: np.random.Generator, views: Sequence[View]) -> Placement | None:
        """Size and place of the canvas, or None."""
        if rng.random() >= self.probability:
            return None
        return Placement(float(rng.uniform(1.0, self.max_ratio)), float(rng.random()), float(rng.random()))

    def apply(self, view: View, parameters: Placement | None) -> View:
        """Expands the view."""
        if parameters is None:
            return view
        raster = view.raster
        width = raster.snapped(raster.width * parameters.ratio)
        height = raster.snapped(raster.height * parameters.ratio)
        left = raster.snapped(parameters.x * (width - raster.width))
        top = raster.snapped(parameters.y * (height - raster.height))
        return view.window(-left, -top, width, height)


@dataclass(frozen=True)
class Crop:
    """Random crop that an object overlaps by at least a drawn IoU (Liu et al. 2016, section 2.2).

    One of ``min_ious`` is drawn; then the first of ``trials`` random windows is taken that in each view with
    objects overlaps at least one of them so much, and holds the centres of ``min_objects``. None of ``min_ious`` is
    no crop, 0 any window. Without a fitting window there is no crop.

    Attributes:
        probability: of trying at all.
        min_ious: choices of the least overlap.
        trials: windows tried.
        scale: least and largest square root of the window's area over the image's.
        aspect: least and largest aspect ratio of the window over the image's.
        min_objects: objects that have to stay in each view that has any (all of them if it has fewer).
    """

    probability: float = 1.0
    min_ious: tuple[float | None, ...] = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    trials: int = 50
    scale: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    min_objects: int = 1
    mirrors_world: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("min_ious", "scale", "aspect"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_probability(self, self.probability)
        ious_fit = all(iou is None or 0.0 <= iou <= 1.0 for iou in self.min_ious)
        check(len(self.min_ious) > 0 and ious_fit, self, f"min_ious is {self.min_ious}; expected null or 0 to 1 each")
        check(self.trials >= 1, self, f"trials is {self.trials}; expected 1 or more")
        low, high = self.scale
        check(0.0 < low <= high <= 1.0, self, f"scale is {self.scale}; expected 0 < least <= largest <= 1")
        low, high = self.aspect
        check(0.0 < low <= 1.0 <= high, self, f"aspect is {self.aspect}; expected 0 < least <= 1 <= largest")

    def draw(self, rng: np.random.Generator, views: Sequence[View]) -> Floats | None:
        """Window (4,) left, top, right, bottom in fractions of the image, or None."""
        if rng.random() >= self.probability:
            return None
        min_iou = self.min_ious[int(rng.integers(len(self.min_ious)))]
        if min_iou is None:
            return None
        windows = self._windows(rng)
        fits = np.ones(len(windows), dtype=bool)
        for view in views:
            fits &= self._fits(view, windows, min_iou)
        return windows[int(fits.argmax())] if fits.any() else None

    def apply(self, view: View, parameters: Floats | None) -> View:
        """Crops the view."""
        if parameters is None:
            return view
        left, top, right, bottom = _pixel_windows(view, parameters[None])[0].tolist()
        return view.window(left, top, right - left, bottom - top)

    def _windows(self, rng: np.random.Generator) -> Floats:
        """Random windows (trials, 4) in fractions of the image."""
        scale = rng.uniform(*self.scale, self.trials)
        aspect = rng.uniform(np.maximum(self.aspect[0], scale**2), np.minimum(self.aspect[1], scale**-2.0))
        size = np.stack((scale * np.sqrt(aspect), scale / np.sqrt(aspect)), axis=1)
        corner = rng.random((self.trials, 2)) * (1.0 - size)
        return np.concatenate((corner, corner + size), axis=1)

    def _fits(self, view: View, fractions: Floats, min_iou: float) -> NDArray[np.bool_]:
        """Which windows (trials,) suit a view."""
        if len(view.boxes) == 0:
            return np.ones(len(fractions), dtype=bool)
        windows = _pixel_windows(view, fractions)[:, None].astype(np.float64)
        boxes = view.boxes_in_turn()
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = np.asarray(((center >= windows[..., :2]) & (center < windows[..., 2:])).all(axis=-1))
        overlaps = np.asarray((_iou(windows, boxes) >= min_iou).any(axis=1))
        stay: NDArray[np.bool_] = inside.sum(axis=1) >= min(self.min_objects, len(boxes))
        return overlaps & stay


def _pixel_windows(view: View, fractions: Floats) -> NDArray[np.int64]:
    """Windows (N, 4) of a view in pixels, on the grid, at least one step wide and high."""
    step, size = view.raster.grid, np.array([view.raster.width, view.raster.height])
    low = np.minimum(np.rint(fractions[:, :2] * size / step) * step, size - step)
    high = np.minimum(np.maximum(np.rint(fractions[:, 2:] * size / step) * step, low + step), size)
    return np.concatenate((low, high), axis=1).astype(np.int64)


def _iou(windows: Floats, boxes: Floats) -> Floats:
    """Overlap (N, G) of windows (N, 1, 4) with boxes (G, 4)."""
    overlap = np.minimum(windows[..., 2:], boxes[:, 2:]) - np.maximum(windows[..., :2], boxes[:, :2])
    shared = overlap.clip(min=0).prod(axis=-1)
    areas = (windows[..., 2:] - windows[..., :2]).prod(axis=-1), (boxes[:, 2:] - boxes[:, :2]).prod(axis=-1)
    iou: Floats = shared / (areas[0] + areas[1] - shared)
    return iou


@dataclass(frozen=True)
class Mirror:
    """Mirrors both views of a pair left to right, and the world with them; never one view alone.

    Attributes:
        probability: of mirroring.
    """

    probability: float = 0.5
    mirrors_world: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_probability(self, self.probability)

    def draw(self, rng: np.random.Generator, views: Sequence[View]) -> bool:
        """Whether to mirror."""
        return bool(rng.random() < self.probability)

    def apply(self, view: View, parameters: bool) -> View:
        """Mirrors the view."""
        return view.mirror() if parameters else view


@dataclass(frozen=True)
class Interpolation:
    """Choice of the interpolation with which the view is brought to the network's size.

    Attributes:
        names: choices, keys of `INTERPOLATIONS`.
    """

    names: tuple[str, ...] = ("nearest", "linear", "cubic", "area", "lanczos")

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        known = ", ".join(INTERPOLATIONS)
        fit = len(self.names) > 0 and all(name in INTERPOLATIONS for name in self.names)
        check(fit, self, f"names is {self.names}; expected one or more of {known}")

    def draw(self, rng: np.random.Generator) -> str:
        """One of the names."""
        return self.names[int(rng.integers(len(self.names)))]
