"""What is known of many pairs at once, before and after their views are matched.

Convention:
    A portion is some scenes with the same number of views V: B scenes, D detections and G objects, padded. The overhead
    of a pair's own tensors would cost more than what is computed with them.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossview.detector.detections import ViewDetections
from crossview.dual.placed import PlacedDetections
from crossview.evaluation.records import SceneObjects
from crossview.geometry.boxes import iou
from crossview.metrics.cross_view import SharedObjects, shared_objects, take
from crossview.metrics.matching import TRUE_POSITIVE, Matches, match_views

PORTION = 128  # scenes: so many that a tensor's overhead does not matter


class Known(NamedTuple):
    """What is known of B pairs before their views are matched.

    Attributes:
        detections: (B, 2, D).
        objects: (B, 2, G).
        shared: the objects that both views annotate.
        seen: what the detections hit in their own view.
        periods: (B, 2).
    """

    detections: ViewDetections
    objects: SceneObjects
    shared: SharedObjects
    seen: Matches
    periods: Tensor

    def shared_count(self, row: int) -> int:
        """The number of objects that both views of a pair annotate, without those that are difficult in one."""
        return int((self.shared.present[row, 1] & ~self.shared.difficult[row, 1]).sum())


def known_of(detections: ViewDetections, objects: SceneObjects, periods: Tensor) -> Known:
    """What is known of a portion of pairs: detections (B, 2, D), objects (B, 2, G) and periods (B, 2)."""
    seen = match_views(detections, objects, period=periods)
    return Known(detections, objects, shared_objects(objects), seen, periods)


def portions(count: int) -> list[slice]:
    """So many scenes in portions."""
    return [slice(first, first + PORTION) for first in range(0, count, PORTION)]


def placed_hits(known: Known, placed: PlacedDetections) -> Tensor:
    """Whether (N,) the true positives of detection whose object is in the other view too are placed on it (IoU 0.5)."""
    shared, seen = known.shared, known.seen
    number = take(shared.number, torch.where(seen.flags == TRUE_POSITIVE, seen.targets, -1), fill=-1)
    pair, view, row = ((number >= 0) & ~take(shared.difficult, number, fill=False)).nonzero(as_tuple=True)
    overlap = iou(
        placed.boxes[pair, view, row].double(),
        shared.boxes[pair, view, number[pair, view, row]].double(),
        known.periods[pair, 1 - view].double(),
    )
    return placed.valid[pair, view, row] & (overlap >= 0.5)


def covisibility(known: Known, placed: PlacedDetections) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the network says of detections that show an object with an identity, and whether it is in the other view."""
    identified = known.detections.present & take(known.objects.has_id, known.seen.targets, fill=False)
    said = placed.covisibility[identified].double().numpy()
    truth = (take(known.shared.number, known.seen.targets, fill=-1)[identified] >= 0).numpy()
    is_said = ~np.isnan(said)
    return said[is_said], truth[is_said]
