import numpy as np
import pytest

from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import BASELINES, MatchSettings, match_scenes, presence
from crossview.evaluation.records import with_annotated_boxes
from tests.evaluation.scenes import cached, without_detections

BY_NAME = {baseline.name: baseline for baseline in BASELINES}
MATCHER, SETTINGS = PairMatcher(), MatchSettings()


def match_scene(scene, *settings):
    return match_scenes([scene], *settings)[0]


@pytest.fixture
def perfect(pair_root):
    return [with_annotated_boxes(scene) for scene in cached(pair_root)[0]]


def test_after_looking_co_visibility_follows_bayes_rule():
    before = np.array([0.5, 0.5, 1.0, 0.0, np.nan], np.float32)
    found = presence(before, np.array([1]), np.array([0.7]), MatchSettings(recall=0.8))
    # Not found: 0.5 * 0.2 / (0.5 * 0.2 + 0.5) = 1/6. Found with 0.7: 0.7 + 0.3 / 6.
    np.testing.assert_allclose(found, [1 / 6, 0.75, 1.0, 0.0, 1 / 6], rtol=1e-6)


def test_pure_geometry_looks_at_nothing_else(perfect):
    scene = perfect[0]
    rng = np.random.default_rng(0)
    views = []
    for view in scene.views:
        noise = rng.normal(size=view.detections.embeddings.shape).astype(np.float16)
        boxes = view.detections._replace(embeddings=noise, placed=view.detections.placed + 5)
        views.append(view._replace(detections=boxes))
    plain = match_scene(scene, BY_NAME["geometry"], MATCHER, SETTINGS)
    changed = match_scene(scene._replace(views=tuple(views)), BY_NAME["geometry"], MATCHER, SETTINGS)
    assert len(plain.index_1) >= 2
    assert plain.index_2.tolist() == changed.index_2.tolist()
    assert plain.scores.tolist() == changed.scores.tolist()
    for one, two, view in zip(plain.detections, changed.detections, scene.views, strict=True):
        np.testing.assert_array_equal(one.placed, view.detections.geometry)
        np.testing.assert_array_equal(two.placed, view.detections.geometry)
        np.testing.assert_array_equal(one.covisibility, view.detections.covisibility)
    assert not plain.refined


def test_appearance_alone_does_not_look_at_places(perfect):
    scene = perfect[0]
    counts = [len(view.detections.labels) for view in scene.views]
    # Of each object a direction of its own; view 2 lists them the other way around.
    vectors = np.eye(max(counts), 128, dtype=np.float16)
    embeddings = (vectors[: counts[0]], vectors[: counts[1]][::-1])
    views = tuple(
        view._replace(detections=view.detections._replace(embeddings=own))
        for view, own in zip(scene.views, embeddings, strict=True)
    )
    found = match_scene(scene._replace(views=views), BY_NAME["appearance"], MATCHER, SETTINGS)
    assert found.index_1.tolist() == list(range(min(counts)))
    assert found.index_2.tolist() == [counts[1] - 1 - number for number in range(min(counts))]
    # A box goes to its match, and nowhere without one.
    np.testing.assert_array_equal(
        found.detections[0].placed[found.index_1], scene.views[1].detections.boxes[found.index_2]
    )
    assert found.detections[0].placed_valid.sum() == min(counts)


def test_everything_places_what_it_matched_at_the_common_position(perfect):
    found = match_scene(perfect[0], BY_NAME["everything"], MATCHER, SETTINGS)
    assert len(found.index_1) >= 2
    middle = [
        (boxes[:, 0] + boxes[:, 2]) / 2 for boxes in (found.detections[0].placed, perfect[0].views[1].detections.boxes)
    ]
    period = perfect[0].views[1].period
    gap = (middle[0][found.index_1] - middle[1][found.index_2] + period / 2) % period - period / 2
    assert abs(gap).max() < 3  # pixels of 600: annotated boxes are of whole pixels of 128


def test_without_refinement_the_networks_boxes_stay(perfect):
    found = match_scene(perfect[0], BY_NAME["unrefined"], MATCHER, SETTINGS)
    for boxes, view in zip(found.detections, perfect[0].views, strict=True):
        np.testing.assert_array_equal(boxes.placed, view.detections.placed)
        assert (boxes.covisibility != view.detections.covisibility).any()
    assert not found.refined


def test_the_learned_correction_moves_along_when_poses_stay(pair_root):
    scene = cached(pair_root)[0][0]
    views = []
    for view in scene.views:
        boxes = view.detections
        size = boxes.geometry[:, 2:] - boxes.geometry[:, :2]
        views.append(view._replace(detections=boxes._replace(placed=boxes.geometry + np.tile(0.25 * size, 2))))
    matcher = PairMatcher(refine=False, no_match_price=-1000.0, unlocated_price=-1000.0)  # nothing is matched
    found = match_scene(scene._replace(views=tuple(views)), BY_NAME["everything"], matcher, MatchSettings(min_score=0))
    assert not len(found.index_1)
    for boxes, view in zip(found.detections, views, strict=True):
        valid = view.detections.placed_valid
        assert valid.any()
        np.testing.assert_allclose(boxes.placed[valid], view.detections.placed[valid], rtol=1e-3, atol=0.05)


def test_a_box_that_only_the_network_places_stays_and_the_short_way_around_is_gone(pair_root):
    scene = cached(pair_root)[0][0]
    views = []
    for view, other in zip(scene.views, scene.views[::-1], strict=True):
        boxes = view.detections
        alone = np.arange(len(boxes.labels)) % 2 == 0
        around = boxes.geometry + np.array([other.period, 0, other.period, 0], np.float32)
        changed = boxes._replace(
            placed=np.where(alone[:, None], np.array([[5, 6, 17, 28]], np.float32), around),
            placed_valid=boxes.geometry_valid | alone,
            geometry_valid=boxes.geometry_valid & ~alone,
        )
        views.append(view._replace(detections=changed))
    matcher = PairMatcher(refine=False, no_match_price=-1000.0, unlocated_price=-1000.0)  # nothing is matched
    found = match_scene(scene._replace(views=tuple(views)), BY_NAME["everything"], matcher, MatchSettings(min_score=0))
    for boxes, view in zip(found.detections, views, strict=True):
        said = view.detections
        alone = said.placed_valid & ~said.geometry_valid
        assert alone.any()
        assert boxes.placed_valid[alone].all()
        np.testing.assert_array_equal(boxes.placed[alone], said.placed[alone])
        together = said.geometry_valid & said.placed_valid
        assert together.any()
        np.testing.assert_allclose(boxes.placed[together], said.geometry[together], rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("baseline", BASELINES, ids=list(BY_NAME))
def test_weak_detections_are_not_matched_but_stay(baseline, perfect):
    scene = perfect[0]
    weak = tuple(
        view._replace(detections=view.detections._replace(scores=np.full_like(view.detections.scores, 0.1)))
        for view in scene.views
    )
    found = match_scene(scene._replace(views=weak), baseline, MATCHER, MatchSettings(min_score=0.2))
    assert not len(found.index_1)
    assert [len(boxes.labels) for boxes in found.detections] == [len(view.detections.labels) for view in scene.views]
    assert not found.single[0].valid.any()


@pytest.mark.parametrize("baseline", BASELINES, ids=list(BY_NAME))
def test_no_detections_at_all(baseline, perfect):
    found = match_scene(without_detections(perfect[0]), baseline, MATCHER, SETTINGS)
    assert not len(found.index_1)
    assert [len(boxes.labels) for boxes in found.detections] == [0, 0]


@pytest.mark.parametrize("values", [{"min_score": -0.1}, {"min_score": 1.1}, {"recall": 1.0}, {"recall": -1.0}])
def test_bad_settings_are_refused(values):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        MatchSettings(**values)


@pytest.mark.parametrize("baseline", BASELINES, ids=list(BY_NAME))
def test_many_pairs_at_once_are_each_as_by_themselves(baseline, pair_root):
    scenes = cached(pair_root)[0]
    scenes = [scenes[0], without_detections(scenes[0]), with_annotated_boxes(scenes[-1]), *scenes]
    settings = MatchSettings(min_score=0.0)
    together = match_scenes(scenes, baseline, MATCHER, settings)
    assert len(together) == len(scenes)
    for scene, found in zip(scenes, together, strict=True):
        alone = match_scene(scene, baseline, MATCHER, settings)
        assert found.index_1.tolist() == alone.index_1.tolist()
        assert found.index_2.tolist() == alone.index_2.tolist()
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-9)
        for place, own in zip((found.location, *found.single), (alone.location, *alone.single), strict=True):
            np.testing.assert_allclose(place.east_north, own.east_north, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(place.covariance, own.covariance, rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(place.valid, own.valid)
        for boxes, expected in zip(found.detections, alone.detections, strict=True):
            np.testing.assert_allclose(boxes.placed, expected.placed, rtol=1e-6)
            np.testing.assert_array_equal(boxes.placed_valid, expected.placed_valid)
            np.testing.assert_allclose(boxes.covisibility, expected.covisibility, rtol=1e-6)


def test_no_pairs_have_no_matches():
    assert match_scenes([], BY_NAME["everything"], MATCHER, SETTINGS) == []
