from dataclasses import replace

import numpy as np
import pytest

from crossview.dual.match_calibration import (
    KnownPair,
    calibrate_matcher,
    fit_foot_sigmas,
    fit_pose_sigmas,
    fit_threshold,
    fit_weights,
)
from crossview.dual.match_score import PairView
from crossview.dual.matching import PairMatcher
from tests.geometry.standing_pairs import boxes, camera, objects, off

CAMERAS = camera(0.0, 0.0, 0.4), camera(2.0, 9.0, 1.1)


def known_pairs(count=30, position=0.0, heading=0.0, jitter=0.3, alone=2, embeddings=False, first=0):
    """Pairs of eight shared objects and some that only one view has."""
    rng = np.random.default_rng(first)
    pairs = []
    for seed in range(first, first + count):
        feet, widths, heights = objects(seed, 8 + 2 * alone)
        views, ids = [], []
        looks = rng.standard_normal((8 + 2 * alone, 16))
        for number, true in enumerate(CAMERAS):
            rows = np.r_[np.arange(8), 8 + number * alone + np.arange(alone)]
            seen = boxes(true, feet[rows], widths[rows], heights[rows])
            seen = seen + jitter * rng.standard_normal(seen.shape)
            east, north = rng.normal(0, position, 2)
            stated = off(true, east, north, rng.normal(0, heading))
            look = looks[rows] + 0.3 * rng.standard_normal((len(rows), 16))
            look /= np.linalg.norm(look, axis=1, keepdims=True)
            views.append(PairView(stated, seen, np.ones(len(rows), np.int64), embeddings=look if embeddings else None))
            ids.append(np.where(rows < 8, rows - 4, 9))  # an identity is any number, also a negative one
        known = np.arange(8 + alone) < 8
        pairs.append(KnownPair(views[0], views[1], ids[0], ids[1], known, known, 8, np.zeros((8 + alone,) * 2, bool)))
    return pairs


def f1(matcher, pairs):
    right = found = shared = 0
    for pair in pairs:
        matches = matcher(pair.view_1, pair.view_2)
        keep = matches.scores >= matcher.score_threshold
        right += pair.same()[matches.index_1[keep], matches.index_2[keep]].sum()
        found += keep.sum()
        shared += pair.same().sum()
    return 2 * right / (found + shared)


@pytest.mark.parametrize(("position", "heading"), [(1.0, 0.03), (2.0, 0.06)])
def test_finds_how_far_the_poses_are_off(position, heading):
    found = fit_pose_sigmas(PairMatcher(foot_sigma_px=0.3), known_pairs(40, position, heading))
    assert found.position_sigma_m == pytest.approx(position, rel=0.25)
    assert found.heading_sigma_rad == pytest.approx(heading, rel=0.3)


def test_finds_how_far_feet_are_off():
    matcher = PairMatcher(foot_sigma_px=3.0, foot_sigma_height=0.002, foot_sigma_width=0.002, position_sigma_m=0.0)
    found = fit_foot_sigmas(replace(matcher, heading_sigma_rad=0.0), known_pairs(40, jitter=1.0))
    assert 0.5 < found.foot_sigma_px < 1.3
    assert 0.001 <= found.hidden_foot_probability < 0.4


def test_nearly_exact_boxes_do_not_end_at_the_bounds():
    found = fit_foot_sigmas(PairMatcher(position_sigma_m=0.0, heading_sigma_rad=0.0), known_pairs(30, jitter=0.3))
    assert found.foot_sigma_px == pytest.approx(0.3, rel=0.5)
    assert found.hidden_foot_probability < 0.05


def test_a_setting_of_zero_is_a_start_like_any_other():
    exact = PairMatcher(position_sigma_m=0.0, heading_sigma_rad=0.0, hidden_foot_probability=0.0, foot_sigma_width=0.0)
    found = fit_foot_sigmas(exact, known_pairs(20, jitter=1.0))
    assert found.foot_sigma_px == pytest.approx(1.0, rel=0.5)


def test_a_useless_term_loses_and_a_useful_one_stays():
    pairs = known_pairs(12, jitter=1.5, embeddings=True)
    rng = np.random.default_rng(0)
    noise = [
        pair._replace(
            view_1=pair.view_1._replace(embeddings=_unit(rng, 10)),
            view_2=pair.view_2._replace(embeddings=_unit(rng, 10)),
        )
        for pair in pairs
    ]
    matcher = PairMatcher(foot_sigma_px=1.5, appearance_zero=0.0)
    useful, useless = (fit_weights(matcher, known) for known in (pairs, noise))
    assert useless.appearance_weight < matcher.appearance_weight / 2 < useful.appearance_weight
    # One class and no detection scores: nothing to learn from.
    assert useful.class_weight == pytest.approx(matcher.class_weight)
    assert useful.detection_weight == pytest.approx(matcher.detection_weight)


def _unit(rng, count):
    rows = rng.standard_normal((count, 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_calibrating_helps_on_other_pairs():
    bad = PairMatcher(
        foot_sigma_px=6.0, size_sigma=0.6, position_sigma_m=4.0, no_match_price=0.0, foot_sigma_height=0.2
    )
    fitted = calibrate_matcher(bad, known_pairs(12, 1.0, 0.03, jitter=1.0))
    held_out = known_pairs(12, 1.0, 0.03, jitter=1.0, first=500)
    assert f1(fitted, held_out) > f1(bad, held_out) + 0.02
    assert f1(fitted, held_out) > 0.9
    assert fitted.rounds == bad.rounds


def test_poses_can_be_left_alone():
    matcher = PairMatcher()
    fitted = calibrate_matcher(matcher, known_pairs(5), fit_poses_too=False)
    assert fitted.position_sigma_m == matcher.position_sigma_m
    assert fitted.heading_sigma_rad == matcher.heading_sigma_rad
    assert fitted == calibrate_matcher(matcher, known_pairs(5), fit_poses_too=False)


def test_pairs_without_identities_are_refused():
    nothing = np.zeros(10, bool)
    pairs = [pair._replace(has_id_1=nothing, has_id_2=nothing) for pair in known_pairs(2)]
    with pytest.raises(ValueError, match="2 pairs have no object"):
        calibrate_matcher(PairMatcher(), pairs)


def test_pairs_whose_pose_stays_unknown_do_not_blame_the_feet():
    pairs = known_pairs(15, 1.5, 0.03)
    lonely = [
        pair._replace(has_id_1=pair.has_id_1 & (pair.ids_1 == 0), has_id_2=pair.has_id_2 & (pair.ids_2 == 0))
        for pair in known_pairs(40, 1.5, 0.03, first=15)
    ]
    matcher = PairMatcher(position_sigma_m=1.5, heading_sigma_rad=0.03)
    assert fit_foot_sigmas(matcher, pairs + lonely) == fit_foot_sigmas(matcher, pairs)
    assert fit_foot_sigmas(matcher, lonely) != matcher


def test_objects_that_were_not_detected_lower_the_threshold():
    pairs = known_pairs(6, 1.0, 0.03, jitter=2.0, alone=4)
    matcher = PairMatcher(no_match_price=3.0)
    more = [pair._replace(shared=40) for pair in pairs]
    assert fit_threshold(matcher, more).score_threshold <= fit_threshold(matcher, pairs).score_threshold


def test_neutral_matches_do_not_count():
    pairs = known_pairs(6, 1.0, 0.03, jitter=2.0, alone=4)
    matcher = PairMatcher(no_match_price=3.0)
    wrong = [pair._replace(neutral=~pair.same()) for pair in pairs]
    lowest = min(
        found.scores[pair.same()[found.index_1, found.index_2]].min()
        for pair in pairs
        for found in [matcher(pair.view_1, pair.view_2)]
    )
    assert fit_threshold(matcher, wrong).score_threshold <= lowest


def test_the_threshold_is_the_best_one():
    pairs = known_pairs(6, 1.0, 0.03, jitter=2.0, alone=4)
    matcher = PairMatcher(no_match_price=3.0)
    best = f1(fit_threshold(matcher, pairs), pairs)
    others = [f1(replace(matcher, score_threshold=float(value)), pairs) for value in np.linspace(0, 1, 21)]
    assert best >= max(others)
    assert best > min(others)
    assert fit_threshold(matcher, []) == matcher
