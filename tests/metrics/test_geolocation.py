import math

import numpy as np
import pytest

from crossview.metrics.geolocation import (
    confidence_of,
    distances,
    shares_inside,
    squared_errors_in_sigmas,
    summarise,
)


def test_distances_and_their_summary_by_hand():
    errors = distances(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 1.0], [2.0, 1.0]]))
    assert errors.tolist() == [5, 0, 1]
    assert summarise(errors) == (1, 2)


def test_no_position_has_no_summary():
    assert all(math.isnan(value) for value in summarise(np.zeros(0)))
    assert np.isnan(shares_inside(np.zeros(0), [0.5])).all()


def test_squared_errors_in_sigmas_by_hand():
    covariance = np.array([[[4.0, 0.0], [0.0, 9.0]], [[2.0, 1.0], [1.0, 2.0]]])
    truth = np.array([[2.0, 3.0], [1.0, -1.0]])
    squares = squared_errors_in_sigmas(np.zeros((2, 2)), covariance, truth)
    # Across the long axis of the second ellipse the variance is 1: (1, -1) is sqrt(2) sigmas away.
    np.testing.assert_allclose(squares, [2.0, 2.0])


def test_confidence_is_that_of_the_ellipse_through_the_true_position():
    assert confidence_of(np.array([0.0, 2 * math.log(10), 2 * math.log(2)])) == pytest.approx([0, 0.9, 0.5])
    assert shares_inside(np.array([1.0, 2.0, 4.0, 5.0]), [0.5, 0.9, 0.99]).tolist() == [0.25, 0.75, 1.0]


def test_errors_drawn_from_their_covariance_fill_the_ellipses():
    random = np.random.default_rng(0)
    covariance = np.array([[3.0, 1.0], [1.0, 0.5]])
    truth = random.multivariate_normal([0, 0], covariance, 4000)
    squares = squared_errors_in_sigmas(np.zeros((4000, 2)), np.tile(covariance, (4000, 1, 1)), truth)
    np.testing.assert_allclose(shares_inside(squares, [0.5, 0.9]), [0.5, 0.9], atol=0.03)
