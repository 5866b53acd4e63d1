import numpy as np
from numpy.testing import assert_allclose

from crossview.dual.pose_search import candidate_poses, search_pose
from crossview.geometry.ground import FootSigma, ground_points
from crossview.geometry.relative_pose import PosePrior
from tests.geometry.standing_pairs import boxes, camera, objects, off

PRIOR = PosePrior(3.0, 0.1)
CAMERAS = camera(0.0, 0.0, 0.4), camera(2.0, 9.0, 1.1)


def test_candidates_share_the_relative_pose():
    found = candidate_poses(PRIOR)
    assert found.shape == (27, 2, 3)
    assert_allclose(found[:, 0], -found[:, 1])
    relative = (found[:, 1] - found[:, 0]) / (np.sqrt(2) * PRIOR.sigmas())
    assert_allclose(np.unique(relative.round(9)), [-1.3, 0.0, 1.3])


def test_finds_the_candidate_that_is_right():
    things = objects(0, 14)
    for truth in (0, 5, 13, 26):
        correction = candidate_poses(PRIOR)[truth]
        views = []
        for true, part in zip(CAMERAS, correction, strict=True):
            # The error is the correction's opposite, up to the turn of the camera about itself.
            views.append(ground_points(off(true, *-part), boxes(true, *things), FootSigma(0.5)))
        # A price high enough that places decide.
        found = search_pose(views[0], views[1], PRIOR, np.full((14, 14), 6.0), 4.0)
        assert_allclose(found, correction, atol=1e-12)


def test_nothing_to_match_keeps_the_stated_poses():
    things = objects(0, 5)
    views = [ground_points(true, boxes(true, *things), FootSigma(0.5)) for true in CAMERAS]
    assert not search_pose(views[0], views[1], PRIOR, np.full((5, 5), -np.inf), 4.0).any()
    assert not search_pose(views[0], views[1].take(np.arange(0)), PRIOR, np.zeros((5, 0)), 4.0).any()


def test_places_of_hardly_any_weight_keep_the_stated_poses():
    things = objects(0, 14)
    views = [ground_points(true, boxes(true, *things), FootSigma(0.5)) for true in CAMERAS]
    for weight in (0.0, 1e-4, 0.003, 0.03):
        assert not search_pose(views[0], views[1], PRIOR, np.full((14, 14), 8.0), 4.0, weight).any()
