"""The loss of SSD for one view (Liu et al. 2016, section 2.2, equations 1 to 3).

Convention:
    Sums over the whole batch, divided by its number of positive anchors, at least 1. Under data-parallel training the
    batch is that of all ranks, and each computes its share of the loss, see `crossview.detector.ranks`: the hardest
    negatives are those of all ranks, and the gradients those of one process with the whole batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.ranks import ALONE, Ranks


class LossTerms(NamedTuple):
    """Classification and localisation loss, scalars, already divided by the number of positives."""

    classification: Tensor
    localization: Tensor


class BatchCounts(NamedTuple):
    """Numbers of the batch of all ranks.

    Attributes:
        negatives: how many are kept.
        normalizer: by which each rank divides its share of the loss: positives a rank, of at least one in the batch.
    """

    negatives: int
    normalizer: Tensor


def batch_counts(
    positive: Tensor, negatives_per_positive: float, min_negatives: int, ranks: Ranks = ALONE
) -> BatchCounts:
    """What the loss needs to know of the whole batch.

    Args:
        positive: (B, N) bool.
        negatives_per_positive: hard negatives kept for each positive of the batch.
        min_negatives: hard negatives an image that are kept at least.
        ranks: that share the batch.
    """
    own = torch.stack((positive.sum(), positive.sum().new_tensor(len(positive))))
    positives, images = ranks.total(own)
    kept = max(int(negatives_per_positive * int(positives)), min_negatives * int(images))
    normalizer = positives.clamp(min=1).float() / ranks.size
    return BatchCounts(min(kept, int(images) * positive.shape[1]), normalizer)


def hard_negatives(background_loss: Tensor, candidates: Tensor, count: int, ranks: Ranks = ALONE) -> Tensor:
    """The sum of those losses of this rank that are among the ``count`` largest of the candidates of the whole batch.

    Args:
        background_loss: (B, N) non-negative.
        candidates: (B, N) bool, the background anchors.
        count: how many to keep at most, the same in all ranks; candidates without any loss are never kept.
        ranks: that share the batch.
    """
    losses = (background_loss * candidates).flatten()
    hardest = losses.topk(min(count, losses.numel())).values
    if ranks.size > 1:
        everywhere = ranks.gather(functional.pad(hardest, (0, count - len(hardest)))).flatten()
        kept = everywhere.sort(descending=True, stable=True).indices[:count]  # stable: alike in all ranks
        hardest = hardest[: int((kept // max(count, 1) == ranks.rank).sum())]
    return hardest.sum()


def ssd_loss(
    logits: Tensor,
    offsets: Tensor,
    labels: Tensor,
    positive_targets: Tensor,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 4,
    ranks: Ranks = ALONE,
) -> LossTerms:
    """Log loss with hard negatives, and smooth L1 of the offsets.

    Args:
        logits: (B, N, 1 + C).
        offsets: (B, N, 4) predicted.
        labels: (B, N) int64: class, 0 background, -1 neutral.
        positive_targets: (P, 4) offsets of the positive anchors, in the order of ``labels > 0``.
        negatives_per_positive: hard negatives kept for each positive of the batch.
        min_negatives: hard negatives an image that are kept at least, so that a batch without objects teaches too.
        ranks: that share the batch.
    """
    positive = labels > 0
    log_loss = -functional.log_softmax(logits, dim=-1)
    positive_loss = log_loss[positive].gather(1, labels[positive].unsqueeze(1)).sum()
    counts = batch_counts(positive, negatives_per_positive, min_negatives, ranks)
    negative_loss = hard_negatives(log_loss[..., 0], labels == 0, counts.negatives, ranks)
    localization = functional.smooth_l1_loss(offsets[positive], positive_targets, reduction="sum")
    return LossTerms((positive_loss + negative_loss) / counts.normalizer, localization / counts.normalizer)
