"""What comes of a portion of scenes: all that is counted view by view or pair by pair.

A portion needs nothing of the others, so any process can score it, see `crossview.evaluation.workers`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossview.dual.matching import PairMatcher
from crossview.dual.placed import PlacedDetections
from crossview.evaluation.baselines import Baseline, Matched, MatchSettings, match_scenes
from crossview.evaluation.known import Known, covisibility, known_of, placed_hits
from crossview.evaluation.records import Scene, scene_detections, scene_objects, scene_periods, scene_placed
from crossview.evaluation.spill import pickled
from crossview.metrics.average_precision import DetectionAP
from crossview.metrics.coco import CocoAP
from crossview.metrics.cross_view import CrossViewMetrics
from crossview.metrics.geolocation import distances, squared_errors_in_sigmas
from crossview.metrics.matching import TRUE_POSITIVE
from crossview.metrics.reid import match_flags


class LocationErrors(NamedTuple):
    """Positions of right matches.

    Attributes:
        error_m: (M,) metres from the annotated position.
        distance_m: (M,) metres of the object from the nearer camera.
        squares: (M,) squared errors in sigmas.
    """

    error_m: NDArray[np.float64]
    distance_m: NDArray[np.float64]
    squares: NDArray[np.float64]


class PairOutcome(NamedTuple):
    """A pair in a baseline.

    Attributes:
        matched: what was made of its detections.
        flags: (M,) int64 of its matches.
        n_shared: objects that both views annotate, without the difficult ones.
    """

    matched: Matched
    flags: Tensor
    n_shared: int


class PairNumbers(NamedTuple):
    """What is counted of P pairs with M matches.

    Attributes:
        matches: (P,) int64.
        shared: (P,) int64 objects that both views annotate, without the difficult ones.
        refined: (P,) bool, whether the poses were refined.
        seconds: (P,) float64 that matching took.
        scores: (M,) float64 of the matches, pair by pair.
        flags: (M,) int64, see `crossview.metrics.matching`.
    """

    matches: NDArray[np.int64]
    shared: NDArray[np.int64]
    refined: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    flags: NDArray[np.int64]


class RowOutcome(NamedTuple):
    """A portion of pairs in a baseline.

    Attributes:
        cross: what the placed detections hit.
        hits: (N,) bool of `crossview.evaluation.known.placed_hits`.
        numbers: of the pairs and their matches.
        errors: of the right matches.
    """

    cross: CrossViewMetrics
    hits: Tensor
    numbers: PairNumbers
    errors: LocationErrors


class PortionOutcome(NamedTuple):
    """A portion of scenes.

    Attributes:
        detection: of all views.
        coco: of all views.
        network: of the boxes that the network and geometry place; without any for views by themselves.
        covisibility: probabilities (N,) and truth (N,) of detections that show an object with an identity.
        rows: one for each baseline; none for views by themselves.
        pairs: what the last baseline made of each pair, a `PairOutcome` as `crossview.evaluation.spill.pickled` makes
            it; with the other baselines' it would be more than all the rest.
    """

    detection: DetectionAP
    coco: CocoAP
    network: CrossViewMetrics
    covisibility: tuple[NDArray[np.float64], NDArray[np.bool_]]
    rows: list[RowOutcome]
    pairs: list[bytes]


def score_portion(
    portion: Sequence[Scene], baselines: Sequence[Baseline], matcher: PairMatcher, settings: MatchSettings
) -> PortionOutcome:
    """Scores scenes with the same number of views; matches and places pairs in the ways of the baselines."""
    detections, objects, periods = scene_detections(portion), scene_objects(portion), scene_periods(portion)
    detection, coco = DetectionAP(sync_on_compute=False), CocoAP(sync_on_compute=False)
    network = CrossViewMetrics(sync_on_compute=False)
    numbers = torch.tensor([[view.number for view in scene.views] for scene in portion])
    detection.update(numbers, detections, objects, periods)
    coco.update(numbers, detections, objects)
    if len(portion[0].views) != 2:
        return PortionOutcome(detection, coco, network, (np.zeros(0), np.zeros(0, bool)), [], [])
    known = known_of(detections, objects, periods)
    said = scene_placed([(scene.views[0].detections, scene.views[1].detections) for scene in portion])
    _update_cross(network, portion, known, said)
    rows: list[RowOutcome] = []
    pairs: list[PairOutcome] = []
    for baseline in baselines:
        row, pairs = _score_row(portion, known, baseline, matcher, settings)
        rows.append(row)
    return PortionOutcome(detection, coco, network, covisibility(known, said), rows, [pickled(pair) for pair in pairs])


def _score_row(
    portion: Sequence[Scene], known: Known, baseline: Baseline, matcher: PairMatcher, settings: MatchSettings
) -> tuple[RowOutcome, list[PairOutcome]]:
    matches = match_scenes(portion, baseline, matcher, settings)
    there = scene_placed([matched.detections for matched in matches])
    cross = CrossViewMetrics(sync_on_compute=False)
    _update_cross(cross, portion, known, there)
    pairs, errors = zip(
        *(
            _pair_outcome(scene, matched, known, row, matcher.score_threshold)
            for row, (scene, matched) in enumerate(zip(portion, matches, strict=True))
        ),
        strict=True,
    )
    return RowOutcome(cross, placed_hits(known, there), _numbers(pairs), LocationErrors(*joined(errors))), list(pairs)


def joined(columns: Sequence[tuple[NDArray[Any], ...]]) -> Iterator[NDArray[Any]]:
    """The columns of several pairs or portions, each as one."""
    return map(np.concatenate, zip(*columns, strict=True))


def _numbers(pairs: Sequence[PairOutcome]) -> PairNumbers:
    return PairNumbers(
        np.array([len(pair.flags) for pair in pairs]),
        np.array([pair.n_shared for pair in pairs]),
        np.array([pair.matched.refined for pair in pairs]),
        np.array([pair.matched.seconds for pair in pairs]),
        np.concatenate([pair.matched.scores for pair in pairs]),
        np.concatenate([pair.flags.numpy() for pair in pairs]),
    )


def _update_cross(metric: CrossViewMetrics, pairs: Sequence[Scene], known: Known, placed: PlacedDetections) -> None:
    """Adds pairs."""
    numbers = torch.tensor([scene.number for scene in pairs])
    scales = torch.tensor([[view.pixel_scale for view in scene.views] for scene in pairs])
    metric.update(numbers, known.detections, placed, known.objects, known.periods, scales)


def _pair_outcome(
    scene: Scene, matched: Matched, known: Known, row: int, threshold: float
) -> tuple[PairOutcome, LocationErrors]:
    """A pair, and the errors of its right matches."""
    # Index 1 is direction 2_to_1, whose objects to find are those of view 1.
    counterparts, ignored = known.shared.number[row, 0], known.shared.difficult[row, 1]
    targets = known.seen.targets[row]
    first, second = targets[0][torch.from_numpy(matched.index_1)], targets[1][torch.from_numpy(matched.index_2)]
    scores = torch.from_numpy(matched.scores)
    flags = match_flags(first, second, scores, counterparts, ignored)
    right = ((flags == TRUE_POSITIVE) & (scores >= threshold)).numpy()
    errors = _location_errors(scene, matched, right, first.numpy(), second.numpy())
    return PairOutcome(matched, flags, known.shared_count(row)), errors


def _location_errors(
    scene: Scene, matched: Matched, right: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64]
) -> LocationErrors:
    """Of right matches whose object has a location in view 1, or else in view 2."""
    one, two = (view.truth for view in scene.views)
    rows = np.flatnonzero(right & matched.location.valid)
    in_first, in_second = one.has_location[first[rows]], two.has_location[second[rows]]
    truth = np.where(in_first[:, None], one.location[first[rows]], two.location[second[rows]])
    known = in_first | in_second
    rows, truth = rows[known], truth[known]
    positions, covariances = matched.location.east_north[rows], matched.location.covariance[rows]
    cameras = [view.camera.position.numpy() for view in scene.views if view.camera is not None]
    return LocationErrors(
        distances(positions, truth),
        np.minimum(*(distances(truth, camera) for camera in cameras)),
        squared_errors_in_sigmas(positions, covariances, truth),
    )
