"""The species of trees: how their crowns are built from blobs, their leaves in every season, their bark."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.crowns import (
    columnar_crown,
    conical_crown,
    palm_crown,
    round_crown,
    spreading_crown,
    vase_crown,
)
from crossview.data.streets.foliage import Blob

Array = NDArray[np.floating[Any]]
CrownShape = Callable[[np.random.Generator, float, float, float], list[Blob]]


@dataclass(frozen=True, slots=True)
class Species:
    """A kind of tree.

    Attributes:
        name: Its name.
        share: How often it is planted, relative to the others.
        height: Smallest and largest height, metres.
        slenderness: Smallest and largest crown radius divided by the height.
        crown_base: Smallest and largest height of the lowest leaves divided by the tree's height.
        shape: Builds the crown around (0, 0) from its base, top and radius.
        leaf_radius: Radius of a tuft of leaves in metres.
        density: Factor of the number of leaves.
        leaves: BGR colours by season.
        bark: BGR colour of the trunk.
        trunk: Trunk radius divided by the tree's height.
        in_streets: Also planted at the kerb; otherwise in gardens only.
    """

    name: str
    share: float
    height: tuple[float, float]
    slenderness: tuple[float, float]
    crown_base: tuple[float, float]
    shape: CrownShape
    leaf_radius: float
    density: float
    leaves: dict[str, tuple[tuple[int, int, int], ...]]
    bark: tuple[int, int, int]
    trunk: float
    in_streets: bool = True


_GREEN = ((52, 112, 84), (44, 98, 70), (66, 130, 104))
_DARK_GREEN = ((46, 84, 58), (38, 72, 50), (58, 98, 72))
_OLIVE = ((84, 124, 112), (72, 110, 98), (100, 138, 128))
_FRESH = ((70, 158, 128), (58, 142, 112), (92, 172, 148))
_YELLOW = ((52, 168, 204), (40, 140, 190), (60, 150, 160))
_RED = ((46, 74, 168), (40, 92, 184), (52, 60, 138))
_PURPLE = ((178, 112, 156), (196, 128, 168), (150, 96, 128))
_WHITE = ((214, 216, 226), (196, 204, 222), (120, 160, 138))
_PINK = ((188, 158, 226), (170, 140, 212), (120, 140, 150))
_BLUE_GREEN = ((78, 96, 66), (66, 84, 54), (92, 110, 84))

SPECIES: tuple[Species, ...] = (
    Species("oak", 2.2, (5.5, 11.0), (0.27, 0.38), (0.24, 0.36), round_crown, 0.085, 1.0,
            {"summer": _DARK_GREEN, "autumn": _DARK_GREEN, "spring": _GREEN}, (74, 88, 98), 0.026),
    Species("maple", 2.0, (4.5, 9.5), (0.26, 0.36), (0.25, 0.40), round_crown, 0.080, 0.95,
            {"summer": _GREEN, "autumn": _RED, "spring": _FRESH}, (88, 98, 108), 0.022),
    Species("ginkgo", 1.3, (5.0, 10.0), (0.20, 0.28), (0.22, 0.34), round_crown, 0.070, 0.70,
            {"summer": _GREEN, "autumn": _YELLOW, "spring": _FRESH}, (100, 108, 116), 0.018),
    Species("jacaranda", 1.2, (5.0, 8.5), (0.34, 0.44), (0.40, 0.52), spreading_crown, 0.070, 0.75,
            {"summer": _GREEN, "autumn": _OLIVE, "spring": _PURPLE}, (84, 94, 104), 0.024),
    Species("stone pine", 0.8, (6.0, 11.0), (0.33, 0.42), (0.46, 0.60), spreading_crown, 0.080, 1.0,
            {"summer": _DARK_GREEN, "autumn": _DARK_GREEN, "spring": _DARK_GREEN}, (60, 84, 112), 0.026),
    Species("cedar", 0.9, (5.0, 11.0), (0.20, 0.28), (0.12, 0.18), conical_crown, 0.075, 1.0,
            {"summer": _BLUE_GREEN, "autumn": _DARK_GREEN, "spring": _DARK_GREEN}, (62, 74, 90), 0.020, False),
    Species("cypress", 0.9, (4.0, 9.0), (0.09, 0.14), (0.07, 0.12), columnar_crown, 0.065, 1.2,
            {"summer": _DARK_GREEN, "autumn": _DARK_GREEN, "spring": _DARK_GREEN}, (70, 82, 96), 0.018),
    Species("elm", 1.3, (5.5, 10.0), (0.28, 0.36), (0.32, 0.44), vase_crown, 0.080, 0.85,
            {"summer": _GREEN, "autumn": _YELLOW, "spring": _FRESH}, (80, 90, 98), 0.022),
    Species("cherry", 1.0, (3.2, 5.5), (0.30, 0.40), (0.32, 0.42), vase_crown, 0.065, 0.75,
            {"summer": _GREEN, "autumn": _RED, "spring": _PINK}, (62, 70, 88), 0.022),
    Species("olive", 0.8, (3.2, 5.5), (0.30, 0.38), (0.28, 0.38), round_crown, 0.060, 0.65,
            {"summer": _OLIVE, "autumn": _OLIVE, "spring": _OLIVE}, (92, 102, 110), 0.026),
    Species("pear", 1.0, (3.5, 7.0), (0.18, 0.25), (0.28, 0.38), round_crown, 0.065, 0.85,
            {"summer": _GREEN, "autumn": _RED, "spring": _WHITE}, (84, 92, 100), 0.018),
    Species("palm", 1.3, (6.0, 13.5), (0.15, 0.21), (0.66, 0.74), palm_crown, 0.055, 2.2,
            {"summer": _GREEN, "autumn": _GREEN, "spring": _GREEN}, (104, 120, 132), 0.016),
)  # fmt: skip
