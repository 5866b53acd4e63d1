"""Boxes of the visible parts of the trees in a finished panorama.

Convention: boxes are ``xyxy`` in whole pixels, 0-based, half-open, inside the picture; the writer turns them into
VOC's numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossview.data.streets.canvas import Canvas, Mask
from crossview.data.streets.settings import StreetSettings
from crossview.data.streets.trees import Tree

# Single leaves that stick out do not widen a box: a column or row needs this share of the fullest one.
COLUMN_SHARE = 0.03
ROW_SHARE = 0.012
REFERENCE_WIDTH = 600.0


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated tree of one view.

    Attributes:
        tree: Its number in the street.
        box: xmin, ymin, xmax, ymax.
        difficult: Mostly hidden or small.
        truncated: Cut at the left or right border of the picture.
        visible: Share of its pixels that nothing hides.
    """

    tree: int
    box: tuple[int, int, int, int]
    difficult: bool
    truncated: bool
    visible: float


def annotate_view(settings: StreetSettings, canvas: Canvas, trees: Iterable[Tree]) -> list[Annotation]:
    """The trees that an annotator would mark, by their number.

    A tree is left out when it is too far away, too small or almost hidden. One that crosses the seam gets the larger
    of its two parts. At most one annotation a tree.
    """
    here = np.array((canvas.camera.east, canvas.camera.north))
    found = []
    for tree in trees:
        if tree.number not in canvas.windows or float(np.hypot(*(tree.foot - here))) > settings.max_distance_m:
            continue
        annotation = _annotate_tree(settings, canvas, tree)
        if annotation is not None:
            found.append(annotation)
    return found


def _annotate_tree(settings: StreetSettings, canvas: Canvas, tree: Tree) -> Annotation | None:
    width = canvas.camera.width
    left, top, right, bottom = canvas.windows[tree.number]
    right = min(right, left + width)
    columns = np.arange(left, right) % width
    seen = canvas.owner[top:bottom][:, columns] == tree.number
    visible = float(np.count_nonzero(seen)) / max(canvas.painted[tree.number], 1)
    if visible < settings.min_visible:
        return None
    # The picture's border cuts the window where the columns start again.
    seam = int(np.flatnonzero(columns == 0)[0]) if (columns[1:] < columns[:-1]).any() else 0
    parts = [(0, seen)] if not seam else [(0, seen[:, :seam]), (seam, seen[:, seam:])]
    start, part = max(parts, key=lambda entry: int(np.count_nonzero(entry[1])))
    box = _tight_box(part)
    if box is None:
        return None
    shift = int(columns[start])
    xmin, ymin, xmax, ymax = box[0] + shift, box[1] + top, box[2] + shift, box[3] + top
    height = (ymax - ymin) * REFERENCE_WIDTH / width
    if height < settings.min_height_px or (xmax - xmin) * REFERENCE_WIDTH / width < settings.min_height_px / 4:
        return None
    if min(xmax - xmin, ymax - ymin) < 2:  # the two inclusive corners of a single pixel are a box without area
        return None
    truncated = bool(seam) and min(int(np.count_nonzero(side)) for _, side in parts) > 0
    difficult = visible < settings.difficult_visible or height < settings.small_height_px
    return Annotation(tree.number, (xmin, ymin, xmax, ymax), difficult, truncated, visible)


def _tight_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """The box of a mask (h, w) without its stray pixels; None without a pixel."""
    columns = _filled(mask.sum(axis=0), COLUMN_SHARE)
    rows = _filled(mask.sum(axis=1), ROW_SHARE)
    if columns is None or rows is None:
        return None
    return columns[0], rows[0], columns[1], rows[1]


def _filled(counts: NDArray[np.int64], share: float) -> tuple[int, int] | None:
    """First and one past the last place whose count is at least a share of the largest."""
    if not counts.size or counts.max() == 0:
        return None
    places = np.flatnonzero(counts >= max(1.0, share * float(counts.max())))
    return int(places[0]), int(places[-1]) + 1
