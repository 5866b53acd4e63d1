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
from numpy.typing import NDArray

from crossview.dual.match_score import PairView
from crossview.dual.matching import PairMatcher, PairMatches
from crossview.evaluation.placing import (
    MatchedScene,
    Placing,
    Rows,
    by_everything,
    by_geometry,
    by_match,
    by_network,
    indices,
)
from crossview.evaluation.records import Boxes, Scene, ViewRecord
from crossview.geometry.ground import GroundPoints
from crossview.geometry.location import Location, locate_pairs, locate_single


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
        detections: of both views, with their final places and the probability to be there as ``covisibility``; without
            embeddings, which have served their purpose.
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


@dataclass(frozen=True, slots=True)
class Baseline:
    """A way to match and to place.

    Attributes:
        name: in metrics and files.
        title: in reports.
        adapt: the matcher of this way out of the full one.
        place: the detections of a view with their boxes in the other view, of many pairs at once.
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


def _unrefined(matcher: PairMatcher) -> PairMatcher:
    return replace(matcher, refine=False)


def _unchanged(matcher: PairMatcher) -> PairMatcher:
    return matcher


BASELINES = (
    Baseline("geometry", "pure geometry", _geometry_only, by_geometry, by_match=False),
    Baseline("appearance", "appearance only", _appearance_only, by_match, by_match=True, needs_embeddings=True),
    Baseline("unrefined", "geometry and appearance, unrefined", _unrefined, by_network, by_match=True),
    Baseline("everything", "everything", _unchanged, by_everything, by_match=True),
)


def match_scenes(
    scenes: Sequence[Scene], baseline: Baseline, matcher: PairMatcher, settings: MatchSettings
) -> list[Matched]:
    """Matches the detections of pairs and places them in the other view.

    Args:
        scenes: of two views each; a hundred take little more than one, apart from the matching itself.
        baseline: the way to do it.
        matcher: the full one.
        settings: of the detections.
    """
    if not scenes:
        return []
    own = baseline.adapt(matcher)
    used = [[np.flatnonzero(view.detections.scores >= settings.min_score) for view in scene.views] for scene in scenes]
    pairs, seconds = _found(scenes, used, own)
    locations = _locations(pairs, own)
    singles = [_single_locations(pairs, own, view) for view in range(2)]
    matched_scenes = [
        MatchedScene(
            scene,
            found._replace(index_1=rows[0][found.index_1], index_2=rows[1][found.index_2]),
            location,
            found.scores >= own.score_threshold,
        )
        for scene, found, rows, location in zip(scenes, pairs, used, locations, strict=True)
    ]
    placed = [baseline.place(matched_scenes, view) for view in range(2)]
    if baseline.by_match:
        placed = [
            [
                boxes._replace(covisibility=presence(boxes.covisibility, *_matches(one.found, view), settings))
                for boxes, one in zip(its, matched_scenes, strict=True)
            ]
            for view, its in enumerate(placed)
        ]
    return [
        Matched(
            one.found.index_1,
            one.found.index_2,
            one.found.scores,
            one.location,
            (
                _spread(singles[0][number], used[number][0], one.scene.views[0]),
                _spread(singles[1][number], used[number][1], one.scene.views[1]),
            ),
            (placed[0][number]._replace(embeddings=None), placed[1][number]._replace(embeddings=None)),
            one.found.pose.refined,
            seconds[number],
        )
        for number, one in enumerate(matched_scenes)
    ]


def _found(
    scenes: Sequence[Scene], used: Sequence[Sequence[Rows]], matcher: PairMatcher
) -> tuple[list[PairMatches], list[float]]:
    """What the matcher finds among the detections (rows) of both views of each pair, and the seconds it takes."""
    start = time.perf_counter()
    views = [
        pair_view(view, own)
        for scene, rows in zip(scenes, used, strict=True)
        for view, own in zip(scene.views, rows, strict=True)
    ]
    ground = matcher.ground_points(views)
    together = (time.perf_counter() - start) / len(scenes)
    pairs, seconds = [], []
    for first in range(0, len(views), 2):
        start = time.perf_counter()
        pairs.append(matcher.match(views[first], views[first + 1], ground[first], ground[first + 1]))
        seconds.append(together + time.perf_counter() - start)
    return pairs, seconds


def _matches(found: PairMatches, view: int) -> tuple[Rows, NDArray[np.float64]]:
    """The detections of a view that have a match, and how likely each is right."""
    return indices(found, view)[0], found.scores


def _locations(pairs: Sequence[PairMatches], matcher: PairMatcher) -> list[Location]:
    """Positions of the matches of each pair."""
    ground = [
        GroundPoints.joined([found.ground[view].take(indices(found, view)[0]) for found in pairs]) for view in range(2)
    ]
    counts = [len(found.index_1) for found in pairs]
    poses = np.repeat([found.pose.covariance for found in pairs], counts, axis=0)
    return locate_pairs(
        ground[0].as_normal(matcher.freedom),
        ground[1].as_normal(matcher.freedom),
        poses,
        matcher.hidden_foot_probability,
    ).split(counts)


def _single_locations(pairs: Sequence[PairMatches], matcher: PairMatcher, view: int) -> list[Location]:
    """Positions of the detections of one view of each pair, by that view alone."""
    part = slice(3 * view, 3 * view + 3)
    counts = [len(found.ground[view].bearing) for found in pairs]
    poses = np.repeat([found.pose.covariance[part, part] for found in pairs], counts, axis=0)
    ground = GroundPoints.joined([found.ground[view] for found in pairs]).as_normal(matcher.freedom)
    return locate_single(ground, poses, matcher.hidden_foot_probability).split(counts)


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


def _spread(location: Location, rows: Rows, view: ViewRecord) -> Location:
    """Positions of some detections (rows) as positions of all; the others are not valid."""
    count = len(view.detections.labels)
    spread = Location(np.zeros((count, 2)), np.tile(np.eye(2), (count, 1, 1)), np.zeros(count, bool))
    for whole, part in zip(spread, location, strict=True):
        whole[rows] = part
    return spread
