"""The chain for a pair or for a single view: which draws the views share, and what comes out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar, get_args

import numpy as np

from crossview.data.augment.geometric import Crop, Expand, Interpolation, Mirror, Roll
from crossview.data.augment.photometric import Photometric
from crossview.data.augment.raster import Color, Fit, Image, fit, render
from crossview.data.augment.seeding import Draws
from crossview.data.augment.view import View
from crossview.geometry.camera import cropped, resized

Sync = Literal["geometric", "all", "none"]

# Numbers of the random streams of a sample (a pair or a single view); a view's own streams follow those of the sample.
_PAIR: Final = 0
_GEOMETRY: Final = 1
_COLOR: Final = 2


P = TypeVar("P")


class Transform(Protocol[P]):
    """A geometric transform with parameters P; see `crossview.data.augment.geometric`."""

    mirrors_world: ClassVar[bool]

    def draw(self, rng: np.random.Generator, views: Sequence[View]) -> P:
        """Draws the parameters for the given views."""

    def apply(self, view: View, parameters: P) -> View:
        """Applies them to one of the views."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One view at the network's size, its image not drawn yet.

    Attributes:
        view: boxes and camera in final pixels.
        plan: geometry of the image.
        interpolation: of the resize.
        fill: colour outside the panorama.
        recolor: photometric change, or None.
    """

    view: View
    plan: Fit
    interpolation: str
    fill: Color
    recolor: Callable[[Image], Image] | None

    def render(self, load: Callable[[int], Image], out: Image) -> None:
        """Draws the image into ``out`` (height, width, 3) uint8; ``load`` returns the file reduced by a factor."""
        render(self.plan, load, self.interpolation, self.fill, self.recolor, out)


@dataclass(frozen=True)
class Augmentation:
    """Random change of a sample; without any transform (the default) a plain resize, as for evaluation.

    Attributes:
        roll: rolls the columns of panoramas; None leaves it out, like each of the following.
        expand: puts the image onto a larger canvas.
        crop: cuts a window out.
        mirror: mirrors both views and the world.
        photometric: changes colours, after the resize for speed; the fill colour is not changed.
        interpolation: of the resize.
        sync: "geometric": both views get the same geometric draws and photometric draws of their own; "all": the same
            photometric draws too; "none": draws of their own for everything but the mirror. Of no importance for single
            views.
        fill: RGB colour of what is outside the panorama, the mean colour by custom.
    """

    roll: Roll | None = None
    expand: Expand | None = None
    crop: Crop | None = None
    mirror: Mirror | None = None
    photometric: Photometric | None = None
    interpolation: Interpolation = field(default_factory=lambda: Interpolation(("area",)))
    sync: Sync = "geometric"
    fill: Color = (123, 117, 104)

    def __post_init__(self) -> None:
        if self.sync not in get_args(Sync):
            raise ValueError(f"sync is {self.sync!r}; expected one of {', '.join(get_args(Sync))}")
        object.__setattr__(self, "fill", tuple(round(level) for level in self.fill))
        if len(self.fill) != 3 or not all(0 <= level <= 255 for level in self.fill):
            raise ValueError(f"fill is {self.fill}; expected three numbers from 0 to 255 (red, green, blue)")

    def __call__(self, views: Sequence[View], height: int, width: int, draws: Draws) -> tuple[Finished, ...]:
        """Draws and applies everything but the pixels.

        Args:
            views: view 1 and view 2 of a pair, or a single view.
            height: of the final images, pixels.
            width: of the final images, pixels.
            draws: where the random numbers come from.
        """
        count = len(views)
        common = draws.generator(_PAIR)
        own = [common] * count if self._is_shared else [draws.generator(_GEOMETRY, number) for number in range(count)]
        for transform in self._transforms():
            if self._is_shared or transform.mirrors_world:
                parameters = [transform.draw(common, views)] * count
            else:
                parameters = [transform.draw(rng, (view,)) for rng, view in zip(own, views, strict=True)]
            views = [transform.apply(view, drawn) for view, drawn in zip(views, parameters, strict=True)]
        if self._is_shared:
            names = [self.interpolation.draw(common)] * count
        else:
            names = [self.interpolation.draw(rng) for rng in own]
        colors = [draws.sequence(_COLOR, 0 if self.sync == "all" else number) for number in range(count)]
        return tuple(
            self._finish(view, height, width, name, color)
            for view, name, color in zip(views, names, colors, strict=True)
        )

    @property
    def _is_shared(self) -> bool:
        return self.sync != "none"

    def _transforms(self) -> list[Transform[Any]]:
        candidates: tuple[Transform[Any] | None, ...] = (self.roll, self.expand, self.crop, self.mirror)
        return [transform for transform in candidates if transform is not None]

    def _finish(self, view: View, height: int, width: int, name: str, color: np.random.SeedSequence) -> Finished:
        """A view brought to its final size."""
        plan = fit(view.raster, width, height)
        scale, shift = np.array(plan.scale), np.array(plan.shift)
        boxes = view.boxes * np.tile(scale, 2) + np.tile(shift, 2)
        if not view.raster.is_whole:
            boxes = np.clip(boxes, 0, (width, height) * 2)  # takes off the last bits of a float only
        camera = cropped(resized(view.camera, *plan.scale), -plan.shift[0], -plan.shift[1])
        photometric = self.photometric
        recolor = None if photometric is None else lambda image: photometric.apply(image, color)
        return Finished(replace(view, boxes=boxes, camera=camera), plan, name, self.fill, recolor)
