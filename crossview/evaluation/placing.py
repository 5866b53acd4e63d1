"""Where the detections of many pairs go in the other view: by geometry, by the network, by their match, by everything.

Convention:
    Each way takes the evidence of B pairs and the view (0 or 1) whose detections are placed in the other one, and gives
    those detections, pair by pair, with their boxes there. The boxes of all pairs are computed together: a pair has
    some tens of them, for which a tensor's overhead is most of the time.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.dual.matching import PairMatches
from crossview.evaluation.records import Boxes, Scene
from crossview.geometry.camera import Camera, repeated
from crossview.geometry.location import Location, place_at
from crossview.geometry.projection import project_boxes

Rows = NDArray[np.int64]


class Matching(Protocol):
    """Matches of the detections of a pair."""

    @property
    def index_1(self) -> Rows:
        """(M,) detections of view 1."""

    @property
    def index_2(self) -> Rows:
        """(M,) detections of view 2."""


class MatchedScene(NamedTuple):
    """What placing may use of a pair.

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


Placing = Callable[[Sequence[MatchedScene], int], list[Boxes]]


def indices(found: Matching, view: int) -> tuple[Rows, Rows]:
    """The matches' detections in a view and in the other."""
    return (found.index_1, found.index_2) if view == 0 else (found.index_2, found.index_1)


def by_geometry(pairs: Sequence[MatchedScene], view: int) -> list[Boxes]:
    """Where flat ground and the stated poses put them."""
    found = by_network(pairs, view)
    return [boxes._replace(placed=boxes.geometry, placed_valid=boxes.geometry_valid) for boxes in found]


def by_network(pairs: Sequence[MatchedScene], view: int) -> list[Boxes]:
    """Where the network puts them, which knows the stated poses."""
    return [pair.scene.views[view].detections for pair in pairs]


def by_match(pairs: Sequence[MatchedScene], view: int) -> list[Boxes]:
    """At the box that it was matched with; nowhere without a match."""
    placed_boxes = []
    for pair in pairs:
        boxes, other = (pair.scene.views[number].detections for number in (view, 1 - view))
        own, its = indices(pair.found, view)
        placed, valid = np.zeros_like(boxes.boxes), np.zeros(len(boxes.labels), bool)
        placed[own], valid[own] = other.boxes[its], True
        placed_boxes.append(boxes._replace(placed=placed, placed_valid=valid))
    return placed_boxes


def by_everything(pairs: Sequence[MatchedScene], view: int) -> list[Boxes]:
    """Where the network puts them, moved as the refined poses move geometry; matched ones at their common position.

    A box that the network places and geometry does not stays where it is.
    """
    said = by_network(pairs, view)
    counts = [len(boxes.labels) for boxes in said]
    boxes, by_network_alone, before = (
        np.concatenate([getattr(own, name) for own in said]).astype(np.float64)
        for name in ("boxes", "placed", "geometry")
    )
    placed_valid, geometry_valid = (
        np.concatenate([getattr(own, name) for own in said]) for name in ("placed_valid", "geometry_valid")
    )
    source, target = (repeated([pair.found.cameras[number] for pair in pairs], counts) for number in (view, 1 - view))
    projected, seen = project_boxes(source, target, torch.from_numpy(boxes))
    geometry, valid = projected.numpy(), seen.numpy()
    periods = np.repeat([pair.scene.views[1 - view].period for pair in pairs], counts)
    moved = _corrected_alike(geometry, before, by_network_alone, periods)
    placed = np.where((placed_valid & geometry_valid & valid)[:, None], moved, geometry)
    alone = placed_valid & ~geometry_valid
    placed, valid = np.where(alone[:, None], by_network_alone, placed), valid | alone
    own, position = _positions(pairs, view, counts)
    of_source, of_target = (Camera(*(field[own] for field in camera)) for camera in (source, target))
    at_position, exists = place_at(of_source, of_target, boxes[own], position)
    placed[own[exists]], valid[own[exists]] = at_position[exists], True
    ends = np.cumsum(counts)[:-1]
    parts = zip(said, np.split(placed.astype(np.float32), ends), np.split(valid, ends), strict=True)
    return [own_boxes._replace(placed=rows, placed_valid=flags) for own_boxes, rows, flags in parts]


def _positions(pairs: Sequence[MatchedScene], view: int, counts: Sequence[int]) -> tuple[Rows, NDArray[np.float64]]:
    """Which detections of all pairs (M,) have a trusted common position, and that (M, 2)."""
    rows, positions = [], []
    for pair, first in zip(pairs, np.cumsum([0, *counts[:-1]]), strict=True):
        used = pair.location.valid & pair.trusted
        rows.append(first + indices(pair.found, view)[0][used])
        positions.append(pair.location.east_north[used])
    return np.concatenate(rows), np.concatenate(positions)


def _corrected_alike(
    boxes: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64], periods: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Boxes (K, 4) changed as others (K, 4) were, the short way around: the same shift in sizes, the same growth."""
    size, size_before, size_after = (value[:, 2:] - value[:, :2] for value in (boxes, before, after))
    shift = ((after - before)[:, :2] + (after - before)[:, 2:]) / 2
    shift[:, 0] -= periods * np.round(shift[:, 0] / periods)
    shift *= size / size_before
    growth = (size_after / size_before - 1) * size / 2
    return np.asarray(boxes + np.concatenate((shift - growth, shift + growth), axis=1))
