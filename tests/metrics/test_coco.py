"""COCO's mean is what COCO's own evaluation says, for any ties, classes, difficult objects and numbers of boxes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st

from crossview.detector.detections import ViewDetections
from crossview.evaluation.records import SceneObjects
from crossview.metrics.coco import MOST, CocoAP, coco_flags, coco_precision
from crossview.metrics.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE


def _entry(rows: ViewDetections | SceneObjects, view: int, row: int) -> dict[str, Any]:
    """A box in COCO's format, but for its number."""
    x1, y1, x2, y2 = rows.boxes[view, row].tolist()
    said = (
        {"score": float(rows.scores[view, row])}
        if isinstance(rows, ViewDetections)
        else {"iscrowd": int(rows.difficult[view, row])}
    )
    box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    return {"image_id": view, "category_id": int(rows.labels[view, row]), **box, **said}


def theirs(detections: ViewDetections, objects: SceneObjects) -> float:
    """The mean of faster-coco-eval."""
    views, classes = range(len(detections.present)), range(1, 5)
    known, found = (
        [_entry(rows, view, row) for view in views for row in rows.present[view].nonzero()[:, 0].tolist()]
        for rows in (objects, detections)
    )
    for number, entry in enumerate(known + found, start=1):
        entry["id"] = number
    about = {"images": [{"id": view} for view in views], "categories": [{"id": label} for label in classes]}
    truth, said = COCO(about | {"annotations": known}), COCO(about | {"annotations": found})
    evaluation = COCOeval_faster(truth, said, iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # thresholds, recalls, classes; of all sizes, the best 100
    precision = precision[precision > -1]
    return float(precision.mean()) if precision.size else math.nan


def ours(detections: ViewDetections, objects: SceneObjects) -> float:
    metric = CocoAP()
    metric.update(torch.arange(len(detections.present)), detections, objects)
    return float(metric.compute()["coco_map"])


def scene(seed: int, views: int = 6, most: int = 12, classes: int = 3) -> tuple[ViewDetections, SceneObjects]:
    """Objects, and detections some of which lie on them. Whole pixels and few scores make ties."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 60, (views, most, 2))
    boxes = np.concatenate((corners, corners + rng.integers(8, 40, (views, most, 2))), -1)
    moved = boxes + rng.integers(-3, 4, boxes.shape)
    elsewhere = rng.random((views, most)) < 0.3
    moved[elsewhere] = boxes[elsewhere][:, [1, 0, 3, 2]]
    labels = rng.integers(1, classes + 1, (views, most))
    said = np.where(rng.random((views, most)) < 0.2, 1, labels)
    several = rng.integers(0, most, (views, most))  # some objects are found twice
    detections = ViewDetections(
        torch.from_numpy(np.take_along_axis(moved, several[..., None], 1)).float(),
        torch.from_numpy(rng.integers(1, 30, (views, most)) / 32).float(),
        torch.from_numpy(np.take_along_axis(said, several, 1)),
        torch.from_numpy(rng.random((views, most)) < 0.9),
    )
    no_id = torch.zeros(views, most, dtype=torch.bool)
    objects = SceneObjects(
        torch.from_numpy(boxes).float(),
        torch.from_numpy(labels),
        torch.zeros(views, most, dtype=torch.int64),
        no_id,
        torch.from_numpy(rng.random((views, most)) < 0.2),
        torch.from_numpy(rng.random((views, most)) < 0.8),
    )
    return detections, objects


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_it_is_that_of_coco(seed, classes):
    found, known = scene(seed, classes=classes)
    assert ours(found, known) == pytest.approx(theirs(found, known), abs=1e-12, nan_ok=True)


def test_only_the_best_of_many_detections_count():
    found, known = scene(3, views=2, most=3 * MOST, classes=1)
    assert ours(found, known) == pytest.approx(theirs(found, known), abs=1e-12)
    assert coco_flags(found, known)[1].sum(-1).tolist() == [MOST, MOST]


def _rows(boxes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes (1, N, 4) of one view, their label 1 and that they are there."""
    count = len(boxes)
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(1, count, 4)
    return rows, torch.ones(1, count, dtype=torch.int64), torch.ones(1, count, dtype=torch.bool)


def detected(boxes, scores) -> ViewDetections:
    rows, labels, present = _rows(boxes)
    return ViewDetections(rows, torch.tensor(scores, dtype=torch.float32).reshape(1, -1), labels, present)


def annotated(boxes, difficult=None) -> SceneObjects:
    rows, labels, present = _rows(boxes)
    is_difficult = torch.tensor([difficult or [False] * len(boxes)], dtype=torch.bool)
    return SceneObjects(rows, labels, labels, present, is_difficult, present)


def test_flags_by_hand():
    # Overlaps with the object: 1, 0.8 and 0.8; the last box lies in the difficult one.
    objects = annotated([[0, 0, 10, 10], [50, 0, 90, 40]], difficult=[False, True])
    found = detected([[0, 0, 8, 10], [0, 0, 10, 10], [0, 2, 10, 10], [60, 10, 70, 20]], [0.9, 0.8, 0.7, 0.6])
    flags, counts = coco_flags(found, objects)
    assert counts.all()
    hit, miss, neutral = TRUE_POSITIVE, FALSE_POSITIVE, NEUTRAL
    assert flags[0, 0].tolist() == 7 * [hit] + 3 * [miss]  # 0.5 to 0.8, and not 0.85 to 0.95
    assert flags[0, 1].tolist() == 7 * [miss] + 3 * [hit]  # taken before, at the thresholds up to 0.8
    assert flags[0, 2].tolist() == 10 * [miss]
    assert flags[0, 3].tolist() == 10 * [neutral]


def test_precision_by_hand():
    # Two objects; a hit, a miss, a hit: precision 1 up to a recall of 0.5, then 2/3.
    flags = torch.tensor([TRUE_POSITIVE, FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE])
    assert float(coco_precision(flags, 2)) == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    assert float(coco_precision(flags, 4)) == pytest.approx((26 + 25 * 2 / 3) / 101, abs=1e-12)


def test_views_without_objects_or_detections():
    box = [[0, 0, 10, 10]]
    assert ours(detected([], []), annotated(box)) == 0
    for found in (detected([], []), detected(box, [0.9])):
        assert math.isnan(ours(found, annotated([])))
        assert math.isnan(ours(found, annotated(box, difficult=[True])))


def test_a_view_counts_once_and_batches_do_not_matter():
    found, known = scene(5)
    metric = CocoAP()
    for view in (4, 0, 2, 4, 1, 3, 5):
        part = slice(view, view + 1)
        metric.update(
            torch.tensor([view]), ViewDetections(*(f[part] for f in found)), SceneObjects(*(f[part] for f in known))
        )
    assert float(metric.compute()["coco_map"]) == ours(found, known)
