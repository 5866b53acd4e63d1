"""All metrics of a test set from its records alone; docs/evaluation.md says what each is.

The classes that score a training run score here too, fed in the same precision: the numbers are the same. One process
has all scenes and scores by itself, while the others may have ended: nothing is synchronised.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from crossview.dual.matching import PairMatcher
from crossview.dual.placed import PlacedDetections
from crossview.evaluation.baselines import BASELINES, Baseline, Matched, MatchSettings, match_scenes
from crossview.evaluation.known import Known, covisibility, known_of, placed_hits, portions
from crossview.evaluation.records import (
    Scene,
    ViewRecord,
    scene_detections,
    scene_objects,
    scene_periods,
    scene_placed,
)
from crossview.metrics.average_precision import DetectionAP
from crossview.metrics.cross_view import CrossViewMetrics
from crossview.metrics.geolocation import distances, shares_inside, squared_errors_in_sigmas, summarise
from crossview.metrics.matching import TRUE_POSITIVE
from crossview.metrics.reid import match_flags, reid_values

ELLIPSE = 0.9  # confidence of the error ellipses in files and of the share inside in the table

MILLISECONDS = "reid/milliseconds"


class Ranked(NamedTuple):
    """Predictions with what became of them, for curves.

    Attributes:
        scores: (N,) float64.
        flags: (N,) int64, see `crossview.metrics.matching`.
        n_objects: that could be found.
    """

    scores: Tensor
    flags: Tensor
    n_objects: int


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


class SceneOutcome(NamedTuple):
    """A scene in a baseline.

    Attributes:
        scene: with the detections that were scored.
        matched: what was made of them.
        flags: (M,) int64 of its matches.
        n_shared: objects that both views annotate, without the difficult ones.
        errors: of its right matches.
    """

    scene: Scene
    matched: Matched
    flags: Tensor
    n_shared: int
    errors: LocationErrors


class BaselineOutcome(NamedTuple):
    """A baseline over all scenes: its numbers, and what curves and pictures are made of."""

    baseline: Baseline
    metrics: dict[str, float]
    cross: Ranked
    reid: Ranked
    errors: LocationErrors
    scenes: list[SceneOutcome]


class Outcome(NamedTuple):
    """Everything about a test set.

    Attributes:
        metrics: by their names without the split.
        detection: all detections, each view once.
        covisibility: probabilities (N,) and truth (N,) of detections that show an object with an identity.
        baselines: empty for views by themselves.
    """

    metrics: dict[str, float]
    detection: Ranked
    covisibility: tuple[NDArray[np.float64], NDArray[np.bool_]]
    baselines: list[BaselineOutcome]


def score(
    scenes: Sequence[Scene],
    matcher: PairMatcher,
    settings: MatchSettings,
    baselines: Sequence[Baseline] = BASELINES,
) -> Outcome:
    """All metrics of scenes.

    Args:
        scenes: either pairs or views by themselves.
        matcher: of the detections of pairs.
        settings: of the detections that are matched.
        baselines: the rows to fill; the metrics are those of the last one.
    """
    metrics, detection = _detection_metrics(scenes)
    metrics["detection/coco_map"] = coco_map(scenes)
    pairs = [scene for scene in scenes if len(scene.views) == 2]
    if not pairs:
        return Outcome(metrics, detection, (np.zeros(0), np.zeros(0, bool)), [])
    network = CrossViewMetrics(sync_on_compute=False)
    for portion in portions(pairs):
        said = [(scene.views[0].detections, scene.views[1].detections) for scene in portion]
        _update_cross(network, portion, known_of(portion), scene_placed(said))
    values = {name: float(value) for name, value in network.compute().items()}
    embedded = all(view.detections.embeddings is not None for scene in pairs for view in scene.views)
    outcomes = [
        score_baseline(pairs, baseline, matcher, settings)
        for baseline in baselines
        if embedded or not baseline.needs_embeddings
    ]
    best = outcomes[-1].metrics
    metrics |= {name: best[name] for name in ("cross/ap50", "cross/center_px", "cross/placed")}
    metrics |= {"cross/geometry_ap50": values["geometry_ap50"], "cross/network_ap50": values["ap50"]}
    rest = {name: value for name, value in best.items() if name.startswith(("reid/", "geo/"))}
    rest.pop(MILLISECONDS)  # the same predictions have the same metrics
    metrics |= rest
    return Outcome(metrics, detection, covisibility(pairs), outcomes)


def score_baseline(
    scenes: Sequence[Scene], baseline: Baseline, matcher: PairMatcher, settings: MatchSettings
) -> BaselineOutcome:
    """One row of the table of baselines."""
    cross = CrossViewMetrics(sync_on_compute=False)
    outcomes, placed, seen = [], 0, 0
    for portion in portions(scenes):
        known = known_of(portion)
        matches = match_scenes(portion, baseline, matcher, settings)
        there = scene_placed([matched.detections for matched in matches])
        _update_cross(cross, portion, known, there)
        hits = placed_hits(known, there)
        placed, seen = placed + int(hits.sum()), seen + len(hits)
        outcomes += [
            _score_scene(scene, matched, known, row, matcher.score_threshold)
            for row, (scene, matched) in enumerate(zip(portion, matches, strict=True))
        ]
    reid = Ranked(
        torch.from_numpy(np.concatenate([outcome.matched.scores for outcome in outcomes])),
        torch.cat([outcome.flags for outcome in outcomes]),
        sum(outcome.n_shared for outcome in outcomes),
    )
    errors = LocationErrors(*(np.concatenate(parts) for parts in zip(*(o.errors for o in outcomes), strict=True)))
    values = cross.compute()
    metrics = {
        "cross/ap50": float(values["ap50"]),
        "cross/center_px": float(values["center_px"]),
        "cross/placed": placed / seen if seen else math.nan,
        **{f"reid/{name}": value for name, value in reid_values(*reid, matcher.score_threshold)._asdict().items()},
        **{f"geo/{name}": value for name, value in summarise(errors.error_m)._asdict().items()},
        f"geo/inside_{round(100 * ELLIPSE)}": float(shares_inside(errors.squares, [ELLIPSE])[0]),
        "reid/refined": float(np.mean([outcome.matched.refined for outcome in outcomes])),
        MILLISECONDS: 1000 * float(np.median([outcome.matched.seconds for outcome in outcomes])),
    }
    rows, objects = cross.distinct()
    ranked = Ranked(rows[:, 1], rows[:, 2].long(), len(objects))
    return BaselineOutcome(baseline, metrics, ranked, reid, errors, outcomes)


def _detection_metrics(scenes: Sequence[Scene]) -> tuple[dict[str, float], Ranked]:
    metric = DetectionAP(sync_on_compute=False)
    for portion in portions(scenes):
        keys = torch.tensor([[view.number for view in scene.views] for scene in portion])
        metric.update(keys, scene_detections(portion), scene_objects(portion), scene_periods(portion))
    rows, objects = metric.distinct()
    values = {f"detection/{name}": float(value) for name, value in metric.compute().items()}
    return values, Ranked(rows[:, 1], rows[:, 2].long(), len(objects))


def coco_map(scenes: Sequence[Scene]) -> float:
    """COCO's mean average precision at overlaps of 0.5 to 0.95, each view once; NaN without objects.

    Difficult objects are what COCO calls crowds: neither a hit nor a miss counts. Overlap does not go around the seam.
    """
    metric = MeanAveragePrecision(backend="faster_coco_eval", sync_on_compute=False)
    metric.warn_on_many_detections = False  # COCO counts the best 100 of a view; so be it
    views: dict[int, ViewRecord] = {view.number: view for scene in reversed(scenes) for view in reversed(scene.views)}
    if not any((~view.truth.difficult).any() for view in views.values()):
        return math.nan
    said, truth = [], []
    for view in views.values():
        found, known = view.detections, view.objects
        crowd = view.truth.difficult.astype(np.int64)
        said.append(_tensors(boxes=found.boxes, scores=found.scores, labels=found.labels))
        truth.append(_tensors(boxes=known.boxes, labels=known.labels, iscrowd=crowd))
    metric.update(said, truth)
    return float(metric.compute()["map"])


def _tensors(**arrays: NDArray[Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _update_cross(metric: CrossViewMetrics, pairs: Sequence[Scene], known: Known, placed: PlacedDetections) -> None:
    """Adds pairs."""
    numbers = torch.tensor([scene.number for scene in pairs])
    scales = torch.tensor([[view.pixel_scale for view in scene.views] for scene in pairs])
    metric.update(numbers, known.detections, placed, known.objects, known.periods, scales)


def _score_scene(scene: Scene, matched: Matched, known: Known, row: int, threshold: float) -> SceneOutcome:
    # Index 1 is direction 2_to_1, whose objects to find are those of view 1.
    counterparts, ignored, is_shared = (
        known.shared.number[row, 0],
        known.shared.difficult[row, 1],
        known.shared.present[row, 1],
    )
    targets = known.seen.targets[row]
    first, second = targets[0][torch.from_numpy(matched.index_1)], targets[1][torch.from_numpy(matched.index_2)]
    scores = torch.from_numpy(matched.scores)
    flags = match_flags(first, second, scores, counterparts, ignored)
    right = ((flags == TRUE_POSITIVE) & (scores >= threshold)).numpy()
    errors = _location_errors(scene, matched, right, first.numpy(), second.numpy())
    return SceneOutcome(scene, matched, flags, int((is_shared & ~ignored).sum()), errors)


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
