"""The poses of a pair's two cameras, refined by the ground points of the objects that both see.

Convention:
    That of `crossview.geometry.ground`: NumPy float64, corrections (east, north, clockwise) of each pose. Both
    corrections together are six numbers, view 1's first. M matches.
    Only three of the six are seen: the relative pose (two metres, one angle), as both cameras may move and turn
    together without any point noticing. The priors, which say how far the stated poses are usually off, settle the
    rest: of all the corrections that bring the points together the most likely one is taken, so that cameras of equal
    quality each take their half. The relative pose is the same as with camera 1 held fixed; the absolute one is
    better, being the mean of two positions.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crossview.geometry.ground import Array, GroundPoints, polar_variances

STEP_TOLERANCE = 1e-2  # prior sigmas; a fit that changes by less has arrived, far within what its points tell
COST_TOLERANCE = 1e-6  # nats; points that already agree fit equally well up to rounding
STATED = np.zeros((2, 3))  # corrections of both poses that leave them as they are stated
STATED.flags.writeable = False  # results share it
KNOWN_EXACTLY = "the stated poses are known exactly"  # a reason not to refine them
INLIER_SQUARE = -2.0 * math.log(0.01)  # squared Mahalanobis distance of two dimensions that 1 % of true matches exceed


@dataclass(frozen=True, slots=True)
class PosePrior:
    """How far the stated pose of each view is usually off; standard deviations.

    Attributes:
        position_sigma_m: metres, in east and in north.
        heading_sigma_rad: radians.
    """

    position_sigma_m: float
    heading_sigma_rad: float

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: a sigma is negative, infinite or not a number.
        """
        if not 0 <= self.position_sigma_m < math.inf or not 0 <= self.heading_sigma_rad < math.inf:
            raise ValueError(f"{self}: expected finite sigmas of 0 or more, metres and radians")

    def sigmas(self) -> Array:
        """Standard deviations (3,) of a correction."""
        return np.array((self.position_sigma_m, self.position_sigma_m, self.heading_sigma_rad))

    def covariance(self) -> Array:
        """Covariance (6, 6) of the corrections of both views, which are independent."""
        return np.diag(np.tile(self.sigmas() ** 2, 2))


class PoseFit(NamedTuple):
    """The most likely corrections of both views.

    Attributes:
        corrections: (2, 3) of view 1 and view 2.
        covariance: (6, 6) what remains uncertain of both together.
        squares: (M,) squared Mahalanobis distances of the matched points after the correction.
        prior_square: squared Mahalanobis distance of the corrections from the stated poses.
    """

    corrections: Array
    covariance: Array
    squares: Array
    prior_square: float


def robust_cost(squares: Array, freedom: float, dimensions: int = 2) -> Array:
    """Negative log density, up to a constant, of Student's t for squared distances (...).

    Next to a normal distribution's ``squares / 2`` it forgives outliers.

    Args:
        squares: (...) squared Mahalanobis distances.
        freedom: degrees of freedom, more than 0; infinity is the normal distribution.
        dimensions: of what the distances were taken of.
    """
    if math.isinf(freedom):
        return squares / 2
    return robust_power(freedom, dimensions) * np.log1p(squares / freedom)


def robust_power(freedom: float, dimensions: int = 2) -> float:
    """The power to which Student's t takes ``1 / (1 + squares / freedom)``."""
    return (freedom + dimensions) / 2


class _Gaps(NamedTuple):
    """How far M matched ground points are apart.

    Attributes:
        offsets: (2, 2, M) metres from the camera of each view (first axis), east and north.
        gaps: (2, M) metres east and north, the point of view 1 minus that of view 2.
        inverse: (3, M) the inverse of the gaps' covariance: east, mixed, north.
        squares: (M,) squared Mahalanobis distances.
    """

    offsets: Array
    gaps: Array
    inverse: Array
    squares: Array


class _MatchedPoints:
    """M ground points seen in both views."""

    def __init__(self, view_1: GroundPoints, view_2: GroundPoints) -> None:
        views = (view_1, view_2)
        self.cameras = np.array([view.camera for view in views])
        self.distance = np.array([view.distance for view in views])
        self.bearing = np.array([view.bearing for view in views])
        self.along = np.array([view.along for view in views]) ** 2
        self.across = np.array([view.across for view in views]) ** 2

    def gaps(self, corrections: Array) -> _Gaps:
        """The gaps after corrections (2, 3)."""
        bearing = self.bearing + corrections[:, 2:]
        direction = np.array((np.sin(bearing), np.cos(bearing)))
        offsets = (self.distance * direction).swapaxes(0, 1)
        start = self.cameras + corrections[:, :2]
        gaps = offsets[0] - offsets[1] + (start[0] - start[1])[:, None]
        of_views = polar_variances(direction[0], direction[1], self.along, self.across)
        east, mixed, north = (first + second for first, second in of_views)
        inverse = np.array((north, -mixed, east)) / (east * north - mixed * mixed)
        squares = inverse[0] * gaps[0] ** 2 + 2 * inverse[1] * gaps[0] * gaps[1] + inverse[2] * gaps[1] ** 2
        return _Gaps(offsets, gaps, inverse, squares)


class _Solver:
    """Gauss-Newton steps towards the most likely corrections, reweighted for Student's t.

    The unknowns are counted in prior sigmas, so that a sigma of zero, a pose that is known, needs no special case.
    """

    def __init__(self, matched: _MatchedPoints, prior: PosePrior, freedom: float) -> None:
        self.sigmas = np.concatenate((prior.sigmas(), prior.sigmas()))
        self.freedom = freedom
        # Rows: all gaps to the east, then all to the north.
        self.jacobian = np.zeros((2, matched.distance.shape[1], 6))
        self.jacobian[0, :, 0] = self.jacobian[1, :, 1] = self.sigmas[0]
        self.jacobian[0, :, 3] = self.jacobian[1, :, 4] = -self.sigmas[3]

    def units(self, corrections: Array) -> Array:
        """Corrections (2, 3) in prior sigmas (6,)."""
        return np.divide(corrections.ravel(), self.sigmas, out=np.zeros(6), where=self.sigmas > 0)

    def corrections(self, unit: Array) -> Array:
        """Corrections (2, 3) of prior sigmas (6,)."""
        return np.asarray((unit * self.sigmas).reshape(2, 3))

    def step(self, now: _Gaps, unit: Array) -> tuple[Array, Array]:
        """What (6,) to take off the corrections (6,), and the normal matrix (6, 6), both in prior sigmas."""
        jacobian, sigmas = self.jacobian, self.sigmas
        # Clockwise: what lies north of a camera moves east.
        jacobian[0, :, 2], jacobian[1, :, 2] = now.offsets[0, 1] * sigmas[2], now.offsets[0, 0] * -sigmas[2]
        jacobian[0, :, 5], jacobian[1, :, 5] = now.offsets[1, 1] * -sigmas[5], now.offsets[1, 0] * sigmas[5]
        weights = (
            np.ones_like(now.squares) if math.isinf(self.freedom) else (self.freedom + 2) / (self.freedom + now.squares)
        )
        own_east, mixed, own_north = (now.inverse * weights)[:, :, None]
        weighted = np.concatenate(
            (own_east * jacobian[0] + mixed * jacobian[1], mixed * jacobian[0] + own_north * jacobian[1])
        )
        normal = weighted.T @ jacobian.reshape(-1, 6)
        normal.flat[::7] += 1.0  # the prior: each unknown is its own unit
        return np.asarray(np.linalg.solve(normal, unit + weighted.T @ now.gaps.ravel())), normal


def fit_poses(
    view_1: GroundPoints,
    view_2: GroundPoints,
    prior: PosePrior,
    start: Array = STATED,
    freedom: float = 4.0,
    iterations: int = 20,
) -> PoseFit:
    """Robust weighted least squares for the corrections of both poses from matched ground points.

    Gauss-Newton with reweighting for Student's t (Lange, Little and Taylor, "Robust statistical modeling using the t
    distribution", 1989).

    Args:
        view_1: M points as seen in view 1, with the stated pose.
        view_2: the same M objects as seen in view 2.
        prior: of each view's pose.
        start: (2, 3) corrections to start from.
        freedom: degrees of freedom of Student's t.
        iterations: steps at most; it stops when one changes nothing any more.
    """
    matched = _MatchedPoints(view_1, view_2)
    solver = _Solver(matched, prior, freedom)
    corrections = start
    unit, now = solver.units(corrections), matched.gaps(corrections)
    for _ in range(iterations):
        step, normal = solver.step(now, unit)
        unit = unit - step
        corrections = solver.corrections(unit)
        now = matched.gaps(corrections)
        if abs(step).max() < STEP_TOLERANCE:
            break
    covariance = solver.sigmas[:, None] * np.linalg.inv(normal) * solver.sigmas
    return PoseFit(corrections, covariance, now.squares, float(unit @ unit))


def step_poses(
    view_1: GroundPoints, view_2: GroundPoints, prior: PosePrior, corrections: Array, freedom: float
) -> tuple[Array, float]:
    """One step of `fit_poses` from corrections (2, 3): the next ones, and their squared distance from the stated poses.

    The distance is Mahalanobis'.
    """
    matched = _MatchedPoints(view_1, view_2)
    solver = _Solver(matched, prior, freedom)
    unit = solver.units(corrections)
    unit = unit - solver.step(matched.gaps(corrections), unit)[0]
    return solver.corrections(unit), float(unit @ unit)


class PoseRefinement(NamedTuple):
    """The poses to go on with.

    Attributes:
        corrections: (2, 3) of view 1 and view 2, zero if the stated poses were kept.
        covariance: (6, 6) what remains uncertain of both together: the prior's if the stated poses were kept.
        refined: whether the poses were refined.
        reason: why not, empty if they were.
        inliers: number of matched points that agree with the poses to go on with.
    """

    corrections: Array
    covariance: Array
    refined: bool
    reason: str
    inliers: int

    @property
    def relative(self) -> Array:
        """Correction (3,) of the relative pose: that of view 2 minus that of view 1."""
        return np.asarray(self.corrections[1] - self.corrections[0])


def stated_poses(prior: PosePrior, reason: str, inliers: int = 0) -> PoseRefinement:
    """The result that leaves the poses as they are stated."""
    return PoseRefinement(STATED, prior.covariance(), False, reason, inliers)


def refine_poses(
    view_1: GroundPoints,
    view_2: GroundPoints,
    prior: PosePrior,
    start: Array = STATED,
    freedom: float = 4.0,
    min_inliers: int = 2,
    min_inlier_share: float = 0.5,
    max_sigmas: float = 4.0,
) -> PoseRefinement:
    """Refines both poses from matched ground points, or keeps the stated ones where that cannot be trusted.

    The stated poses are kept if they are known exactly; with fewer than two matches; with too few points that agree
    with the refined poses; when the points fit worse than before; when the correction is less likely than
    ``max_sigmas`` of its prior.

    Args:
        view_1: M points as seen in view 1, with the stated pose.
        view_2: the same M objects as seen in view 2.
        prior: of each view's pose.
        start: (2, 3) corrections to start from.
        freedom: degrees of freedom of Student's t.
        min_inliers: points that have to agree with the refined poses.
        min_inlier_share: share of the points that have to.
        max_sigmas: largest Mahalanobis distance of the corrections from the stated poses.
    """
    count = len(view_1.points)
    if count < 2:
        return stated_poses(prior, f"{count} matches with a ground point; at least 2 are needed", count)
    if not prior.sigmas().any():
        return stated_poses(prior, KNOWN_EXACTLY, count)
    stated = _MatchedPoints(view_1, view_2).gaps(STATED).squares
    inliers_before = int((stated < INLIER_SQUARE).sum())
    fit = fit_poses(view_1, view_2, prior, start, freedom)
    inliers = int((fit.squares < INLIER_SQUARE).sum())
    sigmas = math.sqrt(fit.prior_square)
    needed = max(min_inliers, math.ceil(min_inlier_share * count))
    reason = ""
    if not sigmas <= max_sigmas:
        reason = f"the correction is {sigmas:.1f} sigma from the stated poses; at most {max_sigmas:g} are trusted"
    elif inliers < needed:
        reason = f"{inliers} of {count} matches agree with the refined poses; at least {needed} are needed"
    elif robust_cost(fit.squares, freedom).sum() > robust_cost(stated, freedom).sum() + COST_TOLERANCE:
        reason = "the matched points fit worse than with the stated poses"
    if reason:
        return stated_poses(prior, reason, inliers_before)
    return PoseRefinement(fit.corrections, fit.covariance, True, "", inliers)
