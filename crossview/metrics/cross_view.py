"""How well detections of one view are placed in the other.

Convention:
    Arrays of a pair have the leading shape (B, 2). Seen in view i, placed in view j: index 0 is ``1_to_2``, index 1
    is ``2_to_1``. Each direction of each pair is scored by itself, against the boxes in view j of the objects
    annotated in both views; such an object is ignored if it is difficult in either. A placed detection of anything
    else is a false positive.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.detections import ViewDetections
from crossview.dual.identity import find_counterparts
from crossview.dual.placed import PlacedDetections
from crossview.geometry.boxes import wrap_difference
from crossview.metrics.average_precision import average_precision
from crossview.metrics.keyed import KeyedRows
from crossview.metrics.matching import TRUE_POSITIVE, ViewObjects, match_views


class IdentifiedObjects(ViewObjects, Protocol):
    """The part of a batch's objects (B, 2, G) that scoring placed detections needs."""

    @property
    def ids(self) -> Tensor:
        """(B, 2, G) int64."""

    @property
    def has_id(self) -> Tensor:
        """(B, 2, G) bool."""


class SharedObjects(NamedTuple):
    """The objects to find in view j of each direction, and who they are.

    Attributes:
        boxes: (B, 2, G, 4) of the objects of view j.
        labels: (B, 2, G) int64, of view j.
        difficult: (B, 2, G) bool, in either view.
        present: (B, 2, G) bool: annotated in both views.
        number: (B, 2, G) int64: for each object of view i its number in view j, -1 where it is not annotated there.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    present: Tensor
    number: Tensor


def shared_objects(objects: IdentifiedObjects) -> SharedObjects:
    """The objects of pairs (B, 2, G) that both views annotate, by direction."""
    has_id = objects.present & objects.has_id
    ids_j, has_id_j = objects.ids.flip(1), has_id.flip(1)
    number_in_j, _ = find_counterparts(objects.ids, has_id, ids_j, has_id_j)
    number_in_i, is_shared = find_counterparts(ids_j, has_id_j, objects.ids, has_id)
    difficult_in_i = take(objects.difficult, number_in_i, fill=False)
    return SharedObjects(
        objects.boxes.flip(1),
        objects.labels.flip(1),
        objects.difficult.flip(1) | difficult_in_i,
        is_shared,
        number_in_j,
    )


def take(values: Tensor, number: Tensor, fill: float) -> Tensor:
    """Values (..., D) of (..., G) by number (..., D), the filling where the number is -1."""
    padded = functional.pad(values, (0, 1), value=fill)
    return padded.gather(-1, torch.where(number < 0, values.shape[-1], number))


def _centers(boxes: Tensor) -> tuple[Tensor, Tensor]:
    center = (boxes[..., :2].double() + boxes[..., 2:].double()) / 2
    return center[..., 0], center[..., 1]


def _median(values: Tensor) -> Tensor:
    """Median () of values (N,), the mean of the middle two of an even number; nan of none."""
    if not len(values):
        return values.new_full((), float("nan"))
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


class CrossViewMetrics(KeyedRows):
    """Average precision of placed detections, and the error of their centres; each direction of each pair once.

    Args:
        iou_threshold: the least overlap of a hit.
        kwargs: those of `torchmetrics.Metric`.
    """

    def __init__(self, iou_threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(columns=5, **kwargs)
        self.iou_threshold = iou_threshold

    def update(
        self,
        pair_index: Tensor,
        detections: ViewDetections,
        placed: PlacedDetections,
        objects: IdentifiedObjects,
        period: Tensor | float | None = None,
        pixel_scale: Tensor | None = None,
    ) -> None:
        """Add pairs, also those without detections, objects or shared objects.

        Args:
            pair_index: (B,) int64, the number of each pair in its data set.
            detections: of the views (B, 2), D each with padding.
            placed: the same detections, placed in the other view; those without a valid place are left out.
            objects: of the views (B, 2), G each with padding.
            period: pixels in 360 degrees of each view, broadcastable with (B, 2), infinite or None for ordinary images.
            pixel_scale: panorama pixels per network pixel in x and y of each view, broadcastable with (B, 2, 2); None
            means 1.
        """
        views = detections.present.shape[:-1]
        device = pair_index.device
        spans = torch.as_tensor(float("inf") if period is None else period, dtype=torch.float64, device=device)
        spans = spans.expand(views)
        scale = torch.ones(2, device=device) if pixel_scale is None else pixel_scale.to(device)
        scale_j = scale.expand(*views, 2).flip(1)

        targets = shared_objects(objects)
        scores = detections.scores * placed.covisibility
        flags = [
            match_views(
                ViewDetections(boxes, scores, detections.labels, detections.present & valid),
                targets,
                self.iou_threshold,
                spans.flip(1),
            ).flags
            for boxes, valid in ((placed.boxes, placed.valid), (placed.geometry_boxes, placed.geometry_valid))
        ]

        # Which object each detection shows, and where that object is in the other view (nan: not there).
        seen = match_views(detections, objects, self.iou_threshold, spans)
        number_in_j = take(targets.number, torch.where(seen.flags == TRUE_POSITIVE, seen.targets, -1), fill=-1)
        true_x, true_y = (take(value, number_in_j, fill=float("nan")) for value in _centers(targets.boxes))
        x, y = _centers(placed.boxes)
        error_x = wrap_difference(x - true_x, spans.flip(1).unsqueeze(-1)) * scale_j[..., :1]
        error = torch.hypot(error_x, (y - true_y) * scale_j[..., 1:])
        error = torch.where(placed.valid, error, float("nan"))

        keys = 2 * pair_index.unsqueeze(-1) + torch.arange(2, device=device)
        rows = (detections.labels, scores, *flags, error)
        self.append(keys, rows, detections.present, targets.labels, targets.present & ~targets.difficult)

    def compute(self) -> dict[str, Tensor]:
        """All values are float64, and nan where there was nothing to score: then there is nothing to log.

        Returns:
            ``ap50`` of the placed boxes and ``geometry_ap50`` of those that geometry alone places, ranked by
            class score times co-visibility (all-points area, mean over classes, named by the threshold);
            ``center_px``, the median distance in panorama pixels between placed and annotated centre, of the true
            positives of detection that the other view annotates too and that have a valid place.
        """
        rows, object_labels = self.distinct()
        labels, scores, placed, geometry, error = rows.unbind(-1)
        name = f"ap{round(100 * self.iou_threshold)}"
        areas = {
            prefix + name: average_precision(labels.long(), scores, flags.long(), object_labels).voc10_area.mean()
            for prefix, flags in (("", placed), ("geometry_", geometry))
        }
        return {**areas, "center_px": _median(error[~error.isnan()])}
