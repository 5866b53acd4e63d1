import math

import numpy as np
import pytest

from crossview.dual.matching import PairMatcher
from crossview.evaluation import known
from crossview.evaluation.baselines import BASELINES, MatchSettings
from crossview.evaluation.records import with_annotated_boxes
from crossview.evaluation.scoring import score
from crossview.metrics.matching import TRUE_POSITIVE
from tests.evaluation.scenes import cached, collected, without_detections

MATCHER, SETTINGS = PairMatcher(), MatchSettings()


def test_numbers_are_those_of_training(pair_root):
    scenes, logged = cached(pair_root)
    metrics = score(scenes, MATCHER, SETTINGS).metrics
    for ours, theirs in {
        "detection/ap50": "detection/ap50",
        "detection/voc07_ap": "detection/voc07_ap",
        "cross/network_ap50": "cross/ap50",
        "cross/geometry_ap50": "cross/geometry_ap50",
    }.items():
        # Lightning logs in single precision.
        assert np.float32(metrics[ours]) == np.float32(logged[f"test/{theirs}"]), ours


def test_perfect_detections(pair_root):
    scenes = [with_annotated_boxes(scene) for scene in cached(pair_root)[0]]
    outcome = score(scenes, MATCHER, SETTINGS)
    metrics = outcome.metrics
    assert metrics["detection/ap50"] == metrics["detection/voc07_ap"] == 1
    assert metrics["detection/coco_map"] == pytest.approx(1)
    assert metrics["reid/f1"] == metrics["reid/ap"] == 1
    assert metrics["cross/placed"] == 1
    assert metrics["geo/median_m"] < 1  # annotated feet are whole pixels of an image of 128 x 64
    by_name = {row.baseline.name: row for row in outcome.baselines}
    assert list(by_name) == ["geometry", "appearance", "unrefined", "everything"]
    assert by_name["geometry"].metrics["reid/f1"] == 1
    assert by_name["appearance"].metrics["reid/f1"] < 1  # the network has learned nothing
    assert metrics["cross/ap50"] == by_name["everything"].metrics["cross/ap50"]
    right = int((by_name["everything"].reid.flags == TRUE_POSITIVE).sum())
    assert right == by_name["everything"].reid.n_objects == len(by_name["everything"].errors.error_m) > 2


def test_no_detections_at_all(pair_root):
    scenes = [without_detections(scene) for scene in cached(pair_root)[0]]
    metrics = score(scenes, MATCHER, SETTINGS).metrics
    assert metrics["detection/ap50"] == metrics["reid/f1"] == metrics["reid/ap"] == metrics["cross/ap50"] == 0
    assert metrics["detection/coco_map"] == 0
    assert math.isnan(metrics["geo/median_m"])
    assert math.isnan(metrics["cross/center_px"])


def test_no_objects_at_all(pair_root):
    nothing = np.zeros(0, np.int64)
    scenes = [
        scene._replace(
            views=tuple(
                view._replace(
                    objects=view.objects.take(nothing),
                    truth=type(view.truth)(*(field[nothing] for field in view.truth)),
                )
                for view in scene.views
            )
        )
        for scene in cached(pair_root)[0]
    ]
    metrics = score(scenes, MATCHER, SETTINGS).metrics
    assert all(math.isnan(metrics[name]) for name in ("detection/ap50", "detection/coco_map", "cross/ap50", "reid/f1"))


def test_a_view_of_two_pairs_counts_once_in_coco_map(pair_root):
    scene = with_annotated_boxes(cached(pair_root)[0][0])
    half = without_detections(scene)
    twice = half._replace(number=7)
    found = [score(scenes, MATCHER, SETTINGS).metrics for scenes in ([scene, twice], [half, scene._replace(number=7)])]
    assert found[0]["detection/coco_map"] == pytest.approx(1)
    assert found[1]["detection/coco_map"] == 0


def test_of_a_view_in_two_portions_the_first_counts(pair_root, monkeypatch):
    monkeypatch.setattr(known, "PORTION", 1)
    scene = with_annotated_boxes(cached(pair_root)[0][0])
    half = without_detections(scene)
    found = [
        score(order, MATCHER, SETTINGS).metrics
        for order in ([scene, half._replace(number=7)], [half, scene._replace(number=7)])
    ]
    assert found[0]["detection/ap50"] == found[0]["detection/coco_map"] == pytest.approx(1)
    assert found[1]["detection/ap50"] == found[1]["detection/coco_map"] == 0


def test_difficult_objects_are_neither_hit_nor_missed(pair_root):
    scene = with_annotated_boxes(cached(pair_root)[0][0])
    views = tuple(
        view._replace(truth=view.truth._replace(difficult=np.arange(len(view.truth.ids)) == 0)) for view in scene.views
    )
    metrics = score([scene._replace(views=views)], MATCHER, SETTINGS).metrics
    assert metrics["detection/coco_map"] == pytest.approx(1)
    assert metrics["reid/f1"] == 1


def test_without_embeddings_there_is_no_row_for_appearance(pair_root):
    scenes, _ = collected(pair_root, "model.appearance=null")
    assert [row.baseline.name for row in score(scenes, MATCHER, SETTINGS).baselines] == [
        baseline.name for baseline in BASELINES if baseline.name != "appearance"
    ]
