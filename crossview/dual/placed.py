"""Where the detections of one view are in the other.

Convention:
    Row d belongs to detection d of the view it was seen in; boxes are ``xyxy`` pixels of the other view's network image
    and may cross the seam. For views in the order (1, 2), index 0 is ``1_to_2`` and index 1 is ``2_to_1``.
"""

from typing import NamedTuple

from torch import Tensor


class PlacedDetections(NamedTuple):
    """Detections of views (...), D each with padding, placed in the other view of the pair.

    Attributes:
        boxes: (..., D, 4) placed by the network's projection head.
        valid: (..., D) bool: whether there is such a place (False on padding too).
        geometry_boxes: (..., D, 4) placed by geometry alone.
        geometry_valid: (..., D) bool.
        covisibility: (..., D) probability that the object is in the other view too.
    """

    boxes: Tensor
    valid: Tensor
    geometry_boxes: Tensor
    geometry_valid: Tensor
    covisibility: Tensor
