"""The objects of all pairs, each once: what several pairs and views say of the same one, put together.

Convention:
    A sighting is a detection in one view, in however many pairs the view is. Sightings are of one object if a chain of
    matches connects them, the likeliest matches first, or if what they are connected to stands at the same place, the
    nearest first; two of the same view never are. A sighting by itself is an object, too.
    Positions are latitude and longitude in degrees, covariances (2, 2) square metres of (east, north).
    NumPy columns of S sightings, P positions, K objects: a large test set has millions.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from crossview.evaluation.baselines import Matched
from crossview.evaluation.outcomes import PairOutcome, joined
from crossview.evaluation.records import Scene, ViewRecord
from crossview.geometry.boxes import pairwise_iou
from crossview.geometry.frames import to_latlng, to_local
from crossview.geometry.location import confidence_square
from crossview.metrics.geolocation import squared_errors_in_sigmas

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
SAME_PLACE = 0.9  # confidence of the ellipse within which two positions may be one
FARTHEST_M = 15.0  # metres: no farther, however uncertain
SAME_DETECTION = 0.5  # overlap with which a view's detections in two pairs are the same: rounding and two towers differ


class Sightings(NamedTuple):
    """Detections in one view each.

    Attributes:
        view: (S,) number of the view in its data set.
        label: (S,) class, 1..C.
        score: (S,) probability of the class.
        box: (S, 4) pixels of the image file; it may reach over a side of the panorama, and goes on at the other one.
    """

    view: Rows
    label: Rows
    score: NDArray[np.float32]
    box: NDArray[np.float32]

    def take(self, rows: Rows) -> "Sightings":
        """Some of them."""
        return Sightings(self.view[rows], self.label[rows], self.score[rows], self.box[rows])


class Positions(NamedTuple):
    """Where pairs and views see objects.

    Attributes:
        first: (P,) sighting that it comes from.
        second: (P,) the other one, or the same.
        probability: (P,) that the two are of the same object; 0 for one.
        latlng: (P, 2).
        covariance: (P, 2, 2).
    """

    first: Rows
    second: Rows
    probability: Floats
    latlng: Floats
    covariance: Floats


class MappedObjects(NamedTuple):
    """The objects on the map.

    Attributes:
        label: (K,) class, 1..C, for which the sum of its sightings' scores is the highest.
        probability: (K,) the highest of its matches; 0 without any.
        latlng: (K, 2).
        covariance: (K, 2, 2).
        counts: (K,) number of sightings.
        sightings: of all objects, those of the first one before those of the second one, and so on; in the order of
            their views.
        names: of the views by number.
    """

    label: Rows
    probability: Floats
    latlng: Floats
    covariance: Floats
    counts: Rows
    sightings: Sightings
    names: dict[int, str]

    def ends(self) -> Rows:
        """The row (K,) behind each object's last sighting."""
        return np.cumsum(self.counts)

    def best_scores(self) -> NDArray[np.float32]:
        """The highest score (K,) of each object's sightings."""
        return np.maximum.reduceat(self.sightings.score, self.ends() - self.counts)


def map_objects(
    scenes: Iterable[Scene], outcomes: Iterable[PairOutcome], threshold: float, min_score: float
) -> MappedObjects:
    """The objects that pairs show, those that have a place on the ground.

    Args:
        scenes: of two views each, at least one.
        outcomes: what was made of each of them.
        threshold: least probability of a match that connects two sightings.
        min_score: least score of a sighting: that of the detections that were matched.
    """
    collected = _Collected()
    found: list[Positions] = []
    for scene, outcome in zip(scenes, outcomes, strict=True):
        used = [np.flatnonzero(view.detections.scores >= min_score) for view in scene.views]
        numbers = [collected.numbers(view, rows) for view, rows in zip(scene.views, used, strict=True)]
        found += _positions(outcome.matched, numbers, used, scene.origin, threshold)
    sightings, positions = collected.sightings(), Positions(*joined(found))
    groups = _Groups(sightings.view.tolist())
    matches = np.flatnonzero(positions.first != positions.second)
    for row in matches[np.argsort(-positions.probability[matches], kind="stable")].tolist():
        groups.unite(int(positions.first[row]), int(positions.second[row]))
    for one, two in _beside(*_grouped(sightings, positions, groups.roots(), collected.names)):
        groups.unite(one, two)
    return _grouped(sightings, positions, groups.roots(), collected.names)[1]


class _Collected:
    """Numbers the detections of views; those that a view has in several pairs get the same ones."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._new: list[Sightings] = []
        self._count = 0
        self._seen: dict[int, tuple[NDArray[np.float32], Rows, Rows]] = {}  # by view: boxes, labels, numbers

    def numbers(self, view: ViewRecord, rows: Rows) -> Rows:
        """The numbers of some detections (rows) of a view."""
        boxes, labels = view.detections.boxes[rows], view.detections.labels[rows]
        known_boxes, known_labels, known = self._seen.get(view.number, (boxes[:0], labels[:0], rows[:0]))
        overlap = pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(known_boxes), view.period).numpy()
        overlap[labels[:, None] != known_labels] = 0.0
        own, its = linear_sum_assignment(overlap, maximize=True)
        same = overlap[own, its] >= SAME_DETECTION
        numbers = np.full(len(rows), -1)
        numbers[own[same]] = known[its[same]]
        new = np.flatnonzero(numbers < 0)
        numbers[new] = self._count + np.arange(len(new))
        self._count += len(new)
        scores = view.detections.scores[rows[new]]
        self._new.append(Sightings(np.full(len(new), view.number), labels[new], scores, view.in_image(boxes[new])))
        self._seen[view.number] = (
            np.concatenate((known_boxes, boxes[new])),
            np.concatenate((known_labels, labels[new])),
            np.concatenate((known, numbers[new])),
        )
        self.names[view.number] = view.name
        return numbers

    def sightings(self) -> Sightings:
        """All of them, in the order of their numbers."""
        return Sightings(*joined(self._new))


def _positions(
    matched: Matched, numbers: Sequence[Rows], used: Sequence[Rows], origin: tuple[float, float], threshold: float
) -> Iterator[Positions]:
    """Where a pair sees objects: together those of likely matches, and all of them view by view."""
    rows = np.flatnonzero((matched.scores >= threshold) & matched.location.valid)
    yield Positions(
        numbers[0][np.searchsorted(used[0], matched.index_1[rows])],
        numbers[1][np.searchsorted(used[1], matched.index_2[rows])],
        matched.scores[rows],
        to_latlng(matched.location.east_north[rows], origin),
        matched.location.covariance[rows],
    )
    for own, its, single in zip(used, numbers, matched.single, strict=True):
        known = single.valid[own]
        rows = own[known]
        latlng = to_latlng(single.east_north[rows], origin)
        yield Positions(its[known], its[known], np.zeros(len(rows)), latlng, single.covariance[rows])


class _Groups:
    """Which sightings are of one object."""

    def __init__(self, views: list[int]) -> None:
        """Starts with an object for each sighting, given its view."""
        self._root = list(range(len(views)))
        self._own = views
        self._views: dict[int, set[int]] = {}  # of the objects with several sightings, by their root

    def root(self, number: int) -> int:
        """The sighting that stands for the object of this one."""
        while self._root[number] != number:
            self._root[number] = self._root[self._root[number]]
            number = self._root[number]
        return number

    def roots(self) -> Rows:
        """The root (S,) of each sighting."""
        return np.array([self.root(number) for number in range(len(self._root))], np.int64)

    def unite(self, one: int, two: int) -> None:
        """Makes one object of those of two sightings, unless a view has both."""
        one, two = self.root(one), self.root(two)
        first, second = (self._views.get(root, {self._own[root]}) for root in (one, two))
        if one != two and first.isdisjoint(second):
            self._root[two] = one
            self._views[one] = first | second
            self._views.pop(two, None)


def _grouped(
    sightings: Sightings, positions: Positions, roots: Rows, names: dict[int, str]
) -> tuple[Rows, MappedObjects]:
    """The roots (K,) of the objects that have a position, and the objects."""
    owner = roots[positions.first]
    kept = owner == roots[positions.second]  # else the match was refused
    is_pair = positions.first != positions.second
    in_pairs = np.zeros(len(roots), bool)
    in_pairs[owner[kept & is_pair]] = True
    used = np.flatnonzero(kept & (is_pair | ~in_pairs[owner]))  # positions of pairs rather than those of single views
    used = used[np.argsort(owner[used], kind="stable")]
    objects, starts = np.unique(owner[used], return_index=True)
    latlng, covariance = fused(positions.latlng[used], positions.covariance[used], starts)
    members = np.flatnonzero(np.isin(roots, objects))
    number = np.searchsorted(objects, roots[members])
    order = np.lexsort((sightings.view[members], number))
    members, number = members[order], number[order]
    votes = np.zeros((len(objects), int(sightings.label.max(initial=0)) + 1))
    np.add.at(votes, (number, sightings.label[members]), sightings.score[members])
    return objects, MappedObjects(
        votes.argmax(axis=1),
        np.maximum.reduceat(positions.probability[used], starts),
        latlng,
        covariance,
        np.bincount(number, minlength=len(objects)),
        sightings.take(members),
        names,
    )


def _beside(roots: Rows, objects: MappedObjects) -> Iterator[tuple[int, int]]:
    """Objects (their roots) of one class that may stand at the same place, the likeliest first.

    The normal density of the gap of their positions, if the gap is within the `SAME_PLACE` ellipse of its uncertainty.
    """
    if not len(roots):
        return
    metres = to_local(objects.latlng, objects.latlng[0])
    near = KDTree(metres).query_pairs(FARTHEST_M, output_type="ndarray")
    near = near[objects.label[near[:, 0]] == objects.label[near[:, 1]]]
    # North of the first object is not quite north of these, but their covariances are of their own east and north.
    gaps = to_local(objects.latlng[near[:, 0]], objects.latlng[near[:, 1]])
    apart = objects.covariance[near[:, 0]] + objects.covariance[near[:, 1]]
    squares = squared_errors_in_sigmas(gaps, apart, np.zeros_like(gaps))
    costs = squares + np.log(np.linalg.det(apart))
    order = np.argsort(costs, kind="stable")
    for row in order[squares[order] <= confidence_square(SAME_PLACE)]:
        yield int(roots[near[row, 0]]), int(roots[near[row, 1]])


def fused(latlng: Floats, covariances: Floats, starts: Rows) -> tuple[Floats, Floats]:
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
