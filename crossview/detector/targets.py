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
BLOCK = 128  # anchors


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
    if not overlap.numel():
        return chosen
    numbers = torch.arange(objects, device=overlap.device)
    free = torch.ones(batch, anchors, dtype=torch.bool, device=overlap.device)
    best, column = _first_largest(overlap)
    waiting = best > 0
    while bool(waiting.any()):
        # [b, i, j]: how much object i of image b overlaps the anchor that object j likes best.
        rivals = overlap.gather(2, column[:, None, :].expand(-1, objects, -1)).masked_fill(~waiting[..., None], -1.0)
        won = waiting & (rivals.max(dim=1).indices == numbers)
        chosen[won] = column[won]
        free[won.nonzero()[:, 0], column[won]] = False
        waiting &= ~won
        image, number = (waiting & ~free.gather(1, column)).nonzero(as_tuple=True)  # these lost their best anchor
        best[image, number], column[image, number] = overlap[image, number].mul_(free[image]).max(dim=1)
        waiting &= best > 0
    return chosen


def _first_largest(overlap: Tensor) -> tuple[Tensor, Tensor]:
    """``overlap.max(dim=-1)`` of (..., N), the lowest anchor of equals.

    On a processor PyTorch looks for a number and its place one by one, for the number alone many at once. So the
    largest of each block comes first, then the place in the best block.
    """
    size = min(BLOCK, overlap.shape[-1])
    blocks = overlap.unfold(-1, size, size).amax(dim=-1)
    rest = overlap[..., blocks.shape[-1] * size :]
    if rest.shape[-1]:
        blocks = torch.cat((blocks, rest.amax(dim=-1, keepdim=True)), dim=-1)
    best, block = blocks.max(dim=-1)
    columns = block.unsqueeze(-1) * size + torch.arange(size, device=overlap.device)
    columns = columns.clamp(max=overlap.shape[-1] - 1)
    return best, columns.gather(-1, overlap.gather(-1, columns).argmax(dim=-1, keepdim=True)).squeeze(-1)


def assign(overlap: Tensor, positive_iou: float) -> tuple[Tensor, Tensor]:
    """Gives every object its anchor by `match_bipartite`, and every other anchor to its best object, if good enough.

    Args:
        overlap: (B, G, N), non-negative; rows of absent objects are zero.
        positive_iou: overlap from which an anchor that is no object's own is given to its best object.

    Returns:
        (B, N) int64 object of each anchor, -1 for none; and the largest overlap (B, N) of each anchor.
    """
    best = overlap.amax(dim=1)
    objects = best.new_full(best.shape, -1, dtype=torch.int64)
    image, anchor = (best >= positive_iou).nonzero(as_tuple=True)
    objects[image, anchor] = overlap[image, :, anchor].max(dim=1).indices
    forced = match_bipartite(overlap)
    image, number = (forced >= 0).nonzero(as_tuple=True)
    objects[image, forced[image, number]] = number
    return objects, best


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
    if labels.numel() == 0:
        shape = (len(labels), len(anchors))
        return AnchorMatches(labels.new_zeros(shape), labels.new_zeros(shape))
    corners = to_corners(anchors)
    present = labels > 0
    objects, best = assign(_overlaps(corners, boxes, present & ~ignored, period), positive_iou)
    neutral = best >= negative_iou
    if bool((present & ignored).any()):
        neutral |= _overlaps(corners, boxes, present & ignored, period).amax(dim=1) >= negative_iou
    positive = objects >= 0
    objects = objects.clamp(min=0)
    return AnchorMatches(torch.where(positive, labels.gather(1, objects), torch.where(neutral, NEUTRAL, 0)), objects)


def _overlaps(corners: Tensor, boxes: Tensor, wanted: Tensor, period: Tensor | None) -> Tensor:
    """Overlap (B, G, N) of boxes (B, G, 4) with anchors (N, 4), both ``xyxy``; zero where not ``wanted`` (B, G).

    Image by image: the intermediate results of one image stay in the processor's cache.
    """
    boxes = boxes.masked_fill(~wanted.unsqueeze(-1), 0.0)  # an empty box overlaps nothing
    overlap = boxes.new_empty(*wanted.shape, len(corners))
    for i in range(len(boxes)):
        overlap[i] = pairwise_iou(boxes[i], corners, None if period is None else period[i])
    return overlap
