"""The same detections matched and placed in several ways, from plain geometry to everything that this package has.

Convention:
    Detections below a score do not take part in matching, as most of them show nothing; they are placed and ranked all
    the same, without a match. A row gives every detection a box in the other view and a probability that the object is
    there: placed detections are ranked by class score times that probability.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.dual.match_score import PairView
from crossview.dual.matching import PairMatcher, PairMatches
from crossview.evaluation.records import Boxes, Scene, ViewRecord
from crossview.geometry.location import Location, locate_pairs, locate_single, place_at
from crossview.geometry.projection import project_boxes

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """What concerns detections rather than the matcher.

    Attributes:
        min_score: least class score of a detection that takes part in matching.
        recall: how likely an object that is in a view is detected there: the lower, the less it says that no match was
            found.
    """

    min_score: float = 0.2
    recall: float = 0.8

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: a value is no probability.
        """
        if not 0 <= self.min_score <= 1 or not 0 <= self.recall < 1:
            raise ValueError(f"{self}: expected 0 to 1, and a recall of less than 1")


class Matched(NamedTuple):
    """The two views of a scene after matching.

    Attributes:
        index_1: (M,) int64 detections of view 1.
        index_2: (M,) int64 detections of view 2.
        scores: (M,) float64 probability of each match.
        location: of the M objects.
        single: of all detections of each view by that view alone.
        detections: of both views, with their final places and the probability to be there as ``covisibility``.
        refined: whether the poses were refined.
        seconds: that matching and refining took.
    """

    index_1: Rows
    index_2: Rows
    scores: NDArray[np.float64]
    location: Location
    single: tuple[Location, Location]
    detections: tuple[Boxes, Boxes]
    refined: bool
    seconds: float


class Evidence(NamedTuple):
    """What a row's placing may use.

    Attributes:
        scene: with the detections.
        found: the matcher's answer, counted among all detections.
        location: of the matches.
        trusted: (M,) bool, which of those are likely enough to place boxes by.
    """

    scene: Scene
    found: PairMatches
    location: Location
    trusted: NDArray[np.bool_]


Placing = Callable[[Evidence, int], Boxes]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A way to match and to place.

    Attributes:
        name: in metrics and files.
        title: in reports.
        adapt: the matcher of this way out of the full one.
        place: the detections of a view with their boxes in the other view.
        by_match: whether the probability to be in the other view depends on whether a match was found.
        needs_embeddings: whether it says nothing without them.
    """

    name: str
    title: str
    adapt: Callable[[PairMatcher], PairMatcher]
    place: Placing
    by_match: bool
    needs_embeddings: bool = False


def _geometry_only(matcher: PairMatcher) -> PairMatcher:
    return replace(matcher, appearance_weight=0.0, covisibility_weight=0.0, detection_weight=0.0, refine=False)


def _appearance_only(matcher: PairMatcher) -> PairMatcher:
    # The price of a match is then that of detections of which nobody knows the place.
    return replace(
        matcher,
        no_match_price=matcher.unlocated_price,
        geometry_weight=0.0,
        covisibility_weight=0.0,
        detection_weight=0.0,
        refine=False,
    )


def _by_geometry(evidence: Evidence, view: int) -> Boxes:
    """Where flat ground and the stated poses put them."""
    boxes = evidence.scene.views[view].detections
    return boxes._replace(placed=boxes.geometry, placed_valid=boxes.geometry_valid)


def _by_network(evidence: Evidence, view: int) -> Boxes:
    """Where the network puts them, which knows the stated poses."""
    return evidence.scene.views[view].detections


def _by_match(evidence: Evidence, view: int) -> Boxes:
    """At the box that it was matched with; nowhere without a match."""
    boxes, other = (evidence.scene.views[number].detections for number in (view, 1 - view))
    own, its = indices(evidence.found, view)
    placed, valid = np.zeros_like(boxes.boxes), np.zeros(len(boxes.labels), bool)
    placed[own], valid[own] = other.boxes[its], True
    return boxes._replace(placed=placed, placed_valid=valid)


def _by_everything(evidence: Evidence, view: int) -> Boxes:
    """Where the network puts them, moved as the refined poses move geometry; matched ones at their common position.

    A box that the network places and geometry does not stays where it is.
    """
    boxes, found = evidence.scene.views[view].detections, evidence.found
    source, target = found.cameras[view], found.cameras[1 - view]
    rows = torch.from_numpy(boxes.boxes).double()
    projected, seen = project_boxes(source.per_object(), target.per_object(), rows)
    geometry, valid = projected.numpy(), seen.numpy()
    by_network = boxes.placed.astype(np.float64)
    period = evidence.scene.views[1 - view].period
    placed = _corrected_alike(geometry, boxes.geometry.astype(np.float64), by_network, period)
    placed = np.where((boxes.placed_valid & boxes.geometry_valid & valid)[:, None], placed, geometry)
    alone = boxes.placed_valid & ~boxes.geometry_valid
    placed, valid = np.where(alone[:, None], by_network, placed), valid | alone
    own, _ = indices(found, view)
    used = evidence.location.valid & evidence.trusted
    own, position = own[used], evidence.location.east_north[used]
    at_position, exists = place_at(source, target, boxes.boxes[own], position)
    placed[own[exists]], valid[own[exists]] = at_position[exists], True
    return boxes._replace(placed=placed.astype(np.float32), placed_valid=valid)


def _corrected_alike(
    boxes: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64], period: float
) -> np.ndarray:
    """Boxes (K, 4) changed as others (K, 4) were, the short way around: the same shift in sizes, the same growth."""
    size, size_before, size_after = (value[:, 2:] - value[:, :2] for value in (boxes, before, after))
    shift = ((after - before)[:, :2] + (after - before)[:, 2:]) / 2
    shift[:, 0] -= period * np.round(shift[:, 0] / period)
    shift *= size / size_before
    growth = (size_after / size_before - 1) * size / 2
    return np.asarray(boxes + np.concatenate((shift - growth, shift + growth), axis=1))


BASELINES = (
    Baseline("geometry", "pure geometry", _geometry_only, _by_geometry, by_match=False),
    Baseline("appearance", "appearance only", _appearance_only, _by_match, by_match=True, needs_embeddings=True),
    Baseline(
        "unrefined",
        "geometry and appearance, unrefined",
        lambda matcher: replace(matcher, refine=False),
        _by_network,
        by_match=True,
    ),
    Baseline("everything", "everything", lambda matcher: matcher, _by_everything, by_match=True),
)


def match_scene(scene: Scene, baseline: Baseline, matcher: PairMatcher, settings: MatchSettings) -> Matched:
    """Matches a pair's detections and places them in the other view.

    Args:
        scene: of two views.
        baseline: the way to do it.
        matcher: the full one.
        settings: of the detections.
    """
    used = [np.flatnonzero(view.detections.scores >= settings.min_score) for view in scene.views]
    views = [pair_view(view, rows) for view, rows in zip(scene.views, used, strict=True)]
    own = baseline.adapt(matcher)
    start = time.perf_counter()
    found = own(*views)
    seconds = time.perf_counter() - start
    ground = [points.as_normal(own.freedom) for points in found.ground]
    location = locate_pairs(
        ground[0].take(found.index_1),
        ground[1].take(found.index_2),
        found.pose.covariance,
        own.hidden_foot_probability,
    )
    found = found._replace(index_1=used[0][found.index_1], index_2=used[1][found.index_2])
    evidence = Evidence(scene, found, location, found.scores >= own.score_threshold)
    placed = [baseline.place(evidence, view) for view in range(2)]
    if baseline.by_match:
        placed = [
            boxes._replace(covisibility=presence(boxes.covisibility, indices(found, view)[0], found.scores, settings))
            for view, boxes in enumerate(placed)
        ]
    singles = [
        _spread(locate_single(points, found.pose.covariance[part, part], own.hidden_foot_probability), rows, view)
        for points, rows, view, part in zip(ground, used, scene.views, (slice(0, 3), slice(3, 6)), strict=True)
    ]
    return Matched(
        found.index_1,
        found.index_2,
        found.scores,
        location,
        (singles[0], singles[1]),
        (placed[0], placed[1]),
        found.pose.refined,
        seconds,
    )


def presence(
    covisibility: NDArray[np.float32], matched: Rows, probability: NDArray[np.float64], settings: MatchSettings
) -> NDArray[np.float32]:
    """Probability (K,) that an object is in the other view, after looking for it there.

    Bayes' rule: a detection without a match is there and was missed, or is not there. A match that is right proves that
    it is there, one that is wrong says as much as none.

    Args:
        covisibility: (K,) before looking, NaN where nobody says it (then it counts as one half).
        matched: (M,) the detections with a match.
        probability: (M,) that the match is right.
        settings: with the detector's recall.
    """
    before = np.where(np.isnan(covisibility), 0.5, covisibility).astype(np.float64)
    missed = before * (1 - settings.recall)
    after = missed / np.maximum(missed + 1 - before, 1e-12)
    after[matched] = probability + (1 - probability) * after[matched]
    return after.astype(np.float32)


def pair_view(view: ViewRecord, rows: Sequence[int] | Rows) -> PairView:
    """Some detections of a view, as the matcher takes them."""
    boxes = view.detections.take(np.asarray(rows, np.int64))
    unknown = bool(np.isnan(boxes.covisibility).any())
    vectors = None if boxes.embeddings is None else boxes.embeddings.astype(np.float64)
    assert view.camera is not None, "a view by itself has nothing to be matched with"
    return PairView(
        view.camera,
        boxes.boxes.astype(np.float64),
        boxes.labels,
        boxes.scores.astype(np.float64),
        None if unknown else boxes.covisibility.astype(np.float64),
        vectors,
    )


def indices(found: PairMatches | Matched, view: int) -> tuple[Rows, Rows]:
    """The matches' detections in a view and in the other."""
    return (found.index_1, found.index_2) if view == 0 else (found.index_2, found.index_1)


def _spread(location: Location, rows: Rows, view: ViewRecord) -> Location:
    """Positions of some detections (rows) as positions of all; the others are not valid."""
    count = len(view.detections.labels)
    spread = Location(np.zeros((count, 2)), np.tile(np.eye(2), (count, 1, 1)), np.zeros(count, bool))
    for whole, part in zip(spread, location, strict=True):
        whole[rows] = part
    return spread
