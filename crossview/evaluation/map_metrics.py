"""How good a map is: which of its objects are right, and how near to where they should be.

Convention:
    An object of the map shows the annotated identity that most of its sightings hit (IoU 0.5, the object's own class).
    Of several that show the same one that with the most views is right, the others are wrong, as are those that hit
    nothing. Identities that are difficult in every view, and annotated objects without one, do not count.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.evaluation.objects import MappedObjects, Rows
from crossview.evaluation.records import Scene, ViewRecord
from crossview.geometry.boxes import pairwise_iou
from crossview.geometry.frames import to_latlng, to_local

IOU = 0.5


class _Truth(NamedTuple):
    """What is annotated, and what the sightings of the map hit.

    Attributes:
        counted: identities that are not difficult in every view.
        places: latitude and longitude of identities, as far as they are known.
        is_hit: (S,) bool, whether a sighting hits an annotated object.
        named: (S,) bool, whether that has an identity.
        identity: (S,) int64, meaningless where it is not `named`.
    """

    counted: set[int]
    places: dict[int, list[float]]
    is_hit: NDArray[np.bool_]
    named: NDArray[np.bool_]
    identity: Rows


class JudgedMap(NamedTuple):
    """Which objects of a map are right.

    Attributes:
        right: (K,) bool.
        wrong: (K,) bool; what is neither does not count, and nothing does where no identity is annotated.
        identity: (K,) int64 annotated identity of the right ones, meaningless for the others.
        counted: identities that should be on the map.
        places: latitude and longitude of annotated identities, as far as they are known.
    """

    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    identity: Rows
    counted: set[int]
    places: dict[int, list[float]]


def judge(objects: MappedObjects, scenes: Iterable[Scene]) -> JudgedMap:
    """Compares a map with what is annotated.

    Args:
        objects: of the map.
        scenes: that it was made from.
    """
    truth = _truth(objects, scenes)
    count = len(objects.label)
    judged = JudgedMap(
        np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int64), truth.counted, truth.places
    )
    if not truth.counted:
        return judged
    found: set[int] = set()
    ends = objects.ends()
    for number in np.lexsort((-objects.best_scores(), -objects.counts)).tolist():
        rows = slice(int(ends[number] - objects.counts[number]), int(ends[number]))
        shown = Counter(truth.identity[rows][truth.named[rows]].tolist()).most_common(1)
        if shown and shown[0][0] in truth.counted:
            judged.identity[number] = shown[0][0]
            judged.right[number] = shown[0][0] not in found
            judged.wrong[number] = not judged.right[number]
            found.add(shown[0][0])
        else:
            judged.wrong[number] = not truth.is_hit[rows].any()
    return judged


def map_metrics(objects: MappedObjects, judged: JudgedMap) -> dict[str, float]:
    """Metrics of a map by name.

    Args:
        objects: of the map.
        judged: which of them are right.

    Returns:
        ``map/precision``: share of the objects that are right, of those that count. ``map/recall``: share of the
        identities that count which are on the map. ``map/median_m``: median distance of the right objects from their
        annotated positions. NaN where there is nothing to measure.
    """
    right = np.flatnonzero(judged.right)
    relevant = len(right) + int(judged.wrong.sum())
    located = [number for number in right.tolist() if int(judged.identity[number]) in judged.places]
    gaps = to_local(
        objects.latlng[located],
        np.array([judged.places[int(judged.identity[number])] for number in located]).reshape(-1, 2),
    )
    return {
        "map/precision": len(right) / relevant if relevant else np.nan,
        "map/recall": len(right) / len(judged.counted) if judged.counted else np.nan,
        "map/median_m": float(np.median(np.linalg.norm(gaps, axis=1))) if located else np.nan,
    }


def _truth(objects: MappedObjects, scenes: Iterable[Scene]) -> _Truth:
    count = len(objects.sightings.view)
    truth = _Truth(set(), {}, np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int64))
    labels = objects.label.repeat(objects.counts)
    by_view = np.argsort(objects.sightings.view, kind="stable")
    views = objects.sightings.view[by_view]
    seen: set[int] = set()
    for scene in scenes:
        for view in scene.views:
            if view.number in seen:  # in another pair, with the same annotations
                continue
            seen.add(view.number)
            own = view.truth
            truth.counted.update(own.ids[own.has_id & ~own.difficult].tolist())
            known = own.has_id & own.has_location
            latlng = to_latlng(own.location[known], scene.origin)
            truth.places.update(zip(own.ids[known].tolist(), latlng.tolist(), strict=True))
            first, last = np.searchsorted(views, view.number), np.searchsorted(views, view.number, side="right")
            rows, targets = _hits(objects, labels, by_view[first:last], view)
            truth.is_hit[rows] = True
            truth.named[rows], truth.identity[rows] = own.has_id[targets], own.ids[targets]
    return truth


def _hits(objects: MappedObjects, labels: Rows, rows: Rows, view: ViewRecord) -> tuple[Rows, Rows]:
    """Those of a view's sightings (rows), of objects with classes (S,), that hit an annotated one, and which one."""
    if not len(rows) or not len(view.objects.labels):
        return rows[:0], rows[:0]
    overlap = pairwise_iou(
        torch.from_numpy(objects.sightings.box[rows]),
        torch.from_numpy(view.in_image(view.objects.boxes)),
        view.period * view.pixel_scale[0],
    ).numpy()
    overlap[labels[rows, None] != view.objects.labels] = 0.0
    best = overlap.argmax(axis=1)
    hit = overlap[np.arange(len(rows)), best] >= IOU
    return rows[hit], best[hit]
