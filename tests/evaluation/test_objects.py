"""The objects of all pairs, each once."""

import json

import numpy as np
import pytest

from crossview.evaluation.geojson import write_geojson
from crossview.evaluation.objects import fused, map_objects
from crossview.geometry.frames import to_latlng, to_local
from tests.evaluation.street import ORIGIN, TREES, found, pair


def places(objects):
    return np.array([to_local(each.latlng, ORIGIN) for each in objects])


def trees_of(objects):
    """The tree that each object is at."""
    gaps = np.linalg.norm(places(objects)[:, None] - TREES, axis=-1)
    assert (gaps.min(axis=1) < 0.3).all()
    return gaps.argmin(axis=1).tolist()


def test_a_chain_of_pairs_makes_one_object_of_a_tree():
    objects = found(pair(0, 0, 1), pair(1, 1, 2), pair(2, 2, 3))
    assert sorted(trees_of(objects)) == [0, 1, 2, 3]
    for each in objects:
        assert [sighting.view for sighting in each.sightings] == [0, 1, 2, 3]
        assert each.probability > 0.9


def test_boxes_are_pixels_of_the_image_files():
    scene = pair(0, 0, 1)
    for each in found(scene):
        for sighting in each.sightings:
            view = scene.views[sighting.view]
            assert (np.abs(view.detections.boxes * 2 - sighting.box).max(axis=1) < 1e-3).any()


def test_pairs_without_a_common_view_meet_at_the_same_place():
    objects = found(pair(0, 0, 1), pair(1, 2, 3))
    assert sorted(trees_of(objects)) == [0, 1, 2, 3]
    assert all(len(each.sightings) == 4 for each in objects)


def test_other_classes_at_the_same_place_stay_apart():
    other = {"labels": (2, 2, 2, 2)}
    objects = found(pair(0, 0, 1), pair(1, 2, 3, one=other, two=other))
    assert sorted(trees_of(objects)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(each.label for each in objects) == [1] * 4 + [2] * 4


def test_what_one_view_sees_is_an_object_too():
    objects = found(pair(0, 0, 1, two={"seen": (0, 1)}))
    assert sorted(trees_of(objects)) == [0, 1, 2, 3]
    by_tree = dict(zip(trees_of(objects), objects, strict=True))
    assert [len(by_tree[tree].sightings) for tree in range(4)] == [2, 2, 1, 1]
    assert by_tree[2].probability == 0.0
    areas = [np.linalg.det(by_tree[tree].covariance) for tree in range(4)]
    assert max(areas[:2]) < min(areas[2:])


def test_two_detections_of_a_view_are_never_one_object():
    scene = pair(0, 0, 1)
    view = scene.views[1]
    twice = view.detections.take(np.array([0, 0, 1, 2, 3]))
    twice.boxes[1] += 0.2
    scene = scene._replace(views=(scene.views[0], view._replace(detections=twice)))
    objects = found(scene)
    assert sorted(trees_of(objects)) == [0, 0, 1, 2, 3]
    for each in objects:
        views = [sighting.view for sighting in each.sightings]
        assert len(set(views)) == len(views)


def test_unsure_detections_are_left_out():
    assert found(pair(0, 0, 1, one={"score_of": 0.1}, two={"score_of": 0.1})) == []
    assert map_objects([], [], 0.3, 0.2) == []


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
    for number, (feature, each) in enumerate(zip(layer["features"], objects, strict=True)):
        assert (feature["type"], feature["id"]) == ("Feature", number)
        lng, lat = feature["geometry"]["coordinates"]
        assert np.linalg.norm(to_local([lat, lng], each.latlng)) < 0.002
        told = feature["properties"]
        assert (told["class"], told["views"], told["score"]) == ("Straßenbaum", 3, pytest.approx(0.9))
        assert [sighting["view"] for sighting in told["sightings"]] == ["view0", "view1", "view2"]
        assert 0 < told["ellipse_minor_m"] <= told["ellipse_major_m"]
        assert 0 <= told["ellipse_bearing_deg"] <= 180


def test_an_empty_map_is_geojson_too(tmp_path):
    write_geojson(tmp_path / "objects.geojson", [], ["tree"])
    assert json.loads((tmp_path / "objects.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
