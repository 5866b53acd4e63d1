"""What the detector says about views, padded to the same number of detections.

Convention:
    Boxes are ``xyxy`` pixels of the network image and may cross the seam (xmax > period). Labels are 1..C, padding 0.
"""

from typing import NamedTuple

from torch import Tensor


class ViewDetections(NamedTuple):
    """Detections of views (...), D each with padding.

    Attributes:
        boxes: (..., D, 4) ``xyxy`` pixels.
        scores: (..., D) probability of the class, 0 on padding.
        labels: (..., D) int64 class, 1..C.
        present: (..., D) bool, False on padding.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    present: Tensor
