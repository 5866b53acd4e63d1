import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from crossview.geometry.ground import FootSigma, ground_points
from crossview.geometry.location import (
    Location,
    confidence_square,
    error_ellipse,
    is_inside,
    locate_pairs,
    locate_single,
    place_at,
)
from crossview.geometry.relative_pose import PosePrior, refine_poses
from tests.geometry.standing_pairs import boxes, camera, objects, off

FOOT = FootSigma(0.5)
EXACT = np.zeros((6, 6))
CAMERAS = camera(0.0, 0.0, 0.4), camera(2.0, 9.0, 1.1)


def seen(things, cameras=CAMERAS, foot=FOOT):
    return [ground_points(view, boxes(view, *things), foot) for view in cameras]


def test_ellipse_of_known_covariance():
    assert_allclose(confidence_square(0.9), 4.605170185988092)
    found = error_ellipse(np.array([[[4.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 9.0]], [[2.0, 1.0], [1.0, 2.0]]]))
    root = math.sqrt(confidence_square(0.9))
    assert_allclose(found.semi_major, root * np.array([2.0, 3.0, math.sqrt(3)]))
    assert_allclose(found.semi_minor, root * np.array([1.0, 1.0, 1.0]))
    # East, north, north-east.
    assert_allclose(np.sin(2 * found.bearing), [0.0, 0.0, 1.0], atol=1e-12)
    assert_allclose(np.cos(2 * found.bearing), [-1.0, 1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 90.0])
def test_confidences_are_shares(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        confidence_square(confidence)


def test_exact_boxes_give_exact_positions():
    things = objects(0, 12)
    views = seen(things)
    for found in (locate_pairs(views[0], views[1], EXACT), locate_single(views[0], np.zeros((3, 3)))):
        assert found.valid.all()
        assert_allclose(found.east_north, things[0], atol=1e-8)


def test_the_fusion_of_two_equal_views():
    # Cameras 20 m south and north of the object: the same ellipse twice, half of the covariance.
    things = np.array([[0.0, 0.0]]), np.array([3.0]), np.array([6.0])
    cameras = camera(0.0, -20.0), camera(0.0, 20.0)
    views = seen(things, cameras)
    single, pair = locate_single(views[0], np.zeros((3, 3))), locate_pairs(views[0], views[1], EXACT)
    along, across = (409 / 3 * math.pi / 300 * 0.5, 20 * 2 * math.pi / 600 * 0.5)
    assert_allclose(single.covariance[0], np.diag([across**2, along**2]), atol=1e-9)
    assert_allclose(pair.covariance[0], np.diag([across**2, along**2]) / 2, atol=1e-9)


def test_two_bearings_beat_one_distance():
    # Far away to the north of camera 1, abeam of camera 2: the second bearing tells the distance.
    things = np.array([[0.0, 40.0]]), np.array([3.0]), np.array([6.0])
    views = seen(things, (camera(0.0, 0.0), camera(-8.0, 40.0)))
    single, pair = locate_single(views[0], np.zeros((3, 3))), locate_pairs(views[0], views[1], EXACT)
    assert error_ellipse(single.covariance).semi_major > 5 * error_ellipse(pair.covariance).semi_major
    nearer = error_ellipse(locate_single(views[1], np.zeros((3, 3))).covariance)
    assert error_ellipse(pair.covariance).semi_major < nearer.semi_major


def test_a_pose_error_of_both_views_stays():
    # Both cameras shifted together by an unknown metre: no view tells.
    things = objects(1, 4)
    together = np.zeros((6, 6))
    for one in (0, 3):
        for other in (0, 3):
            together[one, other] = together[one + 1, other + 1] = 1.0
    views = seen(things)
    exact, found = (locate_pairs(views[0], views[1], poses) for poses in (EXACT, together))
    assert_allclose(found.covariance, exact.covariance + np.eye(2), atol=1e-9)
    single = locate_single(seen(things)[0], together[:3, :3])
    assert (error_ellipse(single.covariance).semi_major > error_ellipse(found.covariance).semi_major).all()


@pytest.mark.parametrize("freedom_of_poses", [False, True])
def test_ninety_of_a_hundred_are_inside(freedom_of_poses):
    rng = np.random.default_rng(0)
    prior = PosePrior(1.0, 0.03)
    inside, inside_single = [], []
    for seed in range(80):
        feet, widths, heights = objects(seed, 10)
        errors = [
            (*rng.normal(0, 1, 2), rng.normal(0, 0.03)) if freedom_of_poses else (0.0, 0.0, 0.0) for _ in range(2)
        ]
        views = []
        for true, error in zip(CAMERAS, errors, strict=True):
            rows = boxes(true, feet, widths, heights)
            jitter = 0.5 * rng.standard_normal((10, 2))
            rows += jitter[:, [0, 1, 0, 1]]
            views.append(ground_points(off(true, *error), rows, FOOT))
        covariance = EXACT
        if freedom_of_poses:
            pose = refine_poses(views[0], views[1], prior)
            assert pose.refined, pose.reason
            covariance = pose.covariance
            views = [view.moved(correction) for view, correction in zip(views, pose.corrections, strict=True)]
        both = views[0].valid & views[1].valid
        inside.append(is_inside(locate_pairs(views[0], views[1], covariance), feet)[both])
        inside_single.append(is_inside(locate_single(views[0], covariance[:3, :3]), feet)[views[0].valid])
    assert 0.85 < np.concatenate(inside).mean() < 0.95
    assert 0.85 < np.concatenate(inside_single).mean() < 0.95


def test_a_hidden_foot_is_overruled_by_the_other_view():
    things = np.array([[6.0, 4.0]]), np.array([3.0]), np.array([7.0])
    foot = FootSigma(0.5, hidden_share=0.2, hidden_probability=0.1)
    rows = [boxes(view, *things) for view in CAMERAS]
    rows[0][0, 3] -= 8.0  # a parked car
    views = [ground_points(view, box, foot) for view, box in zip(CAMERAS, rows, strict=True)]
    naive, found = (
        locate_pairs(views[0], views[1], EXACT),
        locate_pairs(views[0], views[1], EXACT, foot.hidden_probability),
    )
    errors = [float(np.linalg.norm(location.east_north - things[0])) for location in (naive, found)]
    assert errors[1] < 0.3 < np.linalg.norm(views[0].points - things[0])
    assert errors[1] < errors[0] / 10
    # The mended position mends the placed box too.
    placed, valid = place_at(*CAMERAS, rows[0], found.east_north)
    assert valid.all()
    assert_allclose(placed, rows[1], atol=4.0)


def test_placing_at_the_own_foot_is_the_projection():
    things = objects(3, 6)
    rows = [boxes(view, *things) for view in CAMERAS]
    placed, valid = place_at(*CAMERAS, rows[0], things[0])
    assert valid.all()
    assert_allclose(placed, rows[1], atol=1e-6)
    none, _ = place_at(*CAMERAS, np.zeros((0, 4)), np.zeros((0, 2)))
    assert none.shape == (0, 4)


def test_one_view_without_ground_point_takes_the_other():
    things = np.array([[6.0, 4.0]]), np.array([3.0]), np.array([7.0])
    rows = [boxes(view, *things) for view in CAMERAS]
    above = rows[0].copy()
    above[0, 3] = 149.0
    nothing = ground_points(CAMERAS[0], above, FOOT)
    view = ground_points(CAMERAS[1], rows[1], FOOT)
    for found in (locate_pairs(nothing, view, EXACT), locate_single(view, np.zeros((3, 3)))):
        assert found.valid.all()
        assert_allclose(found.east_north, things[0], atol=1e-8)
    lost = locate_pairs(nothing, nothing, EXACT)
    assert not lost.valid.any()
    assert np.isfinite(lost.east_north).all()
    assert not is_inside(lost, lost.east_north).any()
    assert not place_at(*CAMERAS, above, things[0])[1].any()


def test_latitude_and_longitude_are_double():
    origin = (34.156992, -118.165118)
    found = Location(np.array([[0.0, 111.19492664455873]]), np.eye(2)[None], np.array([True])).latlng(origin)
    assert found.dtype == np.float64
    assert_allclose(found, [[34.157992, -118.165118]], atol=1e-9)  # a thousandth of a degree on this sphere
