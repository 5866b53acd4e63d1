import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from crossview.geometry.boxes import iou
from crossview.geometry.ground import FootSigma, corrected, ground_points
from crossview.geometry.projection import project_boxes
from crossview.geometry.relative_pose import PosePrior, fit_poses, refine_poses, robust_cost, stated_poses
from tests.geometry.standing_pairs import WIDTH, boxes, camera, objects, off

FOOT = FootSigma(0.5)
PRIOR = PosePrior(1.0, 0.03)
CAMERAS = camera(0.0, 0.0, 0.4), camera(2.0, 9.0, 1.1)


def scene(seed=0, count=8, error_1=(0.0, 0.0, 0.0), error_2=(0.0, 0.0, 0.0), jitter=0.0):
    """Stated cameras, boxes and matched ground points of a pair."""
    things = objects(seed, count)
    rng = np.random.default_rng(seed)
    stated = off(CAMERAS[0], *error_1), off(CAMERAS[1], *error_2)
    seen = [boxes(true, *things) + jitter * rng.standard_normal((count, 4)) for true in CAMERAS]
    return stated, seen, [ground_points(view, rows, FOOT) for view, rows in zip(stated, seen, strict=True)]


def placed_share(stated, seen, corrections=None):
    """Share of the boxes that geometry places with an overlap of more than a half, both directions."""
    corrections = np.zeros((2, 3)) if corrections is None else corrections
    views = [corrected(view, correction) for view, correction in zip(stated, corrections, strict=True)]
    shares = []
    for first, second in ((0, 1), (1, 0)):
        placed, valid = project_boxes(
            views[first].per_object(), views[second].per_object(), torch.from_numpy(seen[first])
        )
        overlap = iou(placed, torch.from_numpy(seen[second]), float(WIDTH))
        shares.append(((overlap > 0.5) & valid).double().mean())
    return float(np.mean(shares))


@settings(max_examples=40)
@given(shift=st.tuples(st.floats(-2, 2), st.floats(-2, 2)), turn=st.floats(-0.08, 0.08), seed=st.integers(0, 100))
def test_recovers_the_relative_pose(shift, turn, seed):
    # Only camera 2 is off; a wide prior leaves the observations to decide.
    _, _, (view_1, view_2) = scene(seed, error_2=(*shift, turn))
    fit = fit_poses(view_1, view_2, PosePrior(50.0, 2.0))
    moved_1, moved_2 = view_1.moved(fit.corrections[0]), view_2.moved(fit.corrections[1])
    assert_allclose(moved_1.points, moved_2.points, atol=0.02)
    assert_allclose(fit.corrections[1, 2] - fit.corrections[0, 2], -turn, atol=2e-3)


def test_a_shift_is_shared_between_equal_cameras():
    # Known headings: 1 m between the points, each camera takes half. Its variance: half of 2 * 1 m^2 is not seen.
    _, _, (view_1, view_2) = scene(count=20, error_2=(1.0, 0.0, 0.0))
    fit = fit_poses(view_1, view_2, PosePrior(1.0, 0.0))
    assert_allclose(fit.corrections, [[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0]], atol=0.01)
    assert_allclose(fit.prior_square, 0.5, atol=0.01)
    east = fit.covariance[np.ix_([0, 3], [0, 3])]
    assert_allclose(east.sum(), 2.0, rtol=0.01)  # of both moving together: as before
    assert east[0, 0] + east[1, 1] - 2 * east[0, 1] < 0.01  # of the distance between them: known now
    assert_allclose(fit.covariance[2], 0.0, atol=1e-12)


def test_known_poses_do_not_move():
    _, _, (view_1, view_2) = scene(error_2=(0.3, 0.2, 0.01), jitter=0.3)
    found = refine_poses(view_1, view_2, PosePrior(0.0, 0.0))
    assert not found.refined
    assert "known exactly" in found.reason
    assert_allclose(found.corrections, 0.0)
    assert_allclose(found.covariance, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_refining_places_better(seed):
    stated, seen, views = scene(seed, 10, (1.0, 0.4, 0.03), (-0.7, -1.0, -0.04), jitter=0.2)
    found = refine_poses(views[0], views[1], PRIOR)
    assert found.refined
    assert found.reason == ""
    assert placed_share(stated, seen) < 0.9
    assert placed_share(stated, seen, found.corrections) > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_exact_poses_are_not_made_worse(seed):
    stated, seen, views = scene(seed, 10, jitter=0.3)
    found = refine_poses(views[0], views[1], PRIOR)
    assert placed_share(stated, seen) == 1.0
    assert placed_share(stated, seen, found.corrections) == 1.0


@pytest.mark.parametrize("seed", range(8))
def test_wrong_matches_are_not_trusted(seed):
    # Everything is matched with something else, as a malicious matcher would.
    stated, seen, (view_1, view_2) = scene(seed, 10)
    found = refine_poses(view_1, view_2.take(np.roll(np.arange(10), 1)), PRIOR)
    assert not found.refined
    assert found.reason
    assert_allclose(found.corrections, 0.0)
    assert_allclose(found.covariance, PRIOR.covariance())
    assert placed_share(stated, seen, found.corrections) == placed_share(stated, seen) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_some_wrong_matches_do_no_harm(seed):
    stated, seen, (view_1, view_2) = scene(seed, 12, error_2=(1.2, -0.8, 0.04))
    rows = np.arange(12)
    rows[:3] = rows[[1, 2, 0]]
    found = refine_poses(view_1, view_2.take(rows), PRIOR)
    assert placed_share(stated, seen, found.corrections) >= placed_share(stated, seen)
    assert found.refined
    assert placed_share(stated, seen, found.corrections) > 0.99


def test_a_correction_far_outside_of_the_prior_is_not_trusted():
    _, _, views = scene(error_2=(9.0, 0.0, 0.0))
    found = refine_poses(views[0], views[1], PosePrior(1.0, 0.01))
    assert not found.refined
    assert "sigma from the stated poses" in found.reason


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_matches_leave_the_poses_alone(count):
    _, _, views = scene(count=8, error_2=(1.0, 0.0, 0.0))
    rows = np.arange(count)
    found = refine_poses(views[0].take(rows), views[1].take(rows), PRIOR)
    assert not found.refined
    assert found.reason.startswith(f"{count} matches")
    assert_allclose(found.corrections, 0.0)


def test_two_matches_are_enough():
    _, _, views = scene(count=2, error_2=(0.8, 0.3, 0.02))
    found = refine_poses(views[0], views[1], PRIOR)
    assert found.refined
    assert_allclose(found.relative, found.corrections[1] - found.corrections[0])


def test_the_same_input_gives_the_same_result():
    _, _, views = scene(error_1=(0.5, 0.5, 0.02), jitter=0.5)
    first, second = refine_poses(views[0], views[1], PRIOR), refine_poses(views[0], views[1], PRIOR)
    assert (first.corrections == second.corrections).all()
    assert (first.covariance == second.covariance).all()


def test_the_covariance_is_honest():
    # Over many noisy pairs the squared distance of the true corrections has the mean of a chi-squared of six.
    rng = np.random.default_rng(0)
    squares = []
    for seed in range(60):
        errors = np.array([(*rng.normal(0, 1, 2), rng.normal(0, 0.03)) for _ in range(2)])
        _, _, views = scene(seed, 10, errors[0], errors[1], jitter=0.5)
        # The feet are the mean of two jittered corners in x: half of the variance.
        fit = fit_poses(views[0], views[1], PRIOR, freedom=math.inf)
        gap = (fit.corrections + errors).ravel()
        squares.append(gap @ np.linalg.solve(fit.covariance, gap))
    assert 4.5 < np.mean(squares) < 7.5


def test_robust_cost():
    squares = np.array([0.0, 1.0, 100.0])
    assert_allclose(robust_cost(squares, math.inf), squares / 2)
    assert_allclose(robust_cost(squares, 4.0), 3 * np.log1p(squares / 4))
    assert_allclose(robust_cost(squares, 4.0, dimensions=1), 2.5 * np.log1p(squares / 4))


def test_bad_priors_are_refused():
    with pytest.raises(ValueError, match="finite sigmas"):
        PosePrior(-1.0, 0.1)
    with pytest.raises(ValueError, match="finite sigmas"):
        PosePrior(1.0, math.inf)
    assert_allclose(stated_poses(PosePrior(2.0, 0.1), "why").covariance, np.diag([4, 4, 0.01, 4, 4, 0.01]))
