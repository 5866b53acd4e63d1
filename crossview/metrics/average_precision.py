"""Average precision as published by the VOC challenges, from matched detections.

Convention:
    Flags are those of `crossview.metrics.matching`; neutral detections are left out of the ranking. Detections are
    ranked by falling score, equal scores in their order of input. The average precision of a class without
    (non-difficult) objects is undefined: nan. Means go over the classes that have objects, and are nan if none has.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.detections import ViewDetections
from crossview.metrics.keyed import KeyedRows
from crossview.metrics.matching import NEUTRAL, TRUE_POSITIVE, ViewObjects, match_views


class AveragePrecision(NamedTuple):
    """Average precision of the classes that have objects.

    Attributes:
        labels: (C,) int64 classes, rising.
        n_objects: (C,) int64 objects that count.
        voc10_area: (C,) float64, see `voc10_area`.
        voc07_ap11: (C,) float64, see `voc07_ap11`.
    """

    labels: Tensor
    n_objects: Tensor
    voc10_area: Tensor
    voc07_ap11: Tensor


def _hits_and_envelope(flags: Tensor) -> tuple[Tensor, Tensor]:
    """True positives so far (R,) int64 and the best precision from here on (R,) float64, of the R ranked detections."""
    counted = flags[flags != NEUTRAL]
    hits = (counted == TRUE_POSITIVE).cumsum(0)
    precision = hits.double() / torch.arange(1, len(counted) + 1, device=flags.device)
    return hits, envelope(precision)


def envelope(precision: Tensor) -> Tensor:
    """The best precision (..., R) at each of R ranks or a later one."""
    if not precision.shape[-1]:
        return precision
    return precision.flip(-1).cummax(-1).values.flip(-1)


def voc10_area(flags: Tensor, n_objects: int) -> Tensor:
    """Area under the precision-recall curve at all points, the rule of VOC 2010 and later.

    Precision is first made monotone: at each recall the best precision at that recall or a higher one.

    Args:
        flags: (D,) int64 by falling score.
        n_objects: the objects that count.

    Returns:
        () float64 in 0..1; nan without objects.
    """
    if n_objects == 0:
        return torch.full((), float("nan"), dtype=torch.float64, device=flags.device)
    _, best = _hits_and_envelope(flags)
    is_hit = flags[flags != NEUTRAL] == TRUE_POSITIVE
    return best[is_hit].sum() / n_objects  # every hit raises recall by one step of 1 / n_objects


def voc07_ap11(flags: Tensor, n_objects: int) -> Tensor:
    """Mean of the best precision at recall 0, 0.1, ... 1 or higher, the rule of VOC 2007.

    Recall is compared as fractions of integers: in floating point 0.3, 0.6 and 0.7 come out one bit too large, and a
    recall of exactly 3/10 would miss its point.

    Args:
        flags: (D,) int64 by falling score.
        n_objects: the objects that count.

    Returns:
        () float64 in 0..1; nan without objects.
    """
    if n_objects == 0:
        return torch.full((), float("nan"), dtype=torch.float64, device=flags.device)
    hits, best = _hits_and_envelope(flags)
    # The fewest hits with hits * 10 >= k * n_objects.
    needed = (torch.arange(11, device=flags.device) * n_objects + 9) // 10
    reached = torch.searchsorted(hits, needed)
    return functional.pad(best, (0, 1))[reached].sum() / 11  # a recall never reached has precision 0


def average_precision(labels: Tensor, scores: Tensor, flags: Tensor, object_labels: Tensor) -> AveragePrecision:
    """Average precision of every class that has objects.

    Args:
        labels: (D,) int64 classes of the detections, in any order.
        scores: (D,) what they are ranked by.
        flags: (D,) int64 from matching with the same scores.
        object_labels: (G,) int64 classes of the objects that count (not the difficult ones).
    """
    order = torch.sort(scores, descending=True, stable=True)[1]
    labels, flags = labels[order], flags[order]
    classes, n_objects = torch.unique(object_labels, return_counts=True)
    areas, eleven = torch.zeros(2, len(classes), dtype=torch.float64, device=flags.device)
    for row, (label, count) in enumerate(zip(classes.tolist(), n_objects.tolist(), strict=True)):
        of_class = flags[labels == label]
        areas[row] = voc10_area(of_class, count)
        eleven[row] = voc07_ap11(of_class, count)
    return AveragePrecision(classes, n_objects, areas, eleven)


class DetectionAP(KeyedRows):
    """VOC average precision, each distinct view once, difficult objects ignored.

    Args:
        iou_threshold: the least overlap of a hit.
        kwargs: those of `torchmetrics.Metric`.
    """

    def __init__(self, iou_threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(columns=3, **kwargs)
        self.iou_threshold = iou_threshold

    def update(
        self,
        keys: Tensor,
        detections: ViewDetections,
        objects: ViewObjects,
        period: Tensor | float | None = None,
    ) -> None:
        """Add views, also those without detections or objects.

        Args:
            keys: (...) int64, the number of each view in its data set.
            detections: of the views (...), D each with padding.
            objects: of the views (...), G each with padding.
            period: pixels in 360 degrees, broadcastable with (...), infinite or None for ordinary images.
        """
        flags = match_views(detections, objects, self.iou_threshold, period).flags
        rows = (detections.labels, detections.scores, flags)
        self.append(keys, rows, detections.present, objects.labels, objects.present & ~objects.difficult)

    def compute(self) -> dict[str, Tensor]:
        """Means over classes: ``ap50`` (all-points area, named by the threshold) and ``voc07_ap`` (11 points).

        Both are float64 in 0..1, and nan if no view has an object that counts: then there is nothing to log.
        """
        rows, object_labels = self.distinct()
        labels, scores, flags = rows.unbind(-1)
        result = average_precision(labels.long(), scores, flags.long(), object_labels)
        return {
            f"ap{round(100 * self.iou_threshold)}": result.voc10_area.mean(),
            "voc07_ap": result.voc07_ap11.mean(),
        }
