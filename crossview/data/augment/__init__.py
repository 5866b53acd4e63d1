"""Synchronized augmentation of a pair of panoramas, their boxes and their cameras."""

from crossview.data.augment.augmentation import Augmentation, Finished
from crossview.data.augment.geometric import Crop, Expand, Interpolation, Mirror, Roll
from crossview.data.augment.photometric import Photometric
from crossview.data.augment.seeding import Draws
from crossview.data.augment.view import View

__all__ = [
    "Augmentation",
    "Crop",
    "Draws",
    "Expand",
    "Finished",
    "Interpolation",
    "Mirror",
    "Photometric",
    "Roll",
    "View",
]
