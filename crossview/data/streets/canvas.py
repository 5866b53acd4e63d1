"""The picture being painted: colours, and for every pixel the tree that it shows.

Things are painted from far to near, each into its own window only. A window may reach over the left or right border
of the picture: its columns go on at the other side, because both borders are the same direction.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.light import Light
from crossview.data.streets.projection import Panorama

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]


@dataclass(slots=True)
class Canvas:
    """A panorama in the making.

    Attributes:
        camera: Where it is taken from.
        light: The light of the street.
        image: (H, W, 3) BGR.
        owner: (H, W) number of the tree seen at a pixel, 0 where there is none.
        painted: Pixels that each tree covered when it was painted, before nearer things hid some of them.
        windows: Rows and columns (left, top, right, bottom) of each tree's window; columns may leave [0, W).
    """

    camera: Panorama
    light: Light
    image: Picture
    owner: NDArray[np.uint16]
    painted: dict[int, int] = field(default_factory=dict)
    windows: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)

    def paste(self, left: int, top: int, colours: Picture, mask: Mask, tree: int = 0) -> None:
        """Paints a window.

        Args:
            left: First column, any integer: taken modulo the width.
            top: First row, any integer: rows outside the picture are dropped.
            colours: (h, w, 3) BGR.
            mask: (h, w) the pixels to paint.
            tree: Number of the tree that these pixels show; 0 for everything else.
        """
        height, width = self.owner.shape
        skip, stop = max(0, -top), min(mask.shape[0], height - top)
        if stop <= skip:
            return
        if tree:
            self.painted[tree] = self.painted.get(tree, 0) + int(np.count_nonzero(mask[skip:stop]))
            self._extend_window(tree, left, top + skip, left + mask.shape[1], top + stop)
        done = 0
        while done < mask.shape[1]:
            column = (left + done) % width
            count = min(mask.shape[1] - done, width - column)
            part = mask[skip:stop, done : done + count]
            rows, columns = slice(top + skip, top + stop), slice(column, column + count)
            np.copyto(self.image[rows, columns], colours[skip:stop, done : done + count], where=part[..., None])
            np.copyto(self.owner[rows, columns], np.uint16(tree), where=part)
            done += count

    def _extend_window(self, tree: int, left: int, top: int, right: int, bottom: int) -> None:
        old = self.windows.get(tree, (left, top, right, bottom))
        self.windows[tree] = (min(old[0], left), min(old[1], top), max(old[2], right), max(old[3], bottom))
