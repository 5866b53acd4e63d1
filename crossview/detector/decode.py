"""From raw outputs to detections: softmax, boxes, non-maximum suppression.

Convention:
    A box is suppressed by a better one when their overlap is above the threshold; equality survives. Boxes are not
    clipped to the image. Overlap goes around the seam where a period is given. Equal scores keep the order of the
    anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crossview.detector.detections import ViewDetections
from crossview.geometry.boxes import decode, pairwise_iou, to_corners

BLOCK = 1024  # boxes taken into account at once


def decode_boxes(offsets: Tensor, anchors: Tensor, variances: Sequence[float]) -> Tensor:
    """Boxes (B, N, 4) ``xyxy`` in pixels of raw offsets (B, N, 4)."""
    return to_corners(decode(offsets, anchors, variances))


def _survivors(suppresses: Tensor) -> Tensor:
    """Greedy suppression among M sorted boxes, as the fixed point of "no surviving better box suppresses me".

    Source: Zheng et al., "Enhancing Geometric Factors in Model Learning and Inference", 2020, cluster NMS. The number
        of rounds is the length of the longest chain of suppressions, not the number of boxes.

    Args:
        suppresses: (M, M) bool, [i, j]: box i would suppress box j; only i < j count.

    Returns:
        (M,) bool.
    """
    suppresses = suppresses.triu(diagonal=1)
    alive = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    while True:
        after = ~(suppresses & alive[:, None]).any(dim=0)
        if torch.equal(after, alive):
            return alive
        alive = after


def suppress(
    boxes: Tensor, classes: Tensor | None, iou_threshold: float, top_k: int, period: float | None = None
) -> Tensor:
    """Numbers (K,), K <= top_k, of the boxes that survive greedy non-maximum suppression.

    Takes the boxes in blocks and stops as soon as ``top_k`` are kept: exactly the first ``top_k`` of the full greedy
    result.

    Args:
        boxes: (M, 4) ``xyxy``, best first.
        classes: (M,) boxes suppress only boxes of their own class; None: all suppress each other.
        iou_threshold: overlap above which the worse box goes.
        top_k: how many to keep at most.
        period: pixels in 360 degrees, or None.
    """

    def suppresses(better: Tensor, worse: Tensor) -> Tensor:
        over = pairwise_iou(boxes[better], boxes[worse], period) > iou_threshold
        return over if classes is None else over & (classes[better][:, None] == classes[worse][None, :])

    kept = torch.empty(0, dtype=torch.int64, device=boxes.device)
    for block in torch.split(torch.arange(len(boxes), device=boxes.device), BLOCK):
        open_block = block[~suppresses(kept, block).any(dim=0)] if len(kept) else block
        kept = torch.cat((kept, open_block[_survivors(suppresses(open_block, open_block))]))
        if len(kept) >= top_k:
            break
    return kept[:top_k]


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
        images = [
            self._decode_image(scores[i], boxes[i], None if period is None else float(period[i]))
            for i in range(len(scores))
        ]
        width = max((len(anchor) for anchor, _, _ in images), default=0)
        anchors = scores.new_zeros((len(images), width), dtype=torch.int64)
        labels, present = torch.zeros_like(anchors), torch.zeros_like(anchors, dtype=torch.bool)
        kept_scores = scores.new_zeros((len(images), width))
        for i, (anchor, label, score) in enumerate(images):
            anchors[i, : len(anchor)], labels[i, : len(anchor)] = anchor, label
            kept_scores[i, : len(anchor)], present[i, : len(anchor)] = score, True
        kept_boxes = boxes.gather(1, anchors.unsqueeze(-1).expand(-1, -1, 4)) * present.unsqueeze(-1)
        return ViewDetections(kept_boxes, kept_scores, labels, present), anchors

    def _decode_image(self, scores: Tensor, boxes: Tensor, period: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors (K,), labels (K,) and scores (K,) of one image's detections, best first."""
        if self.per_class:
            anchor, label = (scores[:, 1:] > self.score_threshold).nonzero(as_tuple=True)
            label = label + 1
        else:
            best, label = scores.max(dim=1)
            anchor = ((label > 0) & (best >= self.score_threshold)).nonzero().squeeze(1)
            label = label[anchor]
        score, order = scores[anchor, label].sort(descending=True, stable=True)
        anchor, label = anchor[order], label[order]
        kept = suppress(boxes[anchor], label if self.per_class else None, self.iou_threshold, self.top_k, period)
        return anchor[kept], label[kept], score[kept]
