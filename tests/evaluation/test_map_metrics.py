"""How good a map is."""

import numpy as np
import pytest

from crossview.evaluation.map_metrics import judge, map_metrics
from tests.evaluation.street import found, pair


def metrics_of(*scenes):
    objects = found(*scenes)
    return map_metrics(objects, judge(objects, scenes))


def measured(*scenes):
    """Precision, recall and the median error of the map of pairs."""
    return list(metrics_of(*scenes).values())


def test_a_perfect_map():
    metrics = metrics_of(pair(0, 0, 1), pair(1, 1, 2))
    assert list(metrics) == ["map/precision", "map/recall", "map/median_m"]
    assert metrics["map/precision"] == metrics["map/recall"] == 1.0
    assert metrics["map/median_m"] < 0.1


def test_a_tree_that_nobody_detects_is_missed():
    blind = {"seen": (0, 1, 2)}
    assert measured(pair(0, 0, 1, one=blind, two=blind))[:2] == [1.0, 0.75]


def test_a_tree_that_is_there_twice_is_once_too_often():
    scene = pair(0, 0, 1)
    view = scene.views[1]
    twice = view.detections.take(np.array([0, 0, 1, 2, 3]))
    twice.boxes[1] += 0.2
    assert measured(scene._replace(views=(scene.views[0], view._replace(detections=twice))))[:2] == [0.8, 1.0]


def test_the_class_is_that_of_the_object():
    unsure = {"labels": (1, 1, 1, 2), "score_of": 0.9}  # and the other view says class 1, less surely
    assert measured(pair(0, 0, 1, one=unsure, two={"score_of": 0.6}))[:2] == [0.75, 0.75]


def test_what_hits_nothing_or_another_class_is_wrong():
    other = {"labels": (1, 1, 1, 2)}
    assert measured(pair(0, 0, 1, one=other, two=other))[:2] == [0.75, 0.75]


def test_what_is_difficult_everywhere_or_without_identity_does_not_count():
    both = {"difficult": (0,), "nameless": (1,)}
    assert measured(pair(0, 0, 1, one=both, two=both))[:2] == [1.0, 1.0]
    blind = {**both, "seen": (0, 1, 2)}
    assert measured(pair(0, 0, 1, one=blind, two=blind))[:2] == [1.0, 0.5]
    assert measured(pair(0, 0, 1, one=both, two={"nameless": (1,)}))[:2] == [1.0, 1.0]  # difficult in one view only


def test_without_anything_there_is_nothing_to_measure():
    nothing = {"seen": (), "nameless": (0, 1, 2, 3)}
    assert np.isnan(measured(pair(0, 0, 1, one=nothing, two=nothing))).all()
    assert measured(pair(0, 0, 1, one={"seen": ()}, two={"seen": ()}))[1] == pytest.approx(0.0)


def test_of_two_that_show_the_same_tree_one_is_right():
    scene = pair(0, 0, 1, one={"difficult": (0,)}, two={"difficult": (0,)})
    view = scene.views[1]
    twice = view.detections.take(np.array([0, 1, 1, 2, 3]))
    twice.boxes[2] += 0.2
    scene = scene._replace(views=(scene.views[0], view._replace(detections=twice)))
    objects = found(scene)
    judged = judge(objects, [scene])
    assert len(objects.label) == 5
    assert (judged.right.sum(), judged.wrong.sum()) == (3, 1)  # the difficult one is neither
    assert not (judged.right & judged.wrong).any()
    assert objects.counts[judged.wrong].tolist() == [1]
    assert len(set(judged.identity[judged.right].tolist())) == 3


def test_without_annotations_nothing_is_judged():
    nameless = {"nameless": (0, 1, 2, 3)}
    scene = pair(0, 0, 1, one=nameless, two=nameless)
    judged = judge(found(scene), [scene])
    assert not judged.right.any()
    assert not judged.wrong.any()
