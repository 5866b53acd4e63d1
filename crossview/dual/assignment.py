"""One-to-one matches out of the scores of all pairs of detections.

Convention:
    Scores (D1, D2) are log odds in nats. What is left without a counterpart has score 0; minus infinity forbids a
    match.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from crossview.geometry.ground import Array

Rows = NDArray[np.int64]
OFFER = 2.0  # nats below even odds: unlikely matches are offered too, for a threshold to choose from


def assign(scores: Array) -> tuple[Rows, Rows]:
    """The best matches of scores (D1, D2): their rows and columns (M,), in order of the rows.

    The sum of the matches' scores is the largest possible. What is left without a counterpart counts 0, so no match
    has a score of 0 or less.
    """
    rows, columns = linear_sum_assignment(np.maximum(scores, 0.0), maximize=True)
    is_match = scores[rows, columns] > 0
    return rows[is_match], columns[is_match]


def with_offers(scores: Array) -> tuple[Rows, Rows]:
    """The best matches of scores (D1, D2), and among what they leave those down to odds of ``exp(-OFFER)``."""
    index_1, index_2 = assign(scores)
    left = scores + OFFER
    left[index_1], left[:, index_2] = -np.inf, -np.inf
    more_1, more_2 = assign(left)
    order = np.argsort(np.concatenate((index_1, more_1)), kind="stable")
    return np.concatenate((index_1, more_1))[order], np.concatenate((index_2, more_2))[order]
