"""Pixel geometry of one image, composed without touching a pixel, and rendered once.

Convention:
    What is said of panoramas holds for photos too, except that nothing of a photo wraps around: it is never rolled.
    Source pixels are those of the panorama file. Rolled pixels are source pixels after the columns were rolled to
    the right, modulo the width: ``rolled = (source + roll) mod source_width``. Every geometric operation is a whole
    number of source pixels, in steps of the `grid`, so that any chain of them is one roll, one window and one
    mirror, and the file can be decoded at a reduced size. Only `fit` scales. The camera and the boxes follow the
    numbers that were rounded, so nothing is off by a rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

GRIDS: Final = (4, 2, 1)
"""Steps of the geometry, and the reductions at which a file may be decoded."""

INTERPOLATIONS: Final = {
    "nearest": cv2.INTER_NEAREST_EXACT,  # cv2.INTER_NEAREST samples off the pixel centres
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True, slots=True)
class Raster:
    """The part of a (rolled) panorama, or of a photo, that an image shows.

    Attributes:
        source_width: width of the file.
        source_height: height of the file.
        left: first rolled column of the window, negative where the image was expanded.
        top: first row of the window, likewise.
        width: columns of the window; may reach beyond the panorama.
        height: rows of the window; may reach beyond the panorama.
        roll: columns by which the file was rolled to the right, 0 to ``source_width - 1``.
        mirrored: whether the image is the window seen in a mirror.
        is_panorama: whether the file's left and right edges are the same direction; False for a photo.
        least_reduction: the file is only at hand reduced by this factor (a divisor of the `grid`) or a larger one.
    """

    source_width: int
    source_height: int
    left: int
    top: int
    width: int
    height: int
    roll: int = 0
    mirrored: bool = False
    is_panorama: bool = True
    least_reduction: int = 1

    @classmethod
    def whole(cls, width: int, height: int, *, is_panorama: bool = True, least_reduction: int = 1) -> "Raster":
        """A file as it is."""
        return cls(width, height, 0, 0, width, height, is_panorama=is_panorama, least_reduction=least_reduction)

    @property
    def grid(self) -> int:
        """Step in which the geometry moves, so that the file may be decoded at up to this reduction."""
        return grid_of(self.source_width, self.source_height)

    @property
    def is_whole(self) -> bool:
        """Whether the image is a whole panorama: its left and right edges are the same direction. Photos never are."""
        whole = 0, 0, self.source_width, self.source_height
        return self.is_panorama and (self.left, self.top, self.width, self.height) == whole

    @property
    def content(self) -> tuple[int, int, int, int]:
        """Rolled pixels (left, top, right, bottom) of the panorama in the window; right <= left if there are none."""
        return (
            max(self.left, 0),
            max(self.top, 0),
            min(self.left + self.width, self.source_width),
            min(self.top + self.height, self.source_height),
        )

    def snapped(self, length: float) -> int:
        """A length in pixels rounded to the grid."""
        return round(length / self.grid) * self.grid

    def rolled(self, shift: int) -> "Raster":
        """Rolled to the right; only a whole panorama can be."""
        if not self.is_whole or self.mirrored:
            raise ValueError("only a whole panorama can be rolled: put the roll before the other transforms")
        return replace(self, roll=(self.roll + shift) % self.source_width)

    def windowed(self, left: int, top: int, width: int, height: int) -> "Raster":
        """Window of the image, in its own pixels: a crop, or an expansion where it reaches out of the image."""
        if self.mirrored:
            left = self.width - left - width
        return replace(self, left=self.left + left, top=self.top + top, width=width, height=height)

    def flipped(self) -> "Raster":
        """Mirrored left to right."""
        return replace(self, mirrored=not self.mirrored)


@dataclass(frozen=True, slots=True)
class Fit:
    """A raster brought to its final size.

    Attributes:
        raster: what is shown.
        width: final width in pixels.
        height: final height in pixels.
        target: final pixels (left, top, right, bottom), before mirroring, that the panorama fills; the rest is fill
            colour.
        scale: final pixels per image pixel, x and y.
        shift: final = image pixel * scale + shift, x and y.
    """

    raster: Raster
    width: int
    height: int
    target: tuple[int, int, int, int]
    scale: tuple[float, float]
    shift: tuple[float, float]

    @property
    def reduction(self) -> int:
        """Largest factor by which the file may be reduced while decoding without having to be enlarged afterwards.

        Not less than the file is reduced already.
        """
        left, top, right, bottom = self.raster.content
        x1, y1, x2, y2 = self.target
        fitting = (
            step
            for step in GRIDS
            if self.raster.grid % step == 0 and right - left >= step * (x2 - x1) and bottom - top >= step * (y2 - y1)
        )
        return max(next(fitting, 1), self.raster.least_reduction)


def grid_of(width: int, height: int) -> int:
    """Largest of `GRIDS` that divides the size of a file."""
    return next(step for step in GRIDS if width % step == 0 and height % step == 0)


def fit(raster: Raster, width: int, height: int) -> Fit:
    """Plans the resize of an image to ``width`` x ``height`` pixels.

    The edges of the panorama on an expanded canvas are put onto whole final pixels: at most half a pixel off the
    nominal scale, but exact in the returned scale and shift.
    """
    left, top, right, bottom = raster.content
    x1, x2, scale_x, shift_x = _fit_axis(left - raster.left, right - raster.left, raster.width, width)
    y1, y2, scale_y, shift_y = _fit_axis(top - raster.top, bottom - raster.top, raster.height, height)
    if raster.mirrored:
        shift_x = width - shift_x - raster.width * scale_x
    return Fit(raster, width, height, (x1, y1, x2, y2), (scale_x, scale_y), (shift_x, shift_y))


def _fit_axis(start: int, stop: int, length: int, final: int) -> tuple[int, int, float, float]:
    """First and last final pixel of the content, scale and shift along one axis."""
    nominal = final / length
    if stop <= start:
        return 0, 0, nominal, 0.0
    low = min(round(start * nominal), final - 1)
    high = max(round(stop * nominal), low + 1)
    scale = (high - low) / (stop - start)
    return low, high, scale, low - start * scale


def render(
    plan: Fit,
    load: Callable[[int], Image],
    interpolation: str,
    fill: Color,
    recolor: Callable[[Image], Image] | None,
    out: Image,
) -> None:
    """Draws the final image.

    Args:
        plan: the geometry.
        load: returns the panorama file (h, w, 3) reduced by the factor it is given.
        interpolation: a key of `INTERPOLATIONS`.
        fill: colour outside the panorama.
        recolor: photometric change of the resized panorama, or None; the fill colour stays.
        out: (height, width, 3) uint8, overwritten.
    """
    x1, y1, x2, y2 = plan.target
    if x2 <= x1 or y2 <= y1:
        out[:] = np.asarray(fill, dtype=np.uint8)
        return
    piece: NDArray[Any] = _window(plan.raster, load(plan.reduction), plan.reduction)
    if piece.shape[:2] != (y2 - y1, x2 - x1):
        piece = cv2.resize(piece, (x2 - x1, y2 - y1), interpolation=INTERPOLATIONS[interpolation])
    if recolor is not None:
        piece = recolor(piece)
    left, right = x1, plan.width - x2
    if plan.raster.mirrored:
        piece, left, right = cv2.flip(piece, 1), right, left
    # NumPy takes twenty times as long to fill and to mirror pixels of three bytes.
    out[:] = cv2.copyMakeBorder(piece, y1, plan.height - y2, left, right, cv2.BORDER_CONSTANT, value=fill)


def _window(raster: Raster, image: Image, reduction: int) -> Image:
    """The panorama's part (h, w, 3) in the window of a raster, from the file's pixels reduced by ``reduction``."""
    left, top, right, bottom = (edge // reduction for edge in raster.content)
    roll, width = raster.roll // reduction, raster.source_width // reduction
    rows = image[top:bottom]
    first, last = (left - roll) % width, (right - roll - 1) % width + 1
    if first < last:
        return rows[:, first:last]
    return np.concatenate((rows[:, first:], rows[:, :last]), axis=1)
