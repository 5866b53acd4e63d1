"""COCO's mean average precision over overlaps of 0.5 to 0.95, by the rules of its own evaluation.

Convention:
    In each view and class the best `MOST` detections choose objects by falling score, at every threshold by itself:
    each takes the one that it overlaps most of those not taken before, the last on ties. If there is none, it may show
    a difficult object, which is what COCO calls a crowd: overlap is then the share of the detection that lies within,
    any number of detections may lie there, and neither a hit nor a miss counts. Overlap does not go around the seam.
    Precision is read at the 101 recalls 0, 0.01, ... 1, 0 where the recall is never reached, and the mean goes over
    thresholds, recalls and the classes that have objects.

COCO's code (Lin et al. 2014, "Microsoft COCO") looks at views one by one and holds everything about every box, which
torchmetrics takes 8 GB for with 100,000 views of 20 boxes. Here all views of a batch choose together, and of a
detection three numbers are kept.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.detections import ViewDetections
from crossview.metrics.average_precision import envelope
from crossview.metrics.keyed import KeyedRows
from crossview.metrics.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE, ViewObjects

MOST = 100  # detections of a class that count in a view
# By NumPy, as COCO has them: whether a recall of 0.07 is reached depends on the last bit.
THRESHOLDS = torch.from_numpy(np.linspace(0.5, 0.95, 10))
RECALLS = torch.from_numpy(np.linspace(0.0, 1.0, 101))
_FLAGS = 3  # values of a flag
_PREFERRED = 2.0  # more than any overlap


class CocoAP(KeyedRows):
    """COCO's mean average precision, each distinct view once.

    Args:
        kwargs: those of `torchmetrics.Metric`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(columns=3, **kwargs)

    def update(self, keys: Tensor, detections: ViewDetections, objects: ViewObjects) -> None:
        """Add views, also those without detections or objects.

        Args:
            keys: (...) int64, the number of each view in its data set.
            detections: of the views (...), D each with padding.
            objects: of the views (...), G each with padding.
        """
        flags, counts = coco_flags(detections, objects)
        packed = (flags * _places(flags)).sum(-1)  # one number instead of ten
        rows = (detections.labels, detections.scores, packed)
        self.append(keys, rows, counts, objects.labels, objects.present & ~objects.difficult)

    def compute(self) -> dict[str, Tensor]:
        """``coco_map`` () float64 in 0..1, nan if no view has an object that counts."""
        rows, object_labels = self.distinct()
        labels, scores, packed = rows.unbind(-1)
        order = torch.sort(scores, descending=True, stable=True)[1]
        labels, packed = labels[order], packed[order].long()
        classes, counts = torch.unique(object_labels, return_counts=True)
        # One threshold after the other: all at once would take more memory than the detections themselves.
        means = [
            coco_precision(own // place % _FLAGS, count)
            for label, count in zip(classes.tolist(), counts.tolist(), strict=True)
            for own in (packed[labels == label],)
            for place in _places(packed)
        ]
        return {"coco_map": torch.stack(means).mean() if means else rows.new_full((), float("nan"))}


def _places(like: Tensor) -> Tensor:
    """What a flag of each threshold (T,) is multiplied with in a packed number."""
    return _FLAGS ** torch.arange(len(THRESHOLDS), device=like.device)


def coco_flags(detections: ViewDetections, objects: ViewObjects) -> tuple[Tensor, Tensor]:
    """What becomes of the detections of views at every threshold.

    Args:
        detections: of views (...), D each with padding.
        objects: of the same views (...), G each with padding.

    Returns:
        Flags (..., D, T) of `crossview.metrics.matching`, and (..., D) bool which detections count: padding and those
        after the best `MOST` of a class do not.
    """
    views = detections.present.shape[:-1]
    found = ViewDetections(*(field.flatten(0, len(views) - 1) for field in detections))
    overlap, regular = _overlaps(found, objects)
    thresholds = THRESHOLDS.to(overlap.device).clamp(max=1 - 1e-10)[:, None]
    order = torch.sort(torch.where(found.present, found.scores, -torch.inf), descending=True, stable=True)[1]

    device, (n_views, n_detections) = order.device, order.shape
    flags = torch.full((n_views, n_detections, len(thresholds)), NEUTRAL, device=device)
    counts = torch.zeros(n_views, n_detections, dtype=torch.bool, device=device)
    taken = torch.zeros(n_views, len(thresholds), overlap.shape[-1], dtype=torch.bool, device=device)
    n_classes = 1 + max([0, *torch.unique(found.labels).tolist()])
    of_class = torch.zeros(n_views, n_classes, dtype=torch.int64, device=device)
    view, threshold = torch.arange(n_views, device=device), torch.arange(len(thresholds), device=device)
    # The next detection of every view at once.
    for own in order.T:
        own_class = found.labels[view, own]
        counts[view, own] = found.present[view, own] & (of_class[view, own_class] < MOST)
        of_class[view, own_class] += 1
        near = overlap[view, own].unsqueeze(1)
        wish = torch.where((near >= thresholds) & ~taken, near + _PREFERRED * regular.unsqueeze(1), -1.0)
        value, choice = wish.max(dim=-1)
        hit = value >= _PREFERRED
        flags[view, own] = torch.where(hit, TRUE_POSITIVE, torch.where(value < 0, FALSE_POSITIVE, NEUTRAL))
        taken[view[:, None], threshold, choice] |= hit & counts[view, own].unsqueeze(1)
    return torch.unflatten(flags, 0, views), torch.unflatten(counts, 0, views)


def _overlaps(detections: ViewDetections, objects: ViewObjects) -> tuple[Tensor, Tensor]:
    """Overlap (V, D, G) of detections (V, D) with objects, and which objects (V, G) are regular, not difficult.

    It is -1 with objects of other classes and padding. Objects are in reverse order, so that the last of the largest
    comes first; there is at least one, if only padding.
    """
    boxes, labels, difficult, present = (
        _one_more(field.flatten(0, objects.present.dim() - 2)).flip(1)
        for field in (objects.boxes.double(), objects.labels, objects.difficult, objects.present)
    )
    x1, y1, x2, y2 = detections.boxes.double().unsqueeze(2).unbind(-1)
    u1, v1, u2, v2 = boxes.unsqueeze(1).unbind(-1)
    shared = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    shared = shared * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)
    own = (x2 - x1) * (y2 - y1)
    union = own + (u2 - u1) * (v2 - v1) - shared
    overlap = shared / torch.where(difficult.unsqueeze(1), own, union).clamp(min=torch.finfo(torch.float64).tiny)
    same = (detections.labels.unsqueeze(2) == labels.unsqueeze(1)) & present.unsqueeze(1)
    return torch.where(same, overlap, -1.0), ~difficult


def _one_more(rows: Tensor) -> Tensor:
    """Rows (V, N, ...) and one of zeros for each view."""
    return torch.cat((rows, rows.new_zeros(len(rows), 1, *rows.shape[2:])), dim=1)


def coco_precision(flags: Tensor, n_objects: int) -> Tensor:
    """Mean precision () over recalls of one class at one threshold.

    Args:
        flags: (D,) by falling score.
        n_objects: the objects that count, at least one.
    """
    hits = (flags == TRUE_POSITIVE).cumsum(0).double()
    counted = (flags != NEUTRAL).cumsum(0).double()
    best = envelope(hits / counted.clamp(min=1))
    reached = torch.searchsorted(hits / n_objects, RECALLS.to(flags.device))
    return functional.pad(best, (0, 1))[reached].mean()
