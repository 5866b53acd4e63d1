"""Which detection of view 1 is which detection of view 2, and the poses that explain it best.

Convention:
    NumPy float64: a pair has some tens of detections, for which a tensor's overhead is most of the time. D1 and D2
    detections of one pair, without padding. Boxes are ``xyxy`` pixels of the network image.
    Scores are log odds in nats (`crossview.dual.match_score`); what is not matched has score 0. Each detection goes to
    at most one of the other view.
    A box without a ground point (its foot at or above the horizon) has no place to compare. It is matched by
    appearance alone, at a price of its own, and not at all without embeddings. It never moves the poses.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from crossview.dual.assignment import Rows, assign, with_offers
from crossview.dual.match_score import (
    Evidence,
    PairView,
    PlaceDensity,
    along_by_hypothesis,
    both_log_odds,
    hypothesis_log_priors,
    log_total,
    match_probability,
    similarity,
    size_log_density,
)
from crossview.dual.pose_search import REMAINING_SHARE, is_near, search_pose
from crossview.geometry.camera import Camera
from crossview.geometry.ground import Array, FootSigma, GroundPoints, corrected, ground_points_of_views
from crossview.geometry.relative_pose import (
    KNOWN_EXACTLY,
    STATED,
    PosePrior,
    PoseRefinement,
    refine_poses,
    stated_poses,
    step_poses,
)

LAST_SHARE = 0.05  # of the poses' uncertainty is left in the last round: refined poses are not exact


class PairMatches(NamedTuple):
    """Matches of one pair, in order of their detections in view 1.

    Attributes:
        index_1: (M,) int64 detections of view 1, each at most once.
        index_2: (M,) int64 detections of view 2, each at most once.
        scores: (M,) probability that the two show the same object.
        pose: what became of the poses, and why.
        cameras: both cameras with the poses to go on with.
        ground: the ground points (D1) and (D2) with those poses.
    """

    index_1: Rows
    index_2: Rows
    scores: Array
    pose: PoseRefinement
    cameras: tuple[Camera, Camera]
    ground: tuple[GroundPoints, GroundPoints]


@dataclass(frozen=True, slots=True)
class PairMatcher:
    """Matches the detections of a pair and refines its poses; all settings are plain numbers.

    The defaults are a compromise between perfect and detected boxes on images of 300x600 pixels;
    `crossview.dual.match_calibration` fits them to a detector.

    Attributes:
        foot_sigma_px: uncertainty of a box's foot in x and y, pixels of the network image (standard deviation).
        foot_sigma_width: what is added to it in x (in quadrature), shares of the box's width.
        foot_sigma_height: what is added to it in y, shares of the box's height.
        hidden_foot_share: the same in y for a foot that something hides, shares of the box's height.
        hidden_foot_probability: how often a foot is hidden, 0 to less than 0.5.
        size_sigma: uncertainty of the natural logarithm of an object's width and height in metres between two views.
        freedom: degrees of freedom of Student's t for places and sizes; small forgives outliers.
        position_sigma_m: uncertainty of each view's stated position, metres in east and in north.
        heading_sigma_rad: uncertainty of each view's stated heading, radians.
        no_match_price: what leaving two detections without a counterpart costs, nats; the higher, the more matches.
            At even odds a match and none cost the same; matches down to odds of ``exp(-OFFER)`` are given as well.
        unlocated_price: the same for detections of which one has no ground point, nats.
        geometry_weight: of the log density of places and sizes.
        class_weight: price of different classes, nats.
        appearance_weight: of the cosine similarity minus ``appearance_zero``, nats.
        appearance_zero: cosine similarity that speaks neither for nor against.
        covisibility_weight: of the sum of both log odds of being seen in the other view.
        detection_weight: of the sum of both log odds of the class.
        refine: whether to refine the poses.
        rounds: of matching and refining, while the poses' uncertainty in the score shrinks.
        score_threshold: least probability of a match that counts (`reid/f1`).
    """

    foot_sigma_px: float = 1.0
    foot_sigma_width: float = 0.03
    foot_sigma_height: float = 0.03
    hidden_foot_share: float = 0.2
    hidden_foot_probability: float = 0.1
    size_sigma: float = 0.15
    freedom: float = 4.0
    position_sigma_m: float = 1.5
    heading_sigma_rad: float = 0.03
    no_match_price: float = 6.5
    unlocated_price: float = -3.0
    geometry_weight: float = 1.0
    class_weight: float = 6.0
    appearance_weight: float = 8.0
    appearance_zero: float = 0.5
    covisibility_weight: float = 0.5
    detection_weight: float = 0.25
    refine: bool = True
    rounds: int = 4
    score_threshold: float = 0.3

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: a value is out of its range.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if math.isnan(value) or (math.isinf(value) and field.name != "freedom"):
                raise ValueError(f"{field.name}={value} is not a finite number; give {field.name} one")
        if not self.size_sigma > 0 or not self.freedom > 0 or self.rounds < 1:
            raise ValueError(
                f"size_sigma={self.size_sigma}, freedom={self.freedom}, rounds={self.rounds}: expected more than 0"
            )
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"score_threshold={self.score_threshold}: expected a probability, 0 to 1")
        _ = self.foot, self.prior  # they check their own

    @property
    def foot(self) -> FootSigma:
        """Uncertainty of the boxes' feet."""
        return FootSigma(
            self.foot_sigma_px,
            self.foot_sigma_width,
            self.foot_sigma_height,
            self.hidden_foot_share,
            self.hidden_foot_probability,
        )

    @property
    def prior(self) -> PosePrior:
        """Uncertainty of the stated poses."""
        return PosePrior(self.position_sigma_m, self.heading_sigma_rad)

    def __call__(self, view_1: PairView, view_2: PairView) -> PairMatches:
        """Matches one pair.

        Raises:
            ValueError: a field of a view does not fit its boxes.
        """
        return self.match(view_1, view_2, *self.ground_points((view_1, view_2)))

    def ground_points(self, views: Sequence[PairView]) -> list[GroundPoints]:
        """Ground points of the boxes of views, which take hardly longer for many views than for one."""
        return ground_points_of_views([view.camera for view in views], [view.boxes for view in views], self.foot)

    def match(self, view_1: PairView, view_2: PairView, ground_1: GroundPoints, ground_2: GroundPoints) -> PairMatches:
        """Matches one pair whose `ground_points` are known.

        Raises:
            ValueError: a field of a view does not fit its boxes.
        """
        for number, view in enumerate((view_1, view_2), start=1):
            _check(view, f"view {number}")
        evidence = self.evidence(view_1, view_2, ground_1, ground_2)
        pose = self._refined(evidence, ground_1, ground_2)
        share = LAST_SHARE if pose.refined else 1.0
        scores = self.scores(evidence, self.densities(evidence, pose.corrections, share))
        index_1, index_2 = with_offers(scores)
        return PairMatches(
            index_1,
            index_2,
            match_probability(scores)[index_1, index_2],
            pose,
            (corrected(view_1.camera, pose.corrections[0]), corrected(view_2.camera, pose.corrections[1])),
            (ground_1.moved(pose.corrections[0]), ground_2.moved(pose.corrections[1])),
        )

    def evidence(self, view_1: PairView, view_2: PairView, ground_1: GroundPoints, ground_2: GroundPoints) -> Evidence:
        """What speaks for and against each match, whatever the poses."""
        shape = (len(view_1.labels), len(view_2.labels))
        alike = similarity(view_1, view_2)
        rows, columns = ground_1.reshaped(-1, 1), ground_2.reshaped(1, -1)
        classes = np.where(view_1.labels[:, None] == view_2.labels, 0.0, -1.0)
        appearance = np.zeros(shape) if alike is None else alike - self.appearance_zero
        covisibility = both_log_odds(view_1.covisibility, view_2.covisibility, shape)
        detection = both_log_odds(view_1.scores, view_2.scores, shape)
        located = ground_1.valid[:, None] & ground_2.valid
        unlocated_price = -np.inf if alike is None else self.unlocated_price
        return Evidence(
            places=PlaceDensity(rows, columns, self.freedom),
            along=along_by_hypothesis(ground_1, ground_2),
            sizes=hypothesis_log_priors(self.hidden_foot_probability)[:, None, None]
            + size_log_density(rows, columns, self.size_sigma, self.freedom),
            classes=classes,
            appearance=appearance,
            covisibility=covisibility,
            detection=detection,
            located=located,
            base=np.where(located, self.no_match_price, unlocated_price)
            + self.class_weight * classes
            + self.appearance_weight * appearance
            + self.covisibility_weight * covisibility
            + self.detection_weight * detection,
        )

    def densities(self, evidence: Evidence, corrections: Array = STATED, pose_share: float = 1.0) -> Array:
        """Log density (3, D1, D2), up to a constant, of places and sizes; meaningless where one is not located.

        Args:
            evidence: of the pair.
            corrections: (2, 3) of the poses to score.
            pose_share: how much of the poses' stated uncertainty is left.
        """
        return np.asarray(evidence.sizes + evidence.places(pose_share * self.prior.sigmas(), corrections))

    def scores(self, evidence: Evidence, densities: Array) -> Array:
        """Log odds (D1, D2) of the same object, minus infinity where nothing can be said."""
        return np.asarray(evidence.base + np.where(evidence.located, self.geometry_weight * log_total(densities), 0.0))

    def _refined(self, evidence: Evidence, ground_1: GroundPoints, ground_2: GroundPoints) -> PoseRefinement:
        """The poses after some rounds of matching and refining, from the better of two starts.

        The second start is left out where the first one ends beside it.
        """
        if not self.refine:
            return stated_poses(self.prior, "refinement is switched off")
        if not self.prior.sigmas().any():
            return stated_poses(self.prior, KNOWN_EXACTLY)
        without_place = np.where(evidence.located, self.scores(evidence, evidence.sizes), -np.inf)
        searched = search_pose(ground_1, ground_2, self.prior, without_place, self.freedom, self.geometry_weight)
        best = self._annealed(evidence, ground_1, ground_2, STATED, 1.0, self.rounds)
        if not is_near(best.corrections, searched, self.prior):
            other = self._annealed(evidence, ground_1, ground_2, searched, REMAINING_SHARE, max(self.rounds - 1, 1))
            best = max(best, other, key=lambda end: end.support)
        return refine_poses(best.view_1, best.view_2, self.prior, best.corrections, self.freedom)

    def _annealed(
        self,
        evidence: Evidence,
        ground_1: GroundPoints,
        ground_2: GroundPoints,
        corrections: Array,
        share: float,
        rounds: int,
    ) -> "_Annealed":
        """Matches and refines in turn, while the share of the poses' uncertainty in the score shrinks."""
        for number in range(rounds):
            left = max(share * (1 - number / max(rounds - 1, 1)), LAST_SHARE)
            densities = self.densities(evidence, corrections, left)
            scores = self.scores(evidence, densities)
            index_1, index_2 = assign(scores)
            is_located = evidence.located[index_1, index_2]
            index_1, index_2 = index_1[is_located], index_2[is_located]
            matched = _as_likely(evidence, ground_1, ground_2, index_1, index_2, densities[:, index_1, index_2])
            if len(index_1) < 2:
                break
            corrections, prior_square = step_poses(*matched, self.prior, corrections, self.freedom)
        support = float(scores[index_1, index_2].sum()) - prior_square / 2 if len(index_1) >= 2 else -math.inf
        return _Annealed(corrections, *matched, support)


class _Annealed(NamedTuple):
    """Where some rounds of matching and refining ended.

    Attributes:
        corrections: (2, 3) of the poses.
        view_1: the M matched points as seen in view 1, with the stated pose.
        view_2: the same in view 2.
        support: what speaks for this end, nats.
    """

    corrections: Array
    view_1: GroundPoints
    view_2: GroundPoints
    support: float


def _as_likely(
    evidence: Evidence, ground_1: GroundPoints, ground_2: GroundPoints, index_1: Rows, index_2: Rows, densities: Array
) -> tuple[GroundPoints, GroundPoints]:
    """Matched points (M) with the uncertainty of the likeliest hypothesis of densities (3, M): which foot is hidden."""
    likeliest = densities.argmax(axis=0)
    return (
        ground_1.take(index_1)._replace(along=evidence.along[0][likeliest, index_1]),
        ground_2.take(index_2)._replace(along=evidence.along[1][likeliest, index_2]),
    )


def _check(view: PairView, name: str) -> None:
    """Raises a ValueError where a field does not fit the boxes."""
    count = len(view.boxes)
    lengths: Sequence[tuple[str, Array | Rows | None]] = (
        ("labels", view.labels),
        ("scores", view.scores),
        ("covisibility", view.covisibility),
        ("embeddings", view.embeddings),
    )
    for field, values in lengths:
        if values is not None and len(values) != count:
            raise ValueError(f"{name}: {len(values)} {field} for {count} boxes; expected as many")
