"""Photometric distortion as in SSD's Caffe code, with albumentations behind our own interface.

Only images go through the library, never boxes, labels or ids. Its random state is set for every image: left alone,
it draws the same numbers in every worker and every epoch, and ``Compose.set_random_seed`` gives all transforms the
same seed, so that those of equal probability would always be applied together.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from crossview.data.augment.geometric import check, check_probability
from crossview.data.augment.raster import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version

import albumentations as A

LEVELS: Final = 255.0
_NO_CHANGE: Final = (1.0, 1.0)


@dataclass(frozen=True)
class Photometric:
    """Random brightness, contrast, saturation and hue, each applied or not independently of the others.

    Contrast comes before or after saturation and hue, with even odds. Saturation blends with the grey image.

    Attributes:
        probability: of each of the four changes.
        brightness: largest number of grey levels (of 255) added or subtracted.
        contrast: least and largest factor.
        saturation: least and largest factor.
        hue: largest turn of the colour circle, degrees (18 in the Caffe code's half degrees).
    """

    probability: float = 0.5
    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0

    def __post_init__(self) -> None:
        check_probability(self, self.probability)
        check(0 <= self.brightness <= LEVELS, self, f"brightness is {self.brightness}; expected 0 to 255")
        check(0 <= self.hue <= 180, self, f"hue is {self.hue}; expected 0 to 180 degrees")
        for name in ("contrast", "saturation"):
            low, high = getattr(self, name)
            check(0 <= low <= high, self, f"{name} is {low}, {high}; expected 0 <= least <= largest")
            object.__setattr__(self, name, (float(low), float(high)))

    def apply(self, image: Image, seed: np.random.SeedSequence) -> Image:
        """Changes the colours of an image (h, w, 3) uint8 RGB; the result depends on nothing but the arguments."""
        pipelines = _pipelines(self)
        order, *seeds = seed.generate_state(1 + len(pipelines[0].transforms)).tolist()
        pipeline = pipelines[order % len(pipelines)]
        pipeline.set_random_seed(order)
        for transform, own_seed in zip(pipeline.transforms, seeds, strict=True):
            transform.set_random_seed(own_seed)
        changed: Image = pipeline(image=image)["image"]
        return changed


@lru_cache(maxsize=8)
def _pipelines(config: Photometric) -> tuple[A.Compose, A.Compose]:
    """The two orders of the changes."""
    p = config.probability
    added = config.brightness / LEVELS
    low, high = config.contrast
    brightness = A.RandomBrightnessContrast(brightness_limit=(-added, added), contrast_limit=(0.0, 0.0), p=p)
    contrast = A.RandomBrightnessContrast(brightness_limit=(0.0, 0.0), contrast_limit=(low - 1.0, high - 1.0), p=p)
    saturation = A.ColorJitter(_NO_CHANGE, _NO_CHANGE, config.saturation, (0.0, 0.0), p=p)
    half_degrees = config.hue / 2.0
    hue = A.HueSaturationValue((-half_degrees, half_degrees), (0.0, 0.0), (0.0, 0.0), p=p)
    return A.Compose([brightness, contrast, saturation, hue]), A.Compose([brightness, saturation, hue, contrast])
