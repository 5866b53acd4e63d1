"""From raw outputs to detections: boxes, ranking, non-maximum suppression.

Convention:
    B images, N anchors. A box is suppressed by a better one when their overlap is above the threshold; equality
    survives. Boxes are not clipped to the image. Overlap goes around the seam where a period is given. Equal scores
    keep the order of the anchors. Rows of different length are padded at the end, where their mask is False.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crossview.detector.detections import ViewDetections
from crossview.geometry.boxes import decode, pairwise_iou, to_corners

FIRST_BLOCK, GROWTH, LARGEST_BLOCK = 32, 4, 512  # boxes of an image taken into account at once
SHORTLIST = 16  # times the detections wanted: so many of the best candidates are tried before all of them


def decode_boxes(offsets: Tensor, anchors: Tensor, variances: Sequence[float]) -> Tensor:
    """Boxes (B, N, 4) ``xyxy`` in pixels of raw offsets (B, N, 4)."""
    return to_corners(decode(offsets, anchors, variances))


def _to_front(numbers: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The masked numbers of each row (B, M), in their order: (B, K) and its mask, K the most of any row."""
    longest = int(mask.sum(dim=1).max()) if mask.numel() else 0
    order = mask.byte().sort(dim=1, descending=True, stable=True).indices[:, :longest]
    return numbers.gather(1, order), mask.gather(1, order)


def _survivors(suppresses: Tensor, waiting: Tensor) -> Tensor:
    """Greedy suppression among M sorted boxes, as the fixed point of "no surviving better box suppresses me".

    Source: Zheng et al., "Enhancing Geometric Factors in Model Learning and Inference", 2020, cluster NMS. The number
        of rounds is the length of the longest chain of suppressions, not the number of boxes.

    Args:
        suppresses: (B, M, M) bool, [b, i, j]: box i would suppress box j; only i < j count.
        waiting: (B, M) bool, the boxes that take part.

    Returns:
        (B, M) bool.
    """
    better = torch.ones_like(suppresses[0]).triu(diagonal=1)
    rivals = (suppresses & better).float()
    alive = waiting
    while True:
        after = waiting & ((alive.float().unsqueeze(1) @ rivals).squeeze(1) == 0)
        if torch.equal(after, alive):
            return alive
        alive = after


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    """Starts and ends of the blocks of 0..count - 1: few at first, since the best boxes suppress most of the others."""
    start, size = 0, FIRST_BLOCK
    while start < count:
        yield start, min(start + size, count)
        start, size = start + size, min(GROWTH * size, LARGEST_BLOCK)


def suppress(
    boxes: Tensor,
    present: Tensor,
    classes: Tensor | None,
    iou_threshold: float,
    top_k: int,
    period: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The boxes of each image that survive greedy non-maximum suppression.

    Takes the boxes in blocks and stops as soon as ``top_k`` are kept everywhere: exactly the first ``top_k`` of the
    full greedy result.

    Args:
        boxes: (B, M, 4) ``xyxy``, best first.
        present: (B, M) bool, False on padding.
        classes: (B, M) boxes suppress only boxes of their own class; None: all suppress each other.
        iou_threshold: overlap above which the worse box goes.
        top_k: how many to keep at most.
        period: (B,) pixels in 360 degrees, or None.

    Returns:
        Numbers (B, K) of the kept boxes, best first, K <= top_k, and their mask (B, K).
    """
    images = torch.arange(len(boxes), device=boxes.device).unsqueeze(1)

    def suppresses(better: Tensor, worse: Tensor) -> Tensor:
        over = pairwise_iou(boxes[images, better], boxes[images, worse], period) > iou_threshold
        return (
            over if classes is None else over & (classes[images, better][..., None] == classes[images, worse][:, None])
        )

    kept, is_kept = torch.zeros_like(present[:, :0], dtype=torch.int64), present[:, :0]
    for start, end in _blocks(present.shape[1]):
        block = torch.arange(start, end, device=boxes.device).expand(len(boxes), -1)
        waiting = present[:, start:end]
        if kept.shape[1]:
            waiting = waiting & ~(suppresses(kept, block) & is_kept.unsqueeze(-1)).any(dim=1)
            block, waiting = _to_front(block, waiting)
        alive = _survivors(suppresses(block, block), waiting)
        kept, is_kept = _to_front(torch.cat((kept, block), dim=1), torch.cat((is_kept, alive), dim=1))
        if bool((is_kept.sum(dim=1) >= top_k).all()):
            break
    return kept[:, :top_k], is_kept[:, :top_k]


def _best_first(values: Tensor, wanted: Tensor, at_least: int) -> tuple[Tensor, Tensor]:
    """Places of each image's largest wanted values, falling, equal ones in their order.

    Args:
        values: (B, V).
        wanted: (B, V) bool.
        at_least: how many are asked for. More are returned when they are equal to the last one, or when no image has
            more than that.

    Returns:
        Places (B, M) in 0..V - 1 and their mask (B, M).
    """
    count = wanted.sum(dim=1)
    if count.numel() and int(count.max()) > at_least:
        last = values.masked_fill(~wanted, -torch.inf).topk(at_least, dim=1).values[:, -1:]
        wanted = wanted & (values >= last)
        count = wanted.sum(dim=1)
    image, place = wanted.nonzero(as_tuple=True)
    column = torch.arange(len(place), device=place.device) - (count.cumsum(0) - count)[image]
    longest = int(count.max()) if count.numel() else 0
    places = place.new_zeros(len(values), longest)
    places[image, column] = place
    mask = torch.arange(longest, device=place.device) < count.unsqueeze(1)
    order = values.gather(1, places).masked_fill(~mask, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    return places.gather(1, order), mask


@dataclass(frozen=True)
class DetectionDecoder:
    """Settings of the decoding.

    Attributes:
        score_threshold: smallest score of a detection (strictly greater with ``per_class``, greater or equal without).
        iou_threshold: of the non-maximum suppression.
        top_k: detections an image at most.
        per_class: suppress class by class, an anchor may give several classes (the original). False: each anchor gives
            its best class, and all boxes suppress each other (faster with many classes).
    """

    score_threshold: float = 0.01
    iou_threshold: float = 0.45
    top_k: int = 200
    per_class: bool = True

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: a threshold outside of 0..1, or top_k below 1.
        """
        if not (0 <= self.score_threshold < 1 and 0 < self.iou_threshold <= 1 and self.top_k >= 1):
            raise ValueError(
                f"decoder: expected 0 <= score_threshold < 1, 0 < iou_threshold <= 1, top_k >= 1; found "
                f"{self.score_threshold}, {self.iou_threshold}, {self.top_k}"
            )

    def __call__(self, scores: Tensor, boxes: Tensor, period: Tensor | None = None) -> tuple[ViewDetections, Tensor]:
        """Detections of B images, best first, padded to the largest number.

        Args:
            scores: (B, N, 1 + C) probabilities, background first.
            boxes: (B, N, 4) ``xyxy``.
            period: (B,) pixels in 360 degrees, or None.

        Returns:
            detections of leading shape (B, D), and the anchor (B, D) of each; 0 on padding.
        """
        values, wanted, labels = self._candidates(scores)
        per_anchor = values.shape[1] // scores.shape[1]
        count = wanted.sum(dim=1)
        for at_least in (SHORTLIST * self.top_k, values.shape[1]):
            places, present = _best_first(values, wanted, at_least)
            anchors = places // per_anchor
            candidates = boxes.gather(1, anchors.unsqueeze(-1).expand(-1, -1, 4))
            classes = labels.gather(1, places) if self.per_class and per_anchor > 1 else None
            kept, is_kept = suppress(candidates, present, classes, self.iou_threshold, self.top_k, period)
            if not bool(((is_kept.sum(dim=1) < self.top_k) & (count > present.sum(dim=1))).any()):
                break
        places, anchors = places.gather(1, kept), anchors.gather(1, kept)
        kept_boxes = candidates.gather(1, kept.unsqueeze(-1).expand(-1, -1, 4))
        return (
            ViewDetections(
                kept_boxes * is_kept.unsqueeze(-1),
                values.gather(1, places) * is_kept,
                labels.gather(1, places) * is_kept,
                is_kept,
            ),
            anchors * is_kept,
        )

    def _candidates(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, whether they count, and labels (B, V) of all that could be detected, V = N * C or N, by anchor."""
        if self.per_class:
            values = scores[..., 1:].flatten(1)
            labels = torch.arange(1, scores.shape[-1], device=scores.device).repeat(scores.shape[1])
            return values, values > self.score_threshold, labels.expand(len(scores), -1)
        values, labels = scores.max(dim=-1)
        return values, (labels > 0) & (values >= self.score_threshold), labels
