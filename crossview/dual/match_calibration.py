"""Fits a matcher's settings to pairs whose identities are known.

Convention:
    That of `crossview.dual.matching`. A known pair says for each detection which object it shows, if it is known.
    Three steps: how far the stated poses are off, how far the boxes' feet and sizes are, and what a match is worth.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from scipy.special import logsumexp

from crossview.dual.assignment import Rows
from crossview.dual.match_score import (
    PairView,
    PlaceDensity,
    hypothesis_log_priors,
    log_total,
    size_log_density,
)
from crossview.dual.matching import LAST_SHARE, PairMatcher
from crossview.geometry.ground import Array, GroundPoints, ground_points_of_views
from crossview.geometry.relative_pose import STATED, PosePrior, fit_poses

WEIGHTS = (
    "no_match_price",
    "geometry_weight",
    "class_weight",
    "appearance_weight",
    "covisibility_weight",
    "detection_weight",
)
FEET = (
    ("foot_sigma_px", 0.1, 20.0),
    ("foot_sigma_width", 1e-3, 0.5),
    ("foot_sigma_height", 1e-3, 0.5),
    ("hidden_foot_share", 0.02, 1.0),
    ("hidden_foot_probability", 1e-3, 0.4),
    ("size_sigma", 0.02, 1.0),
)
STRENGTH = 5.0  # how firmly the weights to start from are believed, in choices of one detection
ROUNDS = 3
POSE_ROUNDS = 30


class KnownPair(NamedTuple):
    """A pair of views whose identities are known.

    Attributes:
        view_1: its detections.
        view_2: its detections.
        ids_1: (D1,) int64, of the object that a detection shows; meaningless without one.
        ids_2: (D2,) int64.
        has_id_1: (D1,) bool, which detections show a known object.
        has_id_2: (D2,) bool.
        shared: number of known objects in both views, whether detected or not.
        neutral: (D1, D2) bool, whether a match of the two is neither right nor wrong, as of a difficult object.
    """

    view_1: PairView
    view_2: PairView
    ids_1: Rows
    ids_2: Rows
    has_id_1: NDArray[np.bool_]
    has_id_2: NDArray[np.bool_]
    shared: int
    neutral: NDArray[np.bool_]

    def same(self) -> NDArray[np.bool_]:
        """Whether two detections show the same object, (D1, D2) bool."""
        return np.asarray((self.ids_1[:, None] == self.ids_2) & self.has_id_1[:, None] & self.has_id_2)


def calibrate_matcher(matcher: PairMatcher, pairs: Sequence[KnownPair], fit_poses_too: bool = True) -> PairMatcher:
    """The matcher with its settings fitted to known pairs, such as those of the validation set.

    Fitted are the uncertainties of poses, feet and sizes, the price of no match, the weights of the terms, and the
    threshold. A weight whose term says nothing in these pairs (one class, no embeddings) stays as it is, and so does
    everything else.

    Args:
        matcher: to start from; with few pairs the result stays near to it.
        pairs: of known identities, with the stated poses.
        fit_poses_too: whether to fit the uncertainties of the stated poses; without it they stay as they are.

    Raises:
        ValueError: no two detections of any pair show the same object at a ground point.
    """
    matched = [found for found in (_matched(matcher, pair) for pair in pairs) if len(found[0].points)]
    if not matched:
        raise ValueError(
            f"{len(pairs)} pairs have no object with a ground point in both views; calibrate on pairs with identities"
        )
    if fit_poses_too:
        matcher = fit_pose_sigmas(matcher, pairs)
    for _ in range(ROUNDS):
        matcher = fit_foot_sigmas(matcher, pairs)
    return fit_threshold(fit_weights(matcher, pairs), pairs)


def _matched(matcher: PairMatcher, pair: KnownPair) -> tuple[GroundPoints, GroundPoints]:
    """Ground points of the objects that both views have, with the stated poses."""
    views = (pair.view_1, pair.view_2)
    grounds = ground_points_of_views([view.camera for view in views], [view.boxes for view in views], matcher.foot)
    rows = np.nonzero(pair.same() & grounds[0].valid[:, None] & grounds[1].valid)
    return grounds[0].take(rows[0]), grounds[1].take(rows[1])


def fit_pose_sigmas(matcher: PairMatcher, pairs: Sequence[KnownPair]) -> PairMatcher:
    """The matcher with the uncertainties of the stated poses that make the true matches' corrections most likely.

    The EM algorithm for variance components: the mean square of a correction is that of its most likely value plus
    what remains uncertain of it. It converges slowly towards zero, where exact poses end up. Pairs with fewer than two
    matches do not count.
    """
    matched = [found for found in (_matched(matcher, pair) for pair in pairs) if len(found[0].distance) >= 2]
    if not matched:
        return matcher
    prior = PosePrior(max(matcher.position_sigma_m, 1.0), max(matcher.heading_sigma_rad, 0.03))
    starts = [STATED] * len(matched)
    for _ in range(POSE_ROUNDS):
        fits = [
            fit_poses(*found, prior, start, matcher.freedom, iterations=3)
            for found, start in zip(matched, starts, strict=True)
        ]
        starts = [fit.corrections for fit in fits]
        squares = np.mean([fit.corrections**2 + np.diag(fit.covariance).reshape(2, 3) for fit in fits], axis=(0, 1))
        prior = PosePrior(float(np.sqrt(squares[:2].mean())), float(np.sqrt(squares[2])))
    return replace(matcher, position_sigma_m=prior.position_sigma_m, heading_sigma_rad=prior.heading_sigma_rad)


def fit_foot_sigmas(matcher: PairMatcher, pairs: Sequence[KnownPair]) -> PairMatcher:
    """The matcher with the uncertainties of feet and sizes that make the true matches most likely.

    The likelihood is that of the matcher's own densities, at the poses that the true matches give. Pairs with fewer
    than two matches give none, so that they do not count unless there are no others.
    """
    matched = [_matched(matcher, pair) for pair in pairs]
    several = [views for views in matched if len(views[0].distance) >= 2]
    moved = []
    for view_1, view_2 in several or matched:
        fit = fit_poses(view_1, view_2, matcher.prior, freedom=matcher.freedom)
        moved.append((view_1.moved(fit.corrections[0]), view_2.moved(fit.corrections[1])))
    view_1, view_2 = (GroundPoints.joined([views[number] for views in moved]) for number in (0, 1))
    sigmas = LAST_SHARE * matcher.prior.sigmas()

    def cost(logarithms: Array) -> float:
        trial = replace(matcher, **_foot_settings(logarithms))
        seen_1, seen_2 = view_1.with_foot(trial.foot), view_2.with_foot(trial.foot)
        density = hypothesis_log_priors(trial.hidden_foot_probability)[:, None]
        density = density + size_log_density(seen_1, seen_2, trial.size_sigma, trial.freedom)
        density = density + PlaceDensity(seen_1, seen_2, trial.freedom)(sigmas)
        return -float(log_total(density).sum())

    bounds = Bounds(np.log([low for _, low, _ in FEET]), np.log([high for _, _, high in FEET]))
    start = np.log([np.clip(getattr(matcher, name), low, high) for name, low, high in FEET])
    return replace(matcher, **_foot_settings(minimize(cost, start, method="L-BFGS-B", bounds=bounds).x))


def _foot_settings(logarithms: Array) -> dict[str, Any]:
    """The settings of `FEET` from their logarithms; rounding must not take one out of its bounds."""
    values = np.exp(logarithms)
    return {name: float(np.clip(value, low, high)) for value, (name, low, high) in zip(values, FEET, strict=True)}


def fit_weights(matcher: PairMatcher, pairs: Sequence[KnownPair]) -> PairMatcher:
    """The matcher with the price of no match and the weights of the terms that make the true matches most likely.

    A conditional logit (McFadden 1974): every detection chooses among those of the other view and no counterpart. That
    is concave in price and weights; a normal prior around those to start from keeps them finite where a term decides
    everything. Poses are those that the matcher itself finds.
    """
    samples = [sample for pair in pairs for sample in _choices(matcher, pair)]
    start = np.array([getattr(matcher, name) for name in WEIGHTS])
    scale = np.maximum(np.abs(start), 0.5)

    def cost(weights: Array) -> tuple[float, Array]:
        belief = (weights - start) / scale
        total, gradient = 0.5 * STRENGTH * float(belief @ belief), STRENGTH * belief / scale
        for terms, chosen in samples:
            utilities = np.append(terms @ weights, 0.0)
            log_sum = logsumexp(utilities)
            total += log_sum - utilities[chosen]
            probabilities = np.exp(utilities - log_sum)
            gradient += probabilities[:-1] @ terms
            if chosen < len(terms):
                gradient -= terms[chosen]
        return total, gradient

    bounds = [(None, None)] + [(0.0, None)] * (len(WEIGHTS) - 1)
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights: dict[str, Any] = dict(zip(WEIGHTS, found.x.tolist(), strict=True))
    return replace(matcher, **weights)


def _choices(matcher: PairMatcher, pair: KnownPair) -> list[tuple[Array, int]]:
    """For every detection with a ground point: the terms (K, 6) of its located candidates, and the true one (or K)."""
    found = matcher(pair.view_1, pair.view_2)
    evidence = matcher.evidence(pair.view_1, pair.view_2, *found.ground)
    share = LAST_SHARE if found.pose.refined else 1.0
    geometry = log_total(matcher.densities(evidence, pose_share=share))
    terms = np.stack(
        (
            np.ones_like(geometry),
            geometry,
            evidence.classes,
            evidence.appearance,
            evidence.covisibility,
            evidence.detection,
        ),
        axis=-1,
    )
    same, located = pair.same(), evidence.located
    choices = []
    for its_terms, its_same, its_located in (
        *zip(terms, same, located, strict=True),
        *zip(terms.swapaxes(0, 1), same.T, located.T, strict=True),
    ):
        if its_located.any() and not (its_same & ~its_located).any():
            truth = np.flatnonzero(its_same[its_located])
            choices.append((its_terms[its_located], int(truth[0]) if len(truth) else int(its_located.sum())))
    return choices


def fit_threshold(matcher: PairMatcher, pairs: Sequence[KnownPair]) -> PairMatcher:
    """The matcher with the threshold of the best F1 of all matches of the pairs together.

    As `reid/f1` counts it, but that a second detection of an object is always wrong.
    """
    scores, right, shared = [], [], 0
    for pair in pairs:
        found, same = matcher(pair.view_1, pair.view_2), pair.same()
        counted = ~pair.neutral[found.index_1, found.index_2]
        scores.append(found.scores[counted])
        right.append(same[found.index_1, found.index_2][counted])
        shared += pair.shared
    if not sum(map(len, scores)):
        return matcher
    order = np.argsort(-np.concatenate(scores), kind="stable")
    ranked, hits = np.concatenate(scores)[order], np.concatenate(right)[order].cumsum()
    best = int(np.argmax(2 * hits / (np.arange(1, len(order) + 1) + shared)))
    # Half way to the next lower score, so that rounding does not lose the last match.
    lower = ranked[best + 1] if best + 1 < len(order) else 0.0
    return replace(matcher, score_threshold=float((ranked[best] + lower) / 2))
