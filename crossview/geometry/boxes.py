"""Boxes: formats, offsets, overlap, all aware of the panorama's seam.

Convention:
    ``xyxy`` corners are continuous pixels, half-open, no "+1": width = xmax - xmin.
    ``cxcywh`` is centre and size.
    ``period`` is the number of pixels in 360 degrees, broadcast over the batch; None or infinity means an ordinary
    image. With a period, differences of x go the short way around, and a box that crosses the seam has xmax > period
    or xmin < 0.
    Offsets are those of SSD (Liu et al. 2016, section 2.2), the variances divided out:
    ``((cx - rx) / rw / v0, (cy - ry) / rh / v1, log(w / rw) / v2, log(h / rh) / v3)`` for a reference box
    (rx, ry, rw, rh).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = 4.135  # log(1000 / 16): a decoded side is at most 62.5 times its reference's, so that exp stays finite


def _columns(boxes: Tensor) -> tuple[Tensor, ...]:
    """The four coordinates, each in one piece of memory, on which arithmetic is several times faster."""
    return boxes.movedim(-1, 0).contiguous().unbind(0)


def _from_columns(*columns: Tensor) -> Tensor:
    """Boxes (..., 4) of their four coordinates (...), which stay in one piece of memory each."""
    return torch.stack(columns).movedim(0, -1)


def to_centers(boxes: Tensor) -> Tensor:
    """``cxcywh`` of ``xyxy`` boxes (..., 4)."""
    x1, y1, x2, y2 = _columns(boxes)
    return _from_columns((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)


def to_corners(boxes: Tensor) -> Tensor:
    """``xyxy`` of ``cxcywh`` boxes (..., 4)."""
    x, y, width, height = _columns(boxes)
    half_width, half_height = width / 2, height / 2
    return _from_columns(x - half_width, y - half_height, x + half_width, y + half_height)


def area(boxes: Tensor) -> Tensor:
    """Areas (...) of ``xyxy`` boxes (..., 4) in square pixels; zero for boxes turned inside out."""
    return _rectangle(*boxes.unbind(-1))


def _rectangle(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)


def wrap_difference(difference: Tensor, period: Tensor | float | None) -> Tensor:
    """A difference of x (...) the short way around, in [-period/2, period/2]; unchanged without a period.

    Rounding may reach either end, which are the same difference.
    """
    if period is None or (not isinstance(period, Tensor) and math.isinf(period)):
        return difference
    if not isinstance(period, Tensor):
        return torch.remainder(difference + 0.5 * period, period) - 0.5 * period
    around = period.isfinite()
    turn = torch.where(around, period, torch.ones_like(period))
    return torch.where(around, torch.remainder(difference + 0.5 * turn, turn) - 0.5 * turn, difference)


def _overlap(low_1: Tensor, high_1: Tensor, low_2: Tensor, high_2: Tensor) -> Tensor:
    return torch.minimum(high_1, high_2).sub_(torch.maximum(low_1, low_2)).clamp_(min=0)


def _overlap_around(low_1: Tensor, high_1: Tensor, low_2: Tensor, high_2: Tensor, period: Tensor | float) -> Tensor:
    length_1, length_2 = high_1 - low_1, high_2 - low_2
    reach = (length_1 + length_2) / 2
    between = wrap_difference((low_1 + high_1) / 2 - (low_2 + high_2) / 2, period).abs()
    # Boxes that are together longer than the way around may meet on its far side as well.
    both_sides = (reach - between).clamp(min=0) + (reach + between - period).clamp(min=0)
    return torch.minimum(both_sides, torch.minimum(length_1, length_2)).clamp(min=0)


def iou(boxes_1: Tensor, boxes_2: Tensor, period: Tensor | float | None = None) -> Tensor:
    """Intersection over union (...) of boxes (..., 4) with boxes (..., 4), broadcast; 0 where both are empty.

    Args:
        boxes_1: (..., 4) ``xyxy``.
        boxes_2: (..., 4) ``xyxy``, broadcastable with ``boxes_1``.
        period: pixels in 360 degrees, broadcastable with the result, or None.
    """
    x1, y1, x2, y2 = _columns(boxes_1)
    u1, v1, u2, v2 = _columns(boxes_2)
    across = _overlap(x1, x2, u1, u2) if period is None else _overlap_around(x1, x2, u1, u2, period)
    # In place where no one else holds the result: for all anchors, fresh memory costs more than the arithmetic.
    shared = across.mul_(_overlap(y1, y2, v1, v2))
    union = (_rectangle(x1, y1, x2, y2) + _rectangle(u1, v1, u2, v2)).sub_(shared)
    # The floor's square, by which the gradient is divided, is still a normal number.
    return shared.div_(union.clamp_(min=torch.finfo(union.dtype).tiny ** 0.5))


def pairwise_iou(boxes_1: Tensor, boxes_2: Tensor, period: Tensor | float | None = None) -> Tensor:
    """Overlap (..., M, N) of every box of (..., M, 4) with every box of (..., N, 4).

    Args:
        boxes_1: (..., M, 4) ``xyxy``.
        boxes_2: (..., N, 4) ``xyxy``.
        period: (...) pixels in 360 degrees, a number, or None.
    """
    if isinstance(period, Tensor):
        period = period[..., None, None]
    return iou(boxes_1.unsqueeze(-2), boxes_2.unsqueeze(-3), period)


def encode(
    boxes: Tensor, references: Tensor, variances: Sequence[float], period: Tensor | float | None = None
) -> Tensor:
    """SSD offsets (..., 4) of boxes with regard to reference boxes, both ``cxcywh`` (..., 4) with positive sizes."""
    shift = boxes[..., :2] - references[..., :2]
    across = wrap_difference(shift[..., 0], period)
    center = torch.stack((across, shift[..., 1]), dim=-1) / references[..., 2:]
    size = torch.log(boxes[..., 2:] / references[..., 2:])
    return torch.cat((center, size), dim=-1) / boxes.new_tensor(variances)


def decode(offsets: Tensor, references: Tensor, variances: Sequence[float]) -> Tensor:
    """Boxes ``cxcywh`` (..., 4) from SSD offsets (..., 4) and reference boxes ``cxcywh``: the inverse of `encode`.

    Sizes stay between a 62.5th and 62.5 times the reference's, beyond which no gradient flows.
    """
    dx, dy, dw, dh = (part * variance for part, variance in zip(_columns(offsets), variances, strict=True))
    x, y, width, height = _columns(references)
    widening, heightening = (part.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp() for part in (dw, dh))
    return _from_columns(x + dx * width, y + dy * height, width * widening, height * heightening)
