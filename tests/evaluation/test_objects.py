"""The objects of all pairs, each once."""

import json

import numpy as np

from crossview.evaluation.geojson import write_geojson
from crossview.evaluation.objects import fused
from crossview.geometry.frames import to_latlng, to_local
from tests.evaluation.street import ORIGIN, TREES, found, pair


def trees_of(objects):
    """The tree that each object is at."""
    gaps = np.linalg.norm(to_local(objects.latlng, ORIGIN)[:, None] - TREES, axis=-1)
    assert (gaps.min(axis=1) < 0.3).all()
    return gaps.argmin(axis=1).tolist()


def views_of(objects):
    """The views of each object."""
    return [part.tolist() for part in np.split(objects.sightings.view, np.cumsum(objects.counts)[:-1])]


def test_a_chain_of_pairs_makes_one_object_of_a_tree():
    objects = found(pair(0, 0, 1), pair(1, 1, 2), pair(2, 2, 3))
    assert sorted(trees_of(objects)) == [0, 1, 2, 3]
    assert views_of(objects) == [[0, 1, 2, 3]] * 4
    assert (objects.probability > 0.9).all()


def test_boxes_are_pixels_of_the_image_files():
    scene = pair(0, 0, 1)
    seen = found(scene).sightings
    for view, box in zip(seen.view, seen.box, strict=True):
        assert (np.abs(scene.views[view].detections.boxes * 2 - box).max(axis=1) < 1e-3).any()


def test_pairs_without_a_common_view_meet_at_the_same_place():
    objects = found(pair(0, 0, 1), pair(1, 2, 3))
    assert sorted(trees_of(objects)) == [0, 1, 2, 3]
    assert objects.counts.tolist() == [4] * 4


def test_other_classes_at_the_same_place_stay_apart():
    other = {"labels": (2, 2, 2, 2)}
    objects = found(pair(0, 0, 1), pair(1, 2, 3, one=other, two=other))
    assert sorted(trees_of(objects)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(objects.label.tolist()) == [1] * 4 + [2] * 4


def test_what_one_view_sees_is_an_object_too():
    objects = found(pair(0, 0, 1, two={"seen": (0, 1)}))
    order = np.argsort(trees_of(objects))
    assert objects.counts[order].tolist() == [2, 2, 1, 1]
    assert objects.probability[order[2:]].tolist() == [0.0, 0.0]
    areas = np.linalg.det(objects.covariance[order])
    assert areas[:2].max() < areas[2:].min()


def test_two_detections_of_a_view_are_never_one_object():
    scene = pair(0, 0, 1)
    view = scene.views[1]
    twice = view.detections.take(np.array([0, 0, 1, 2, 3]))
    twice.boxes[1] += 0.2
    objects = found(scene._replace(views=(scene.views[0], view._replace(detections=twice))))
    assert sorted(trees_of(objects)) == [0, 0, 1, 2, 3]
    assert all(len(set(views)) == len(views) for views in views_of(objects))


def test_unsure_detections_are_left_out():
    unsure = {"score_of": 0.1}
    objects = found(pair(0, 0, 1, one=unsure, two=unsure))
    assert len(objects.label) == len(objects.sightings.view) == 0
    assert objects.best_scores().tolist() == []


def test_positions_of_unknown_dependence_are_not_counted_twice():
    latlng = np.repeat(to_latlng(np.array([[3.0, 4.0]]), ORIGIN), 3, axis=0)
    covariances = np.repeat(np.diag([4.0, 1.0])[None], 3, axis=0)
    mean, covariance = fused(latlng, covariances, np.array([0]))
    np.testing.assert_allclose(mean, latlng[:1], atol=1e-12)
    np.testing.assert_allclose(covariance, covariances[:1])


def test_the_surer_position_of_each_object_counts_more():
    latlng = to_latlng(np.array([[0.0, 0.0], [4.0, 0.0], [900.0, 7.0]]), ORIGIN)
    mean, covariance = fused(latlng, np.stack((np.eye(2), 3 * np.eye(2), 5 * np.eye(2))), np.array([0, 2]))
    np.testing.assert_allclose(to_local(mean, ORIGIN), [[1.0, 0.0], [900.0, 7.0]], atol=1e-6)
    np.testing.assert_allclose(covariance, [1.5 * np.eye(2), 5 * np.eye(2)])


def test_a_map_is_geojson(tmp_path):
    objects = found(pair(0, 0, 1), pair(1, 1, 2))
    write_geojson(tmp_path / "objects.geojson", objects, ["Straßenbaum"])
    layer = json.loads((tmp_path / "objects.geojson").read_text(encoding="utf-8"))
    assert layer["type"] == "FeatureCollection"
    assert len(layer["features"]) == 4
    for number, feature in enumerate(layer["features"]):
        assert (feature["type"], feature["id"]) == ("Feature", number)
        lng, lat = feature["geometry"]["coordinates"]
        assert np.linalg.norm(to_local([lat, lng], objects.latlng[number])) < 0.002
        told = feature["properties"]
        assert (told["class"], told["views"], told["score"]) == ("Straßenbaum", 3, 0.9)
        assert told["match_score"] > 0.9
        assert [sighting["view"] for sighting in told["sightings"]] == ["view0", "view1", "view2"]
        assert np.allclose(told["sightings"][1]["box"], objects.sightings.box[3 * number + 1], atol=0.06)
        assert 0 < told["ellipse_minor_m"] <= told["ellipse_major_m"]
        assert 0 <= told["ellipse_bearing_deg"] <= 180


def test_an_empty_map_is_geojson_too(tmp_path):
    nothing = {"seen": ()}
    write_geojson(tmp_path / "objects.geojson", found(pair(0, 0, 1, one=nothing, two=nothing)), ["tree"])
    assert json.loads((tmp_path / "objects.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
