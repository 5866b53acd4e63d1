"""The loss of SSD for one view (Liu et al. 2016, section 2.2, equations 1 to 3).

Convention:
    Sums over the whole batch, divided by the number of positive anchors, at least 1. Under data-parallel training that
    number is the mean over the ranks, since the gradients are averaged over them.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

Reduce = Callable[[Tensor], Tensor]


class LossTerms(NamedTuple):
    """Classification and localisation loss, scalars, already divided by the number of positives."""

    classification: Tensor
    localization: Tensor


def hard_negatives(background_loss: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The sum of the ``count`` largest losses among the candidates, over the whole batch.

    Args:
        background_loss: (B, N) non-negative.
        candidates: (B, N) bool, the background anchors.
        count: how many to keep at most; candidates without any loss are never kept.
    """
    losses = (background_loss * candidates).flatten()
    return losses.topk(min(count, losses.numel())).values.sum()


def mean_positives(count: Tensor, reduce: Reduce | None) -> Tensor:
    """The normaliser: number of positives, averaged over the ranks by ``reduce``, at least 1."""
    count = count.float()
    return (count if reduce is None else reduce(count)).clamp(min=1.0)


def ssd_loss(
    logits: Tensor,
    offsets: Tensor,
    labels: Tensor,
    positive_targets: Tensor,
    negatives_per_positive: float = 3.0,
    min_negatives: int = 4,
    reduce: Reduce | None = None,
) -> LossTerms:
    """Log loss with hard negatives, and smooth L1 of the offsets.

    Args:
        logits: (B, N, 1 + C).
        offsets: (B, N, 4) predicted.
        labels: (B, N) int64: class, 0 background, -1 neutral.
        positive_targets: (P, 4) offsets of the positive anchors, in the order of ``labels > 0``.
        negatives_per_positive: hard negatives kept for each positive of the batch.
        min_negatives: hard negatives an image that are kept at least, so that a batch without objects teaches too.
        reduce: mean over the ranks of a scalar tensor; None for one process.
    """
    positive = labels > 0
    log_loss = -functional.log_softmax(logits, dim=-1)
    positive_loss = log_loss[positive].gather(1, labels[positive].unsqueeze(1)).sum()
    found = len(positive_targets)
    kept = max(int(negatives_per_positive * found), min_negatives * len(labels))
    negative_loss = hard_negatives(log_loss[..., 0], labels == 0, kept)
    localization = functional.smooth_l1_loss(offsets[positive], positive_targets, reduction="sum")
    normalizer = mean_positives(positive.sum(), reduce)
    return LossTerms((positive_loss + negative_loss) / normalizer, localization / normalizer)
