"""The loss of one direction: boxes of view i placed in view j, and co-visibility.

Convention:
    An anchor that is matched to object k of view i is positive if k is annotated in view j too, and negative if k has
    an identity that view j does not have. An object without identity says nothing about the other view: its anchors are
    neutral. Background anchors are negatives, mined 3:1. All shared objects of all pairs of the batch count.
    Localisation is measured in SSD offsets of the placed box with the target box as reference, variances divided out: a
    perfect projection is 0. Sums are divided by the number of positives, at least 1, as in the loss of a view.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.loss import LossTerms, batch_counts, hard_negatives
from crossview.detector.ranks import ALONE, Ranks
from crossview.detector.targets import NEUTRAL, AnchorMatches
from crossview.dual.head import Placement
from crossview.geometry.boxes import encode, to_centers


class CrossTargets(NamedTuple):
    """What each anchor of view i should say about view j.

    Attributes:
        covisible: (B, N) int64: 1 the object is there, 0 it is not, -1 neutral.
        background: (B, N) bool: anchors without an object, of which only the hardest count.
        boxes: (B, N, 4) ``xyxy`` box of the object in view j; meaningless where ``covisible`` is not 1.
    """

    covisible: Tensor
    background: Tensor
    boxes: Tensor


def cross_targets(
    matches: AnchorMatches, has_id: Tensor, counterparts: Tensor, found: Tensor, boxes_j: Tensor
) -> CrossTargets:
    """Targets of the direction i to j.

    Args:
        matches: of the anchors in view i.
        has_id: (B, G) bool of the objects in view i.
        counterparts: (B, G) int64 number of the same object in view j.
        found: (B, G) bool, whether there is one.
        boxes_j: (B, K, 4) ``xyxy`` boxes of view j.
    """
    background = matches.labels == 0
    if has_id.shape[1] == 0:
        covisible = torch.where(background, 0, NEUTRAL)
        return CrossTargets(covisible, background, boxes_j.new_zeros((*background.shape, 4)))
    if boxes_j.shape[1] == 0:
        boxes_j = boxes_j.new_zeros((len(boxes_j), 1, 4))
    matched = matches.labels > 0
    known = has_id.gather(1, matches.objects)
    there = found.gather(1, matches.objects)
    index = counterparts.gather(1, matches.objects).clamp(min=0)
    covisible = torch.where(matched & known, there.long(), torch.where(background, 0, NEUTRAL))
    boxes = boxes_j.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
    return CrossTargets(covisible, background, boxes)


def cross_loss(
    placement: Placement,
    targets: CrossTargets,
    variances: Sequence[float],
    period_j: Tensor,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 4,
    ranks: Ranks = ALONE,
) -> LossTerms:
    """Log loss of co-visibility with hard negatives, and smooth L1 of the placed boxes.

    Positive anchors whose box has no place in the other view (its foot at or above the horizon) teach co-visibility
    only.

    Args:
        placement: boxes of view i in view j.
        targets: of the same direction.
        variances: of the offsets.
        period_j: (B,) pixels in 360 degrees in view j.
        negatives_per_positive: background anchors kept for each positive of the batch.
        min_negatives: background anchors an image that are kept at least.
        ranks: that share the batch.
    """
    positive = targets.covisible == 1
    logits = placement.covisibility
    presence = functional.softplus(-logits[positive]).sum()
    absence = functional.softplus(logits)
    absence_known = absence[(targets.covisible == 0) & ~targets.background].sum()
    counts = batch_counts(positive, negatives_per_positive, min_negatives, ranks)
    absence_mined = hard_negatives(absence, targets.background, counts.negatives, ranks)

    # A box at the limit of single precision may have lost its width to the correction; it has no logarithm.
    sized = (placement.boxes[..., 2:] > placement.boxes[..., :2]).all(dim=-1)
    placed = positive & placement.valid & sized
    reference = to_centers(targets.boxes[placed])
    around = period_j[:, None].expand(placed.shape)[placed]
    error = encode(to_centers(placement.boxes[placed]), reference, variances, around)
    localization = functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum")
    classification = presence + absence_known + absence_mined
    return LossTerms(classification / counts.normalizer, localization / counts.normalizer)
