"""Pairs of views along a small street of trees, seen by exact geometry, and the map of them."""

import numpy as np
import torch

from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import BASELINES, MatchSettings
from crossview.evaluation.objects import map_objects
from crossview.evaluation.records import Boxes, Scene, Truth, ViewRecord
from crossview.evaluation.scoring import score
from crossview.geometry.camera import panorama_camera
from crossview.geometry.frames import to_latlng
from crossview.geometry.projection import Standing, view_boxes

ORIGIN = (34.15, -118.16)
SIZE = (600, 300)
TREES = np.array([[8.0, 5.0], [-8.0, 14.0], [8.0, 25.0], [-8.0, 34.0]])  # metres east and north of ORIGIN
HEIGHTS = np.array([6.0, 9.0, 7.0, 11.0])
CAMERAS = np.array([[0.0, 0.0], [0.0, 10.0], [0.0, 20.0], [0.0, 30.0]])
EXACT = PairMatcher(position_sigma_m=0.0, heading_sigma_rad=0.0, foot_sigma_px=0.2)


def detections(boxes, labels, scores):
    count = len(boxes)
    nothing, unknown = np.zeros(count, bool), np.full(count, np.nan, np.float32)
    return Boxes(boxes, labels, scores, unknown, boxes, nothing, boxes, nothing, None)


def record(number, origin, seen=(0, 1, 2, 3), labels=(1, 1, 1, 1), score_of=0.9, difficult=(), nameless=()):
    """A view with a detection of some of the trees, all of which are annotated; its frame around an origin (metres)."""
    rows = list(seen)
    every = np.arange(len(TREES))
    place = torch.tensor(CAMERAS[number] - origin)
    camera = panorama_camera(place, torch.tensor(3.0).double(), torch.tensor(0.7).double(), *SIZE)
    feet = torch.tensor(TREES - origin)
    away = torch.linalg.vector_norm(feet - place, dim=-1)
    placed, _, valid = view_boxes(camera, Standing(feet, torch.full_like(away, 3.0), torch.tensor(HEIGHTS), away))
    assert valid.all()
    boxes = placed.numpy().astype(np.float32)
    truth = Truth(every - 2, ~np.isin(every, nameless), np.isin(every, difficult), TREES - origin, every < 3)
    annotated = detections(boxes, np.ones(len(every), np.int64), np.ones(len(every), np.float32))
    found = detections(boxes[rows], np.array(labels)[rows], np.full(len(rows), score_of, np.float32))
    return ViewRecord(
        f"view{number}", number, "", SIZE, (2 * SIZE[0], 2 * SIZE[1]), float(SIZE[0]), camera, found, annotated, truth
    )


def pair(number, first, second, **changes):
    """A pair of views, in the frame of its first camera; ``one`` and ``two`` change what the views see."""
    origin = CAMERAS[first]
    views = (record(first, origin, **changes.get("one", {})), record(second, origin, **changes.get("two", {})))
    return Scene(number, tuple(to_latlng(origin, ORIGIN).tolist()), views)


def found(*scenes, min_score=0.2):
    outcome = score(scenes, EXACT, MatchSettings(), BASELINES[-1:])
    return map_objects(scenes, outcome.pairs, EXACT.score_threshold, min_score)
