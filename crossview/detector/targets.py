"""Matching of anchors to objects (Liu et al. 2016, section 2.2, "Matching strategy").

Convention:
    B images, G objects (padded), N anchors. A label of an anchor is its class 1..C, 0 for background, -1 for neutral:
    an anchor that neither should nor should not have fired and takes no part in any loss. Ties go to the lowest object,
    then to the lowest anchor.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from crossview.geometry.boxes import pairwise_iou, to_corners

NEUTRAL = -1


class AnchorMatches(NamedTuple):
    """What each anchor of each image should find.

    Attributes:
        labels: (B, N) int64, class 1..C, 0 background, -1 neutral.
        objects: (B, N) int64, number of the matched object in its image; 0 where no object is matched.
    """

    labels: Tensor
    objects: Tensor


def match_bipartite(overlap: Tensor) -> Tensor:
    """The greedy bipartite matching: repeatedly take the largest overlap of what is left.

    All pairs that are the largest of their row and of their column are taken at once, which gives the greedy result in
    a few rounds instead of one round an object.

    Args:
        overlap: (B, G, N), non-negative; rows of absent objects are zero.

    Returns:
        (B, G) int64 anchor of each object, -1 for an object that overlaps no free anchor.
    """
    batch, objects, anchors = overlap.shape
    chosen = overlap.new_full((batch, objects), -1, dtype=torch.int64)
    image, number = (overlap.amax(dim=2) > 0).nonzero(as_tuple=True) if anchors else (chosen.new_empty(0),) * 2
    rows = overlap[image, number]
    while len(rows):
        best, column = rows.max(dim=1)
        rivals = rows[:, column].masked_fill(image[:, None] != image[None, :], -1.0)
        won = (rivals.max(dim=0).indices == torch.arange(len(rows), device=rows.device)) & (best > 0)
        chosen[image[won], number[won]] = column[won]
        left = ~won & (best > 0)
        taken = torch.zeros(batch, anchors, dtype=torch.bool, device=rows.device)
        taken[image[won], column[won]] = True
        image, number = image[left], number[left]
        rows = rows[left].masked_fill(taken[image], 0.0)
    return chosen


def match_anchors(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    ignored: Tensor,
    positive_iou: float = 0.5,
    negative_iou: float = 0.5,
    period: Tensor | None = None,
) -> AnchorMatches:
    """Matches every object to its best anchor, and every anchor to its best object where they overlap enough.

    Args:
        anchors: (N, 4) ``cxcywh`` pixels.
        boxes: (B, G, 4) ``xyxy`` pixels, positive sizes.
        labels: (B, G) int64 classes 1..C, 0 for padding.
        ignored: (B, G) bool: anchors over these objects become neutral instead of positive or negative.
        positive_iou: overlap from which an anchor is positive.
        negative_iou: overlap from which an anchor that is not positive is neutral.
        period: (B,) pixels in 360 degrees, or None.
    """
    batch, count = labels.shape
    shape = (batch, len(anchors))
    if count == 0:
        return AnchorMatches(labels.new_zeros(shape), labels.new_zeros(shape))
    overlap = pairwise_iou(boxes, to_corners(anchors).expand(batch, -1, -1), period)
    present = labels > 0
    wanted = overlap * (present & ~ignored).unsqueeze(-1)
    best, objects = wanted.max(dim=1)
    forced = match_bipartite(wanted)
    image, number = (forced >= 0).nonzero(as_tuple=True)
    objects[image, forced[image, number]] = number
    positive = best >= positive_iou
    positive[image, forced[image, number]] = True
    neutral = best >= negative_iou
    if bool(ignored.any()):
        neutral |= (overlap * (present & ignored).unsqueeze(-1)).amax(dim=1) >= negative_iou
    matched_labels = torch.where(positive, labels.gather(1, objects), torch.where(neutral, NEUTRAL, 0))
    return AnchorMatches(matched_labels, objects * positive)
