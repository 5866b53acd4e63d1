"""The objects of all pairs, each once: what several pairs and views say of the same one, put together.

Convention:
    A sighting is a detection in one view, in however many pairs the view is. Sightings are of one object if a chain of
    matches connects them, the likeliest matches first, or if what they are connected to stands at the same place, the
    nearest first; two of the same view never are. A sighting by itself is an object, too.
    Positions are latitude and longitude in degrees, covariances (2, 2) square metres of (east, north).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from crossview.evaluation.baselines import Matched
from crossview.evaluation.outcomes import PairOutcome
from crossview.evaluation.records import Scene, ViewRecord
from crossview.geometry.boxes import pairwise_iou
from crossview.geometry.frames import to_latlng, to_local
from crossview.geometry.location import confidence_square
from crossview.metrics.geolocation import squared_errors_in_sigmas

Rows = NDArray[np.int64]
SAME_PLACE = 0.9  # confidence of the ellipse within which two positions may be one
FARTHEST_M = 15.0  # metres: no farther, however uncertain
SAME_DETECTION = 0.5  # overlap with which a view's detections in two pairs are the same: rounding and two towers differ


class Sighting(NamedTuple):
    """A detection in one view.

    Attributes:
        view: number of the view in its data set.
        name: of the view.
        label: class, 1..C.
        score: probability of the class.
        box: (4,) pixels of the image file; xmax may be beyond its width, at the other side of the panorama.
    """

    view: int
    name: str
    label: int
    score: float
    box: NDArray[np.float32]


class Position(NamedTuple):
    """Where a pair or a view sees an object.

    Attributes:
        sightings: numbers of the one or two that it comes from.
        probability: that the two are of the same object; 0 for one.
        latlng: (2,).
        covariance: (2, 2).
    """

    sightings: tuple[int, ...]
    probability: float
    latlng: NDArray[np.float64]
    covariance: NDArray[np.float64]


class MappedObject(NamedTuple):
    """An object on the map.

    Attributes:
        label: class, 1..C, for which the sum of its sightings' scores is the highest.
        sightings: in the order of their views.
        probability: the highest of its matches; 0 without any.
        latlng: (2,).
        covariance: (2, 2).
    """

    label: int
    sightings: list[Sighting]
    probability: float
    latlng: NDArray[np.float64]
    covariance: NDArray[np.float64]


def map_objects(
    scenes: Iterable[Scene], outcomes: Iterable[PairOutcome], threshold: float, min_score: float
) -> list[MappedObject]:
    """The objects that pairs show, those that have a place on the ground.

    Args:
        scenes: of two views each.
        outcomes: what was made of each of them.
        threshold: least probability of a match that connects two sightings.
        min_score: least score of a sighting.
    """
    sightings = _Sightings()
    positions: list[Position] = []
    for scene, outcome in zip(scenes, outcomes, strict=True):
        used = [np.flatnonzero(view.detections.scores >= min_score) for view in scene.views]
        numbers = [sightings.of(view, rows) for view, rows in zip(scene.views, used, strict=True)]
        positions += _positions(outcome.matched, numbers, used, scene.origin, threshold)
    groups = _Groups([sighting.view for sighting in sightings.all])
    for position in sorted(positions, key=lambda position: -position.probability):
        groups.unite(position.sightings[0], position.sightings[-1])
    for one, two in _beside(_objects(sightings.all, positions, groups)):
        groups.unite(one, two)
    return list(_objects(sightings.all, positions, groups).values())


class _Sightings:
    """Numbers the detections of views; those that a view has in several pairs get the same ones."""

    def __init__(self) -> None:
        self.all: list[Sighting] = []
        self._seen: dict[int, tuple[list[NDArray[np.float32]], list[int]]] = {}  # by view: boxes and their numbers

    def of(self, view: ViewRecord, rows: Rows) -> Rows:
        """The numbers of some detections (rows) of a view."""
        boxes, labels = view.detections.boxes[rows], view.detections.labels[rows]
        known_boxes, known = self._seen.setdefault(view.number, ([], []))
        numbers = np.full(len(rows), -1)
        if known and len(rows):
            overlap = pairwise_iou(
                torch.from_numpy(boxes), torch.from_numpy(np.stack(known_boxes)), min(view.period, 1e9)
            ).numpy()
            same_class = labels[:, None] == [self.all[number].label for number in known]
            own, its = linear_sum_assignment(np.where(same_class, overlap, 0.0), maximize=True)
            fits = (overlap[own, its] >= SAME_DETECTION) & same_class[own, its]
            numbers[own[fits]] = np.array(known)[its[fits]]
        scale = np.tile(np.array(view.pixel_scale, np.float32), 2)
        for row in np.flatnonzero(numbers < 0):
            numbers[row] = len(self.all)
            score = float(view.detections.scores[rows[row]])
            self.all.append(Sighting(view.number, view.name, int(labels[row]), score, boxes[row] * scale))
            known_boxes.append(boxes[row])
            known.append(int(numbers[row]))
        return numbers


def _positions(
    matched: Matched, numbers: Sequence[Rows], used: Sequence[Rows], origin: tuple[float, float], threshold: float
) -> list[Position]:
    """Where a pair sees objects: together those of likely matches, and all of them view by view."""
    found: list[Position] = []
    of_row = [dict(zip(rows.tolist(), its.tolist(), strict=True)) for rows, its in zip(used, numbers, strict=True)]
    latlng = matched.location.latlng(origin)
    for row in np.flatnonzero((matched.scores >= threshold) & matched.location.valid):
        both = of_row[0][int(matched.index_1[row])], of_row[1][int(matched.index_2[row])]
        found.append(Position(both, float(matched.scores[row]), latlng[row], matched.location.covariance[row]))
    for its, single in zip(of_row, matched.single, strict=True):
        latlng = single.latlng(origin)
        found += [
            Position((number,), 0.0, latlng[row], single.covariance[row])
            for row, number in its.items()
            if single.valid[row]
        ]
    return found


class _Groups:
    """Which sightings are of one object."""

    def __init__(self, views: Sequence[int]) -> None:
        """Starts with an object for each sighting, given its view."""
        self._root = list(range(len(views)))
        self._views = [{view} for view in views]  # of the object of which a sighting is the root

    def root(self, number: int) -> int:
        """The sighting that stands for the object of this one."""
        while self._root[number] != number:
            self._root[number] = self._root[self._root[number]]
            number = self._root[number]
        return number

    def unite(self, one: int, two: int) -> None:
        """Makes one object of those of two sightings, unless a view has both."""
        one, two = self.root(one), self.root(two)
        if one != two and self._views[one].isdisjoint(self._views[two]):
            self._root[two] = one
            self._views[one] |= self._views[two]


def _objects(sightings: Sequence[Sighting], positions: Sequence[Position], groups: _Groups) -> dict[int, MappedObject]:
    """The objects that have a position, by their root; positions of pairs count rather than those of single views."""
    members: dict[int, list[Sighting]] = {}
    for number, sighting in enumerate(sightings):
        members.setdefault(groups.root(number), []).append(sighting)
    places: dict[int, list[Position]] = {}
    for position in positions:
        roots = {groups.root(number) for number in position.sightings}
        if len(roots) == 1:  # else its match was refused
            places.setdefault(roots.pop(), []).append(position)
    if not places:
        return {}
    best = [[each for each in found if len(each.sightings) > 1] or found for found in places.values()]
    used = [position for found in best for position in found]
    starts = np.cumsum([0, *map(len, best[:-1])])
    latlng, covariances = fused(
        np.array([position.latlng for position in used]), np.array([position.covariance for position in used]), starts
    )
    return {
        root: MappedObject(
            _label(members[root]),
            sorted(members[root], key=lambda sighting: sighting.view),
            max(position.probability for position in found),
            latlng[number],
            covariances[number],
        )
        for number, (root, found) in enumerate(places.items())
    }


def _label(sightings: Sequence[Sighting]) -> int:
    """The class for which the sum of the scores is the highest."""
    votes: dict[int, float] = {}
    for sighting in sightings:
        votes[sighting.label] = votes.get(sighting.label, 0.0) + sighting.score
    return max(votes, key=lambda label: votes[label])


def _beside(objects: Mapping[int, MappedObject]) -> Iterator[tuple[int, int]]:
    """Objects (their roots) of one class that may stand at the same place, the likeliest first.

    The normal density of the gap of their positions, if the gap is within the `SAME_PLACE` ellipse of its uncertainty.
    """
    if not objects:
        return
    roots, found = list(objects), list(objects.values())
    metres = to_local(np.array([each.latlng for each in found]), found[0].latlng)
    near = KDTree(metres).query_pairs(FARTHEST_M, output_type="ndarray")
    labels = np.array([each.label for each in found])
    near = near[labels[near[:, 0]] == labels[near[:, 1]]]
    covariances = np.array([each.covariance for each in found])
    gaps, apart = metres[near[:, 0]] - metres[near[:, 1]], covariances[near[:, 0]] + covariances[near[:, 1]]
    squares = squared_errors_in_sigmas(gaps, apart, np.zeros_like(gaps))
    costs = squares + np.log(np.linalg.det(apart))
    for row in np.argsort(costs, kind="stable"):
        if squares[row] <= confidence_square(SAME_PLACE):
            yield roots[near[row, 0]], roots[near[row, 1]]


def fused(
    latlng: NDArray[np.float64], covariances: NDArray[np.float64], starts: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One position each of K objects, (K, 2), and its covariance (K, 2, 2), from several of each.

    Covariance intersection with equal weights (Julier and Uhlmann, "A non-divergent estimation algorithm in the
    presence of unknown correlations", 1997): pairs that share a view share its errors, so that several positions are
    not counted as independent.

    Args:
        latlng: (N, 2), those of the first object before those of the second one, and so on.
        covariances: (N, 2, 2).
        starts: (K,) rows at which each object begins.
    """
    counts = np.diff(starts, append=len(latlng))
    first = latlng[starts]
    information = np.linalg.inv(covariances)
    metres = to_local(latlng, first.repeat(counts, axis=0))
    mean_information = np.add.reduceat(information, starts) / counts[:, None, None]
    weighted = np.add.reduceat((information @ metres[:, :, None])[:, :, 0], starts) / counts[:, None]
    covariance = np.asarray(np.linalg.inv(mean_information), np.float64)
    return to_latlng((covariance @ weighted[:, :, None])[:, :, 0], first), covariance
