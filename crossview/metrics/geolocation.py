"""How far predicted positions are from the annotated ones, and whether their error ellipses tell the truth.

Convention:
    NumPy float64; M positions in metres east and north, covariances (M, 2, 2) in square metres.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class DistanceSummary(NamedTuple):
    """Errors in metres; NaN of no positions."""

    median_m: float
    mean_m: float


def distances(positions: Array, truth: Array) -> Array:
    """Metres (M,) between positions (M, 2) and true ones (M, 2)."""
    return np.asarray(np.hypot(*(positions - truth).T))


def summarise(errors: Array) -> DistanceSummary:
    """Median and mean of errors (M,)."""
    if not len(errors):
        return DistanceSummary(float("nan"), float("nan"))
    return DistanceSummary(float(np.median(errors)), float(errors.mean()))


def squared_errors_in_sigmas(positions: Array, covariances: Array, truth: Array) -> Array:
    """Squared Mahalanobis distances (M,) of the true positions from the predicted ones."""
    gaps = (truth - positions)[:, :, None]
    return np.asarray((gaps * np.linalg.solve(covariances, gaps)).sum(axis=(1, 2)))


def confidence_of(squares: Array) -> Array:
    """The confidence (M,) of the error ellipse on whose rim a true position lies, from squared distances (M,).

    Two dimensions, normal distribution: ``1 - exp(-square / 2)``. Where covariances tell the truth these are uniform.
    """
    return np.asarray(-np.expm1(-squares / 2))


def shares_inside(squares: Array, confidences: Sequence[float]) -> Array:
    """Share of the true positions inside the error ellipses of each confidence; NaN of no positions."""
    if not len(squares):
        return np.full(len(confidences), np.nan)
    return np.asarray([(confidence_of(squares) <= confidence).mean() for confidence in confidences])
