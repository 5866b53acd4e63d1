"""Which detections hit which objects, by the rule of the VOC challenges.

Convention:
    Detections claim objects by falling score; equal scores keep their order of input. Each goes to the object of its
    own class and key (view, or pair and direction) that it overlaps most, the first on ties, difficult ones included.
    Below the threshold it is a false positive; on a difficult object it is neutral; on an object claimed before it is
    a false positive. Boxes are ``xyxy`` pixels. ``period`` is the number of pixels in 360 degrees, infinite for an
    ordinary image: overlap goes the short way around. Everything is computed in float64.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.detections import ViewDetections
from crossview.geometry.boxes import iou

NEUTRAL, TRUE_POSITIVE, FALSE_POSITIVE = 0, 1, 2

MOST_CANDIDATES = 2**18  # pairs of a detection and an object that are compared at once


class ViewObjects(Protocol):
    """The part of a batch's objects (..., G) with padding that scoring detections needs."""

    @property
    def boxes(self) -> Tensor:
        """(..., G, 4) ``xyxy`` pixels."""

    @property
    def labels(self) -> Tensor:
        """(..., G) int64, 1..C."""

    @property
    def difficult(self) -> Tensor:
        """(..., G) bool: neither a hit nor a miss counts."""

    @property
    def present(self) -> Tensor:
        """(..., G) bool, False on padding."""


class DetectionRows(NamedTuple):
    """Detections of all views in one list.

    Attributes:
        keys: (D,) int64, what the detection belongs to.
        labels: (D,) int64.
        scores: (D,).
        boxes: (D, 4).
    """

    keys: Tensor
    labels: Tensor
    scores: Tensor
    boxes: Tensor


class ObjectRows(NamedTuple):
    """Annotated objects of all views in one list.

    Attributes:
        keys: (G,) int64, what the object belongs to.
        labels: (G,) int64.
        boxes: (G, 4).
        difficult: (G,) bool.
    """

    keys: Tensor
    labels: Tensor
    boxes: Tensor
    difficult: Tensor


class Matches(NamedTuple):
    """What became of every detection.

    Attributes:
        flags: int64, `TRUE_POSITIVE`, `FALSE_POSITIVE` or `NEUTRAL` (also on padding).
        targets: int64, the object that it overlaps enough, -1 where there is none.
    """

    flags: Tensor
    targets: Tensor


def _group_numbers(detections: DetectionRows, objects: ObjectRows) -> tuple[Tensor, Tensor]:
    """One number for each (key, class), the same for detections (D,) and objects (G,)."""
    keys = torch.unique(torch.cat((detections.keys, objects.keys)), return_inverse=True)[1]
    values, labels = torch.unique(torch.cat((detections.labels, objects.labels)), return_inverse=True)
    groups = keys * len(values) + labels
    return groups[: len(detections.keys)], groups[len(detections.keys) :]


def _best_objects(detections: DetectionRows, objects: ObjectRows, period: Tensor) -> tuple[Tensor, Tensor]:
    """Largest overlap (D,) of each detection with an object of its class and key, and which object (D,), -1 if none."""
    group, object_group = _group_numbers(detections, objects)
    object_group, object_order = torch.sort(object_group, stable=True)
    start = torch.searchsorted(object_group, group)
    count = torch.searchsorted(object_group, group, right=True) - start
    # By coordinate: to pick single numbers is faster than to pick rows, and to work on columns than on rows.
    boxes, object_boxes = (rows.boxes.double().T.contiguous() for rows in (detections, objects))
    best = torch.full_like(period, -1.0)
    target = torch.full_like(start, -1)
    for part in _portions(count):
        # All objects of the first detection's group, of the second's, ...: one row for each detection and object.
        owner = torch.arange(len(part), device=part.device).repeat_interleave(count[part])
        row = part[owner]
        place = torch.arange(len(row), device=part.device)
        number = place - (count[part].cumsum(0) - count[part])[owner]
        candidate = object_order[start[row] + number]
        overlap = iou(_picked(boxes, row), _picked(object_boxes, candidate), period.index_select(0, row))
        overlap = overlap.nan_to_num_(nan=-1.0)
        largest = best[part].scatter_reduce(0, owner, overlap, "amax")
        is_largest = overlap == largest[owner]
        first = place.new_full((len(part),), len(row))
        first = first.scatter_reduce(0, owner[is_largest], place[is_largest], "amin")
        found = first < len(row)
        best[part], target[part[found]] = largest, candidate[first[found]]
    return best, target


def _picked(columns: Tensor, row: Tensor) -> Tensor:
    """Boxes (R, 4) of columns (4, N), which stay columns in memory."""
    return torch.stack([column.index_select(0, row) for column in columns]).T


def _portions(count: Tensor) -> Sequence[Tensor]:
    """Row numbers, so many at a time that their counts (D,) add up to about `MOST_CANDIDATES` at most."""
    if not len(count):
        return []
    portion = (count.cumsum(0) - count) // MOST_CANDIDATES
    sizes = torch.unique_consecutive(portion, return_counts=True)[1]
    return torch.split(torch.arange(len(count), device=count.device), sizes.tolist())


def match(
    detections: DetectionRows,
    objects: ObjectRows,
    iou_threshold: float = 0.5,
    period: Tensor | float | None = None,
) -> Matches:
    """Match detections with objects; the module's convention gives the rule.

    Args:
        detections: D detections, in any order.
        objects: G objects, in any order.
        iou_threshold: the least overlap of a hit; equality is enough.
        period: pixels in 360 degrees, one number or (D,); None means ordinary images.

    Returns:
        Flags (D,) and targets (D,): indices of ``objects``.
    """
    scores = detections.scores.double()
    spans = torch.as_tensor(float("inf") if period is None else period, dtype=scores.dtype, device=scores.device)
    overlap, target = _best_objects(detections, objects, spans.expand(scores.shape).contiguous())
    hit = overlap >= iou_threshold
    target = torch.where(hit, target, -1)
    flags = torch.where(hit, NEUTRAL, FALSE_POSITIVE)

    order = torch.sort(scores, descending=True, stable=True)[1]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    claims = hit.nonzero().squeeze(1)
    claims = claims[~objects.difficult[target[claims]]]
    first = rank.new_full(objects.labels.shape, len(rank)).scatter_reduce(0, target[claims], rank[claims], "amin")
    flags[claims] = torch.where(rank[claims] == first[target[claims]], TRUE_POSITIVE, FALSE_POSITIVE)
    return Matches(flags, target)


def match_views(
    detections: ViewDetections,
    objects: ViewObjects,
    iou_threshold: float = 0.5,
    period: Tensor | float | None = None,
) -> Matches:
    """Match the detections of each view with the objects of the same view.

    Args:
        detections: of views (...), D each with padding.
        objects: of the same views (...), G each with padding.
        iou_threshold: the least overlap of a hit; equality is enough.
        period: pixels in 360 degrees, broadcastable with (...); None means ordinary images.

    Returns:
        Flags (..., D), `NEUTRAL` on padding; targets (..., D): the number of the object in its view, -1 for none.
    """
    present, object_present = detections.present, objects.present
    view = torch.arange(present.shape[:-1].numel(), device=present.device).reshape(*present.shape[:-1], 1)
    rows = DetectionRows(
        view.expand(present.shape)[present],
        detections.labels[present],
        detections.scores[present],
        detections.boxes[present],
    )
    object_rows = ObjectRows(
        view.expand(object_present.shape)[object_present],
        objects.labels[object_present],
        objects.boxes[object_present],
        objects.difficult[object_present],
    )
    if period is not None:
        spans = torch.as_tensor(period, dtype=torch.float64, device=present.device)
        period = spans.expand(present.shape[:-1]).reshape(-1)[rows.keys]
    found = match(rows, object_rows, iou_threshold, period)

    number_in_view = torch.arange(object_present.shape[-1], device=present.device).expand(object_present.shape)
    # The one more at the end answers the target -1.
    numbers = functional.pad(number_in_view[object_present], (0, 1), value=-1)
    flags = torch.full(present.shape, NEUTRAL, device=present.device)
    targets = torch.full(present.shape, -1, device=present.device)
    flags[present] = found.flags
    targets[present] = numbers[found.targets]
    return Matches(flags, targets)
