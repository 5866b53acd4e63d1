"""A first guess of a pair's relative pose, before anything is matched.

Convention:
    That of `crossview.geometry.ground`. K candidate poses; D1 and D2 objects.
    Trees along a street repeat: matching each to its neighbour may explain a wrong pose nearly as well as the true
    match explains the right one, and refining from there does not come back. So a grid of relative poses, as wide as
    the stated uncertainty, is scored first.
"""

import itertools
import math

import numpy as np

from crossview.geometry.ground import Array, GroundPoints, polar_variances
from crossview.geometry.relative_pose import PosePrior, robust_cost, robust_power

STEPS = (-1.3, 0.0, 1.3)  # of the grid, in sigmas of the relative pose, for each of its three numbers
GRID: Array = np.array(list(itertools.product(STEPS, repeat=3)))  # (K, 3) in sigmas of the relative pose
MOST_NATS = 600.0  # whose exponential is still a number
REMAINING_SHARE = 0.5  # of the poses' uncertainty between the grid's points


def candidate_poses(prior: PosePrior) -> Array:
    """Corrections (K, 2, 3) of both views, each moved half of the relative pose."""
    half = GRID * prior.sigmas() / np.sqrt(2)
    return np.stack((-half, half), axis=1)


def is_near(corrections: Array, candidate: Array, prior: PosePrior) -> bool:
    """Whether corrections (2, 3) mean a relative pose that is nearer to a candidate's than to those beside it."""
    apart = (corrections[1] - corrections[0]) - (candidate[1] - candidate[0])
    return bool((np.abs(apart) <= STEPS[-1] / 2 * np.sqrt(2) * prior.sigmas()).all())


def search_pose(
    view_1: GroundPoints,
    view_2: GroundPoints,
    prior: PosePrior,
    without_place: Array,
    freedom: float,
    weight: float = 1.0,
) -> Array:
    """The candidate poses (2, 3) for which the objects of view 1 find the best counterparts, the prior included.

    Two objects of view 1 may take the same counterpart, which is quick and good enough for a start.

    Args:
        view_1: D1 objects with the stated pose.
        view_2: D2 objects with the stated pose.
        prior: of each view's pose.
        without_place: (D1, D2) scores of all but the places, minus infinity where there is none.
        freedom: degrees of freedom of Student's t.
        weight: of the log density of the places.
    """
    candidates = candidate_poses(prior)
    pose = REMAINING_SHARE * prior.sigmas()
    variances = []
    for view in (view_1, view_2):
        along = view.along**2 + pose[0] ** 2
        across = view.across**2 + (pose[2] * view.distance) ** 2 + pose[0] ** 2
        variances.append(polar_variances(np.sin(view.bearing), np.cos(view.bearing), along, across))
    # The turn of the small ellipses with a candidate's heading is neglected.
    east, mixed, north = (first[:, None] + second for first, second in zip(*variances, strict=True))
    determinant = east * north - mixed * mixed
    points = [_candidate_points(view, candidates[:, number]) for number, view in enumerate((view_1, view_2))]
    x = points[0][0][:, :, None] - points[1][0][:, None, :]
    y = points[0][1][:, :, None] - points[1][1][:, None, :]
    squares = (north / determinant * x - 2 * mixed / determinant * y) * x + east / determinant * (y * y)
    total = _best_scores(without_place - 0.5 * weight * np.log(determinant), squares, freedom, weight).sum(axis=1)
    prior_cost = (GRID**2).sum(axis=1) / 2
    return np.asarray(candidates[int(np.argmax(total - prior_cost))])


def _best_scores(at_zero: Array, squares: Array, freedom: float, weight: float) -> Array:
    """The best score (K, D1), but at least 0, of each object of view 1 with any of view 2.

    Args:
        at_zero: (D1, D2) scores where the places agree.
        squares: (K, D1, D2) squared distances of the places.
        freedom: degrees of freedom of Student's t.
        weight: of the places.
    """
    if math.isinf(freedom) or at_zero.max(initial=0.0) >= MOST_NATS * weight * robust_power(freedom):
        return np.asarray((at_zero - weight * robust_cost(squares, freedom)).max(axis=2, initial=0.0))
    # The logarithm of `robust_cost` is taken of the best ones only: it is most of the time.
    power = weight * robust_power(freedom)
    ratio = np.exp(at_zero / power) / (1 + squares / freedom)
    return np.asarray(power * np.log(ratio.max(axis=2, initial=1.0)))


def _candidate_points(view: GroundPoints, corrections: Array) -> tuple[Array, Array]:
    """Metres east and north (K, D) of a view's objects after corrections (K, 3)."""
    bearing = view.bearing + corrections[:, 2:]
    camera = view.camera + corrections[:, :2]
    return camera[:, :1] + view.distance * np.sin(bearing), camera[:, 1:] + view.distance * np.cos(bearing)
