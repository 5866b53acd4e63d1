import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from crossview.dual.match_score import (
    PairView,
    PlaceDensity,
    both_log_odds,
    hypothesis_log_priors,
    log_total,
    match_probability,
    similarity,
    size_log_density,
)
from crossview.geometry.ground import FootSigma, ground_points
from tests.geometry.standing_pairs import boxes, camera

FEET = np.array([[0.0, 10.0], [4.0, 10.0]])
WIDTHS, HEIGHTS = np.array([3.0, 3.0 * math.e]), np.array([6.0, 6.0])


def seen(view, foot):
    return ground_points(view, boxes(view, FEET, WIDTHS, HEIGHTS), foot)


def test_place_by_hand():
    # One object straight to the north, cameras at the same place: 2 m apart to the east.
    foot = FootSigma(1.0)
    first, second = seen(camera(), foot).take(np.array([0])), seen(camera(2.0), foot).take(np.array([0]))
    second = second._replace(points=second.points + np.array([2.0, 0.0]), bearing=first.bearing)
    found = PlaceDensity(first, second, math.inf)(np.array([0.5, 0.5, 0.1]))
    across = first.across[0] ** 2 + (0.1 * first.distance[0]) ** 2 + 0.25
    across += second.across[0] ** 2 + (0.1 * second.distance[0]) ** 2 + 0.25
    along = first.along[0] ** 2 + second.along[0] ** 2 + 0.5
    gap = (first.points - second.points)[0]
    expected = -(gap[0] ** 2 / across + gap[1] ** 2 / along) / 2 - math.log(across * along) / 2
    assert found.shape == (3, 1)
    assert_allclose(found[0], expected)


def test_correcting_the_poses_is_moving_the_points():
    foot = FootSigma(1.0, hidden_share=0.2)
    first, second = seen(camera(), foot), seen(camera(2.0, 1.0, 0.4), foot)
    corrections = np.array([[0.4, -0.7, 0.05], [-0.2, 0.3, -0.1]])
    sigmas = np.array([0.5, 0.5, 0.1])
    found = PlaceDensity(first.reshaped(-1, 1), second.reshaped(1, -1), 4.0)(sigmas, corrections)
    moved = [view.moved(own) for view, own in zip((first, second), corrections, strict=True)]
    expected = PlaceDensity(moved[0].reshaped(-1, 1), moved[1].reshaped(1, -1), 4.0)(sigmas)
    assert found.shape == (3, 2, 2)
    assert_allclose(found, expected)


def test_size_by_hand():
    foot = FootSigma(1.0)
    view = seen(camera(), foot)
    found = size_log_density(view.reshaped(-1, 1), view.reshaped(1, -1), 0.2, math.inf)
    relative = (view.along / view.distance) ** 2
    variance = 0.04 + relative[0] + relative[1]
    assert found.shape == (3, 2, 2)
    # Equal heights, widths that differ by a factor of e.
    assert_allclose(found[0, 0, 1], -math.log(variance) - 1 / variance / 2, rtol=1e-6)
    assert_allclose(found[0, 0, 0], -math.log(0.04 + 2 * relative[0]))


def test_a_hidden_foot_makes_far_apart_points_plausible():
    foot = FootSigma(0.5, hidden_share=0.2)
    first = seen(camera(), foot)
    shorter = boxes(camera(), FEET, WIDTHS, HEIGHTS)
    shorter[:, 3] -= 5.0
    second = ground_points(camera(), shorter, foot)
    found = PlaceDensity(first, second, 4.0)(np.zeros(3))
    # Hypotheses: both seen, hidden in view 1, hidden in view 2.
    assert (found[1] > found[0] + 1).all()
    assert (found[2] > found[0] + 1).all()


def test_hypotheses_sum_to_one():
    assert_allclose(np.exp(hypothesis_log_priors(0.1)), [0.8, 0.1, 0.1])
    assert np.isfinite(hypothesis_log_priors(0.0)).all()
    densities = np.log(np.array([0.2, 0.3, 0.5])).reshape(3, 1, 1)
    assert_allclose(log_total(densities), 0.0, atol=1e-12)


def test_log_odds_of_both():
    found = both_log_odds(np.array([0.5, 0.8]), np.array([0.2, 1.0]), (2, 2))
    assert_allclose(found[:, 0], [math.log(0.25), math.log(4) + math.log(0.25)], atol=1e-12)
    assert np.isfinite(found).all()
    assert_allclose(both_log_odds(None, np.array([0.3]), (2, 1)), np.zeros((2, 1)))


def test_similarity_is_the_cosine():
    rows = PairView(camera(), np.zeros((2, 4)), np.ones(2, np.int64), embeddings=np.array([[1.0, 0.0], [0.6, 0.8]]))
    found = similarity(rows, rows)
    assert found is not None
    assert_allclose(found, [[1.0, 0.6], [0.6, 1.0]])
    assert similarity(rows, rows._replace(embeddings=None)) is None


def test_probabilities_by_hand():
    assert_allclose(match_probability(np.log([[3.0]])), [[0.75]])
    # A rival takes its share: 3 of 1 + 3 + 4, and one that cannot be takes none.
    assert_allclose(match_probability(np.array([[math.log(3), math.log(4), -np.inf]])), [[3 / 8, 4 / 8, 0.0]])
    sure = match_probability(np.array([[1000.0]]))
    assert_allclose(sure, 1.0)


@pytest.mark.filterwarnings("error")
def test_embeddings_may_lie_in_memory_as_they_like():
    looks = np.array([[1.0, 0.0], [0.6, 0.8]])
    looks.setflags(write=False)
    rows = PairView(camera(), np.zeros((2, 4)), np.ones(2, np.int64), embeddings=looks)
    found = similarity(rows, rows._replace(embeddings=looks[::-1].astype(np.float32)))
    turned = similarity(rows, rows._replace(embeddings=looks[::-1]))
    assert found is not None
    assert turned is not None
    assert_allclose(turned, [[0.6, 1.0], [1.0, 0.6]])
    assert_allclose(found, turned, atol=1e-7)
