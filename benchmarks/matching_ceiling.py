"""What boxes alone can tell: ``python -m benchmarks.matching_ceiling root=DIR [detected=true] [difficult=true]``.

DIR is a rendered data set with exact poses (``python -m crossview.data.streets out=DIR streets=6 seed=11``); the noise
of each row is added to the poses here, as the renderer would. Printed for ground-truth boxes, and with
``detected=true`` for boxes with the faults of a detector's: jitter, misses, false positives. No network, no appearance.

Columns: share of the shared boxes placed with an overlap over 0.5 by pure geometry, by geometry with the refined
poses, and by everything (a matched object at the position that both views give it); precision, recall and F1 of the
matches; share of pairs whose poses were refined; of matched objects: median error of the absolute positions, share
inside the 90 % ellipse, median error as seen from camera 1; the same of single views; processor milliseconds a pair.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.data.annotation import ViewAnnotation
from crossview.data.voc import PairedAnnotations, PairedVocReader
from crossview.dual.assignment import Rows
from crossview.dual.match_score import PairView
from crossview.dual.matching import PairMatcher, PairMatches
from crossview.geometry.boxes import iou
from crossview.geometry.camera import Camera, panorama_camera
from crossview.geometry.frames import to_local
from crossview.geometry.ground import Array
from crossview.geometry.location import is_inside, locate_pairs, locate_single, place_at
from crossview.geometry.projection import project_boxes

WIDTH, HEIGHT = 600, 300
NOISE = ((0.0, 0.0), (1.0, 0.03), (2.0, 0.05), (3.0, 0.10))  # metres, radians a view
HEADER = (
    "boxes     noise       placed: geometry refined everything | P     R     F1    refined "
    "| pair: m  inside  relative m | single: m  inside | ms"
)


class Case(NamedTuple):
    """One pair: views, identities (D,) or negative, true places (D, 2) of view 1's, true cameras."""

    views: tuple[PairView, PairView]
    ids: tuple[Array, Array]
    places: Array
    true_cameras: tuple[Camera, Camera]


def detected(boxes: Array, ids: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Boxes, identities and scores with a detector's faults: 15 % missed, 20 % false, corners off by 2 px and 5 %."""
    keep = rng.random(len(boxes)) > 0.15
    boxes, ids = boxes[keep], ids[keep]
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + np.hypot(2.0, 0.05 * size) * rng.standard_normal(boxes.shape)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 3)
    count = int(rng.binomial(len(boxes), 0.2))
    # A false positive looks like a true one somewhere else on the horizon.
    false = boxes[rng.integers(len(boxes), size=count)] if len(boxes) else boxes
    false = (
        false
        + WIDTH * rng.random((len(false), 1)) * [1, 0, 1, 0]
        + 6 * rng.standard_normal((len(false), 1)) * [0, 1, 0, 1]
    )
    odds = rng.normal(np.r_[np.full(len(boxes), 1.5), np.full(len(false), -0.5)], 1.2)
    return np.r_[boxes, false], np.r_[ids, np.full(len(false), -1)], 1 / (1 + np.exp(-odds))


def cases(
    data: PairedAnnotations, position: float, heading: float, options: dict[str, str], seed: int
) -> Iterator[Case]:
    """All pairs with noise of their poses; a view has the same noise in all of its pairs."""
    rng = np.random.default_rng(seed)
    noise = [(position * rng.standard_normal(2), heading * rng.standard_normal()) for _ in data.views]
    for pair in data.pairs:
        origin = data.views[pair[0]].position
        views, ids, true_cameras = [], [], []
        for number in pair:
            view = data.views[number]
            wanted = np.ones(len(view.ids), bool) if options["difficult"] == "true" else ~view.difficult
            wanted &= view.has_id & view.has_location
            boxes, its_ids = view.boxes[wanted] * (WIDTH / view.width), view.ids[wanted].astype(np.float64)
            scores = None
            if options["detected"] == "true":
                boxes, its_ids, scores = detected(boxes, its_ids, rng)
            place = to_local(view.position, origin)
            views.append(
                PairView(_camera(view, place, noise[number], options), boxes, np.ones(len(boxes), np.int64), scores)
            )
            true_cameras.append(_camera(view, place, (np.zeros(2), 0.0), options))
            ids.append(its_ids)
        places = _places(data.views[pair[0]], ids[0], origin)
        yield Case((views[0], views[1]), (ids[0], ids[1]), places, (true_cameras[0], true_cameras[1]))


def _camera(view: ViewAnnotation, place: Array, noise: tuple[Array, float], options: dict[str, str]) -> Camera:
    values = torch.tensor([float(options["height"]), view.yaw + noise[1]], dtype=torch.float64)
    return panorama_camera(torch.from_numpy(place + noise[0]), values[0], values[1], WIDTH, HEIGHT)


def _places(view: ViewAnnotation, ids: Array, origin: tuple[float, float]) -> Array:
    """Annotated places (D, 2) by identity, nan for false positives."""
    known = dict(zip(view.ids.tolist(), to_local(view.locations, origin).tolist(), strict=True))
    return np.array([known.get(int(number), [np.nan, np.nan]) for number in ids]).reshape(-1, 2)


def seen_from(camera: Camera, east_north: Array) -> Array:
    """Places (M, 2) to the right of and ahead of a camera."""
    yaw = float(camera.yaw)
    east, north = (east_north - camera.position.numpy()).T
    return np.stack((east * np.cos(yaw) - north * np.sin(yaw), east * np.sin(yaw) + north * np.cos(yaw)), axis=-1)


def hits(placed: Array, valid: NDArray[np.bool_], boxes: Array) -> list[bool]:
    """Whether placed boxes (M, 4) overlap others by more than a half."""
    overlap = iou(torch.from_numpy(placed), torch.from_numpy(boxes), float(WIDTH)).numpy()
    return [bool(hit) for hit in (overlap > 0.5) & valid]


class Tally:
    """Everything that is counted over the pairs of a row."""

    def __init__(self) -> None:
        self.placed: tuple[list[bool], list[bool], list[bool]] = ([], [], [])
        self.right = self.found = self.shared = 0
        self.refined: list[bool] = []
        self.errors: dict[str, list[float]] = {"pair": [], "relative": [], "single": []}
        self.inside: dict[str, list[bool]] = {"pair": [], "single": []}
        self.seconds: list[float] = []

    def add(self, case: Case, matcher: PairMatcher) -> None:
        """Match a pair and count."""
        start = time.process_time()
        matches = matcher(*case.views)
        self.seconds.append(time.process_time() - start)
        self.refined.append(matches.pose.refined)
        keep = matches.scores >= matcher.score_threshold
        index_1, index_2 = matches.index_1[keep], matches.index_2[keep]
        same = (case.ids[0][index_1] == case.ids[1][index_2]) & (case.ids[0][index_1] >= 0)
        shared = np.nonzero((case.ids[0][:, None] == case.ids[1]) & (case.ids[0][:, None] >= 0))
        self.right, self.found, self.shared = (
            self.right + same.sum(),
            self.found + len(same),
            self.shared + len(shared[0]),
        )
        ground = [points.as_normal(matcher.freedom) for points in matches.ground]
        located = locate_pairs(
            ground[0].take(index_1),
            ground[1].take(index_2),
            matches.pose.covariance,
            matcher.hidden_foot_probability,
        )
        self._place(case, matches, shared, (index_1, index_2), located.east_north)
        true = case.places[index_1]
        self.errors["pair"] += np.linalg.norm(located.east_north - true, axis=-1)[same].tolist()
        self.inside["pair"] += is_inside(located, true)[same].tolist()
        here, there = (seen_from(matches.cameras[0], located.east_north), seen_from(case.true_cameras[0], true))
        self.errors["relative"] += np.linalg.norm(here - there, axis=-1)[same].tolist()
        single = locate_single(ground[0], matches.pose.covariance[:3, :3], matcher.hidden_foot_probability)
        known = single.valid & ~np.isnan(case.places[:, 0])
        self.errors["single"] += np.linalg.norm(single.east_north - case.places, axis=-1)[known].tolist()
        self.inside["single"] += is_inside(single, case.places)[known].tolist()

    def _place(
        self,
        case: Case,
        matches: PairMatches,
        shared: tuple[Rows, ...],
        index: tuple[Rows, Rows],
        positions: Array,
    ) -> None:
        stated = (case.views[0].camera, case.views[1].camera)
        for one, other in ((0, 1), (1, 0)):
            boxes, targets = case.views[one].boxes, case.views[other].boxes[shared[other]]
            results = []
            for cameras in (stated, matches.cameras):
                there, exists = project_boxes(
                    cameras[one].per_object(), cameras[other].per_object(), torch.from_numpy(boxes)
                )
                results.append((there.numpy(), exists.numpy()))
            mended, possible = results[1][0].copy(), results[1][1].copy()
            mended[index[one]], possible[index[one]] = place_at(
                matches.cameras[one], matches.cameras[other], boxes[index[one]], positions
            )
            results.append((mended, possible))
            for kept, (placed, valid) in zip(self.placed, results, strict=True):
                kept += hits(placed[shared[one]], valid[shared[one]], targets)

    def row(self) -> str:
        """The numbers as text."""
        placed = [statistics.fmean(kept) for kept in self.placed]
        precision, recall = self.right / max(self.found, 1), self.right / max(self.shared, 1)
        f1 = 2 * self.right / max(self.found + self.shared, 1)
        medians = {name: statistics.median(values) for name, values in self.errors.items()}
        inside = {name: statistics.fmean(values) for name, values in self.inside.items()}
        return (
            f"{placed[0]:16.3f} {placed[1]:8.3f} {placed[2]:9.3f}  | {precision:.3f} {recall:.3f} {f1:.3f} "
            f"{statistics.fmean(self.refined):7.3f} | {medians['pair']:7.2f} {inside['pair']:7.3f} "
            f"{medians['relative']:9.2f}   | {medians['single']:9.2f} {inside['single']:7.3f} "
            f"| {1e3 * statistics.median(self.seconds):.1f}"
        )


def main(arguments: list[str]) -> None:
    """Prints the table."""
    options = {
        "root": "",
        "seeds": "2",
        "detected": "false",
        "difficult": "false",
        "height": "3.0",
        "sets": "train,val,test",
    }
    given = dict(argument.split("=", 1) for argument in arguments)
    if not given.get("root") or given.keys() - options.keys():
        raise SystemExit(f"{__doc__}\nknown arguments: {', '.join(f'{key}={value}' for key, value in options.items())}")
    options.update(given)
    data = PairedVocReader(options["root"], ["tree"], progress=False).read(options["sets"].split(","))
    print(f"{len(data.pairs)} pairs, {options['seeds']} draws of the noise a row\n{HEADER}")
    for position, heading in NOISE:
        tally = Tally()
        matcher = replace(PairMatcher(), position_sigma_m=position, heading_sigma_rad=heading)
        for seed in range(int(options["seeds"])):
            for case in cases(data, position, heading, options, seed):
                tally.add(case, matcher)
        kind = "detected" if options["detected"] == "true" else "true"
        print(f"{kind:9} {position:g} m {heading:.2f}", tally.row(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
