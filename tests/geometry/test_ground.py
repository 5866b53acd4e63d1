import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from crossview.geometry.camera import Camera, ground_point, project_point
from crossview.geometry.ground import FootSigma, corrected, ground_points
from crossview.geometry.location import confidence_square
from tests.geometry.standing_pairs import HEIGHT, WIDTH, boxes, camera, objects


def box_of_foot(x, y):
    return np.array([[x - 10.0, y - 60.0, x + 10.0, y]])


def test_worked_numbers():
    # 45 degrees down is 75 rows below the horizon: as far away as the camera is high. North is the centre column.
    found = ground_points(camera(), box_of_foot(300.0, 225.0), FootSigma(2.0, width_share=0.1, height_share=0.05))
    assert_allclose(found.points, [[0.0, 3.0]], atol=1e-12)
    assert_allclose(found.distance, 3.0)
    assert_allclose(found.bearing, 0.0, atol=1e-12)
    # A pixel: (9 + 9) / 3 * pi / 300 m along, 3 * 2 pi / 600 m across; the box is 20 x 60.
    assert_allclose(found.per_pixel, [[6 * math.pi / 300, 3 * math.pi / 300]])
    assert_allclose(found.along, 6 * math.pi / 300 * math.hypot(2, 3))
    assert_allclose(found.across, 3 * math.pi / 300 * math.hypot(2, 2))
    assert_allclose(found.covariance()[0], np.diag([found.across[0] ** 2, found.along[0] ** 2]), atol=1e-12)
    hidden = found.with_foot(FootSigma(2.0, hidden_share=0.1))
    assert_allclose(hidden.along_hidden, 6 * math.pi / 300 * math.hypot(2, 6))


@settings(max_examples=50)
@given(x=st.floats(0, WIDTH), y=st.floats(160, 290), yaw=st.floats(-4, 4), height=st.floats(1, 6))
def test_a_pixel_moves_a_point_by_its_worth(x, y, yaw, height):
    view = camera(2.0, -1.0, yaw, height)
    step = 1e-4
    found = ground_points(view, box_of_foot(x, y), FootSigma(1.0))
    here, there = (
        ground_point(view, torch.tensor(xy, dtype=torch.float64))[0].numpy()
        for xy in ([[x, y], [x, y]], [[x, y + step], [x + step, y]])
    )
    moved = np.linalg.norm(there - here, axis=-1) / step
    assert_allclose(moved, found.per_pixel[0], rtol=1e-3)


def test_moving_the_points_is_moving_the_camera():
    feet, widths, heights = objects(0, 8)
    view = camera(1.0, 2.0, 0.7)
    seen = boxes(view, feet, widths, heights)
    correction = np.array([0.5, -0.8, 0.1])
    moved = ground_points(view, seen, FootSigma(1.0)).moved(correction)
    again = ground_points(corrected(view, correction), seen, FootSigma(1.0))
    assert_allclose(moved.points, again.points, atol=1e-9)
    assert_allclose(moved.covariance(), again.covariance(), atol=1e-9)
    assert_allclose(moved.camera, again.camera)


def test_jacobian_is_the_derivative():
    feet, widths, heights = objects(1, 5)
    found = ground_points(camera(), boxes(camera(), feet, widths, heights), FootSigma(1.0))
    step = 1e-6
    columns = [(found.moved(step * unit).points - found.points) / step for unit in np.eye(3)]
    assert_allclose(found.pose_jacobian(), np.stack(columns, axis=-1), atol=1e-4)


def test_boxes_across_the_seam_have_the_same_ground():
    view = camera()
    inside = ground_points(view, np.array([[-20.0, 100.0, 30.0, 180.0]]), FootSigma(1.0))
    beyond = ground_points(view, np.array([[580.0, 100.0, 630.0, 180.0]]), FootSigma(1.0))
    assert_allclose(inside.points, beyond.points, atol=1e-9)
    assert_allclose(np.cos(inside.bearing - beyond.bearing), 1.0)


def test_no_ground_point_is_marked_and_finite():
    rows = np.array([[10.0, 100.0, 30.0, 150.0], [10.0, 100.0, 30.0, 140.0], [10.0, 100.0, 30.0, 170.0]])
    found = ground_points(camera(), rows, FootSigma(1.0))
    assert found.valid.tolist() == [False, False, True]
    assert all(np.isfinite(field).all() for field in found)


def test_single_precision_cameras_and_no_boxes():
    single = Camera(*(field.float() for field in camera(yaw=0.3)))
    assert ground_points(single, np.zeros((0, 4)), FootSigma(1.0)).points.shape == (0, 2)
    found = ground_points(single, box_of_foot(200.0, 200.0), FootSigma(1.0))
    xy, valid = project_point(camera(yaw=0.3), torch.from_numpy(found.points))
    assert valid.all()
    assert_allclose(xy, [[200.0, 200.0]], atol=1e-3)
    assert corrected(single, np.zeros(3)).position.dtype == torch.float32


def test_shapes_are_checked():
    stacked = Camera(*(torch.stack((field, field)) for field in camera()))
    with pytest.raises(ValueError, match=r"cameras \(2,\)"):
        ground_points(stacked, np.zeros((1, 4)), FootSigma(1.0))
    with pytest.raises(ValueError, match=r"boxes \(1, 3\)"):
        ground_points(camera(), np.zeros((1, 3)), FootSigma(1.0))


@pytest.mark.parametrize(
    "values",
    [{"pixels": 0.0}, {"pixels": 1.0, "width_share": -0.1}, {"pixels": 1.0, "hidden_probability": 0.5}],
)
def test_bad_sigmas_are_refused(values):
    with pytest.raises(ValueError, match="expected"):
        FootSigma(**values)


def test_taking_and_reshaping_keep_rows():
    feet, widths, heights = objects(2, 6)
    found = ground_points(camera(), boxes(camera(), feet, widths, heights), FootSigma(1.0))
    rows = np.array([4, 0])
    assert_allclose(found.take(rows).points, found.points[rows])
    assert found.reshaped(-1, 1).points.shape == (6, 1, 2)
    assert found.reshaped(1, -1).valid.shape == (1, 6)
    assert HEIGHT * 2 == WIDTH


@pytest.mark.parametrize("freedom", [2.0, 4.0, 30.0])
def test_normal_ellipses_hold_as_much_of_students_t_as_they_say(freedom):
    ground = ground_points(camera(0, 0, 0.3), np.array([[280.0, 100.0, 320.0, 200.0]]), FootSigma(1.0))
    normal = ground.as_normal(freedom)
    rng = np.random.default_rng(0)
    scale = np.sqrt(rng.chisquare(freedom, 40_000) / freedom)
    along, across = rng.standard_normal((2, 40_000)) / scale * np.array([ground.along, ground.across])
    square = (along / normal.along) ** 2 + (across / normal.across) ** 2
    assert_allclose(np.mean(square <= confidence_square(0.9)), 0.9, atol=0.006)
    assert_allclose(normal.along_hidden / ground.along_hidden, normal.along / ground.along)


def test_feet_that_are_normal_stay_as_they_are():
    ground = ground_points(camera(0, 0, 0.3), np.array([[280.0, 100.0, 320.0, 200.0]]), FootSigma(1.0))
    assert ground.as_normal(math.inf) is ground
    assert_allclose(ground.as_normal(1e9).along, ground.along, rtol=1e-6)
