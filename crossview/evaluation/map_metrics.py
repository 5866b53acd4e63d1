"""How good a map is: which objects are on it, and where.

Convention:
    An object of the map shows the annotated identity that most of its sightings hit (IoU 0.5, the same class). Of
    several that show the same one that with the most views is right, the others are wrong, as are those that hit
    nothing.
    Identities that are difficult in every view, and annotated objects without one, do not count.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.evaluation.objects import MappedObject, Sighting
from crossview.evaluation.records import Scene, ViewRecord
from crossview.geometry.boxes import pairwise_iou
from crossview.geometry.frames import to_latlng, to_local

IOU = 0.5


def map_metrics(objects: Sequence[MappedObject], scenes: Iterable[Scene]) -> dict[str, float]:
    """Metrics of a map by name.

    Args:
        objects: of the map.
        scenes: that it was made from.

    Returns:
        ``map/precision``: share of the objects that are right, of those that count. ``map/recall``: share of the
        identities that count which are on the map. ``map/median_m``: median distance of the right objects from their
        annotated positions. NaN where there is nothing to measure.
    """
    surest = sorted(objects, key=lambda each: (-len(each.sightings), -max(s.score for s in each.sightings)))
    hits: list[Counter[int | None]] = [Counter() for _ in surest]  # None: an annotated object without identity
    by_view: dict[int, list[tuple[int, Sighting]]] = {}
    for row, each in enumerate(surest):
        for sighting in each.sightings:
            by_view.setdefault(sighting.view, []).append((row, sighting))
    counted: set[int] = set()
    places: dict[int, NDArray[np.float64]] = {}
    for scene in scenes:
        for view in scene.views:
            truth = view.truth
            counted.update(truth.ids[truth.has_id & ~truth.difficult].tolist())
            known = truth.has_id & truth.has_location
            places |= zip(truth.ids[known].tolist(), to_latlng(truth.location[known], scene.origin), strict=True)
            _add_hits(hits, view, by_view.pop(view.number, []))
    return _counts(surest, hits, counted, places)


def _add_hits(hits: Sequence[Counter[int | None]], view: ViewRecord, seen: Sequence[tuple[int, Sighting]]) -> None:
    """Adds what the sightings in a view hit to the hits of their objects (rows)."""
    if not seen or not len(view.objects.labels):
        return
    scale = np.tile(np.array(view.pixel_scale, np.float32), 2)
    overlap = pairwise_iou(
        torch.from_numpy(np.stack([sighting.box for _, sighting in seen])),
        torch.from_numpy(view.objects.boxes * scale),
        view.period * view.pixel_scale[0],
    ).numpy()
    overlap[np.array([sighting.label for _, sighting in seen])[:, None] != view.objects.labels] = 0.0
    for (row, _), best, most in zip(seen, overlap.argmax(axis=1), overlap.max(axis=1), strict=True):
        if most >= IOU:
            hits[row][int(view.truth.ids[best]) if view.truth.has_id[best] else None] += 1


def _counts(
    objects: Sequence[MappedObject],
    hits: Sequence[Counter[int | None]],
    counted: set[int],
    places: dict[int, NDArray[np.float64]],
) -> dict[str, float]:
    """The metrics, given what the objects hit, the surest first."""
    found: set[int] = set()
    errors: list[float] = []
    relevant = 0
    for each, its in zip(objects, hits, strict=True):
        shown = its.most_common(1)[0][0] if its else None
        if its and shown not in counted:
            continue
        relevant += 1
        if shown is None or shown in found:
            continue
        found.add(shown)
        if shown in places:
            errors.append(float(np.linalg.norm(to_local(each.latlng, places[shown]))))
    return {
        "map/precision": len(found) / relevant if relevant else np.nan,
        "map/recall": len(found) / len(counted) if counted else np.nan,
        "map/median_m": float(np.median(errors)) if errors else np.nan,
    }
