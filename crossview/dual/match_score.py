"""What speaks for two detections of a pair of views showing the same object.

Convention:
    NumPy float64; D1 and D2 detections, scores (D1, D2) in nats. A score is a log odds: how much likelier the two
    detections show the same object than that each has no counterpart, which has score 0.
    A foot is seen or hidden, which is not known. The hypotheses, first axis of length 3: both feet are seen, that of
    view 1 is hidden, that of view 2 is hidden. (Both hidden is rare, and little speaks for anything then.)
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.geometry.camera import Camera
from crossview.geometry.ground import Array, GroundPoints, polar_variances
from crossview.geometry.relative_pose import STATED, robust_cost

MIN_PROBABILITY = 1e-3  # no detection and no co-visibility is surer than that
MIN_SIZE_M = 1e-3  # an object is not lower than this
MAX_LOG_ODDS = 50.0  # beyond it a probability in float64 is one


class PairView(NamedTuple):
    """The detections of one view of a pair.

    Attributes:
        camera: of the network image (batch shape ()), in any precision; it should be float64.
        boxes: (D, 4) ``xyxy`` pixels of the network image.
        labels: (D,) int64 classes.
        scores: (D,) probability of the class, or None.
        covisibility: (D,) probability that the object is in the other view too, or None.
        embeddings: (D, E) appearance, each of length 1, or None.
    """

    camera: Camera
    boxes: Array
    labels: NDArray[np.int64]
    scores: Array | None = None
    covisibility: Array | None = None
    embeddings: Array | None = None


def both_log_odds(probabilities_1: Array | None, probabilities_2: Array | None, shape: tuple[int, int]) -> Array:
    """Sum (D1, D2) of the log odds of probabilities (D1,) and (D2,); zeros where one is missing."""
    if probabilities_1 is None or probabilities_2 is None:
        return np.zeros(shape)
    odds = [np.clip(values, MIN_PROBABILITY, 1 - MIN_PROBABILITY) for values in (probabilities_1, probabilities_2)]
    first, second = (np.log(values / (1 - values)) for values in odds)
    return np.asarray(first[:, None] + second)


def similarity(view_1: PairView, view_2: PairView) -> Array | None:
    """Cosine similarities (D1, D2) of appearance, None without embeddings."""
    if view_1.embeddings is None or view_2.embeddings is None:
        return None
    # Not by NumPy: the threads of its BLAS stay busy for some 30 ms after a product, in the way of PyTorch's, and
    # helping processes would have them besides.
    first, second = (torch.from_numpy(np.array(view.embeddings, np.float64)) for view in (view_1, view_2))
    return (first @ second.T).numpy()


def along_by_hypothesis(view_1: GroundPoints, view_2: GroundPoints) -> tuple[Array, Array]:
    """Standard deviations along the ray (3, ...) in view 1 and in view 2."""
    return (
        np.array((view_1.along, view_1.along_hidden, view_1.along)),
        np.array((view_2.along, view_2.along, view_2.along_hidden)),
    )


def hypothesis_log_priors(hidden_probability: float) -> Array:
    """Log probabilities (3,) of the hypotheses."""
    hidden = max(hidden_probability, np.finfo(np.float64).tiny)  # the logarithm of never stays finite
    return np.log([1 - 2 * hidden, hidden, hidden])


def size_log_density(view_1: GroundPoints, view_2: GroundPoints, size_sigma: float, freedom: float) -> Array:
    """Log density (3, ...), up to a constant, of the log ratios of the objects' heights and widths in metres.

    A foot seen too far away makes its object too large by as much, so the sigma grows with the relative uncertainty of
    the distances. It does not depend on the poses.

    Args:
        view_1: objects (...), broadcastable with those of view 2 (see `GroundPoints.reshaped`).
        view_2: objects (...).
        size_sigma: standard deviation of the natural logarithm of a size.
        freedom: degrees of freedom of Student's t.
    """
    along_1, along_2 = along_by_hypothesis(view_1, view_2)
    variance = size_sigma**2 + (along_1 / view_1.distance) ** 2 + (along_2 / view_2.distance) ** 2
    density = -np.log(variance)  # two ratios, each with half of it
    for size_1, size_2 in ((view_1.width, view_2.width), (view_1.height, view_2.height)):
        ratio = np.log(np.maximum(size_1, MIN_SIZE_M)) - np.log(np.maximum(size_2, MIN_SIZE_M))
        density -= robust_cost(ratio * ratio / variance, freedom, dimensions=1)
    return density


class _Rays:
    """What the places of one view's objects (...) are made of, for any pose of its camera."""

    def __init__(self, view: GroundPoints, along: Array) -> None:
        direction = np.array((np.sin(view.bearing), np.cos(view.bearing)))
        self.bearing, self.distance = view.bearing, view.distance
        self.start = np.moveaxis(view.points, -1, 0) - view.distance * direction
        self.across = view.across**2
        self.turned = view.distance**2
        self.along = along * along

    def places(self, pose_sigmas: Array, correction: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Metres east and north (...), and their covariance (3, ...): east, mixed, north."""
        bearing = self.bearing + correction[2]
        sin, cos = np.sin(bearing), np.cos(bearing)
        across = self.across + pose_sigmas[2] ** 2 * self.turned
        shared = pose_sigmas[0] ** 2
        return (
            self.start[0] + (self.distance * sin + correction[0]),
            self.start[1] + (self.distance * cos + correction[1]),
            *polar_variances(sin, cos, self.along + shared, across + shared),
        )


class PlaceDensity:
    """Log density of the gaps between two views' ground points, for any correction of the poses."""

    def __init__(self, view_1: GroundPoints, view_2: GroundPoints, freedom: float) -> None:
        """Keeps what does not change with the poses.

        Args:
            view_1: objects (...), broadcastable with those of view 2 (see `GroundPoints.reshaped`).
            view_2: objects (...).
            freedom: degrees of freedom of Student's t.
        """
        self.freedom = freedom
        along_1, along_2 = along_by_hypothesis(view_1, view_2)
        self._views = (_Rays(view_1, along_1), _Rays(view_2, along_2))

    def __call__(self, pose_sigmas: Array, corrections: Array = STATED) -> Array:
        """Log density (3, ...), up to a constant.

        Args:
            pose_sigmas: (3,) standard deviations of what is not known of each pose: metres east, north, radians. East
                and north are equal.
            corrections: (2, 3) of both poses.
        """
        places = [view.places(pose_sigmas, own) for view, own in zip(self._views, corrections, strict=True)]
        x, y = (first - second for first, second in zip(places[0][:2], places[1][:2], strict=True))
        east, mixed, north = (first + second for first, second in zip(places[0][2:], places[1][2:], strict=True))
        determinant = east * north - mixed * mixed
        squares = (north * (x * x) - mixed * (2 * x * y) + east * (y * y)) / determinant
        return np.asarray(-robust_cost(squares, self.freedom) - 0.5 * np.log(determinant))


class Evidence(NamedTuple):
    """What speaks for and against each match, whatever the poses.

    Attributes:
        places: log densities of the places, for given poses.
        along: (3, D1) and (3, D2) standard deviations along the ray, by hypothesis.
        sizes: (3, D1, D2) log densities of the sizes, with the log priors of the hypotheses.
        classes: (D1, D2) -1 where the classes differ.
        appearance: (D1, D2) similarity minus that of no evidence, 0 without embeddings.
        covisibility: (D1, D2) log odds of both.
        detection: (D1, D2) log odds of both.
        located: (D1, D2) bool: both have a ground point.
        base: (D1, D2) score of all but places and sizes, with the price of no match.
    """

    places: PlaceDensity
    along: tuple[Array, Array]
    sizes: Array
    classes: Array
    appearance: Array
    covisibility: Array
    detection: Array
    located: NDArray[np.bool_]
    base: Array


def log_total(densities: Array) -> Array:
    """Log of the sum (...) over the hypotheses of log densities (3, ...)."""
    highest = densities.max(axis=0)
    return np.asarray(highest + np.log(np.exp(densities - highest).sum(axis=0)))


def match_probability(scores: Array) -> Array:
    """Probability (D1, D2) that two detections show the same object, when every other candidate of both competes.

    ``exp(s_ij) / (1 + sum over the row and the column)``: exact for a detection alone, an approximation for many.
    """
    odds = np.exp(np.minimum(scores, MAX_LOG_ODDS))
    return np.asarray(odds / (1 + odds.sum(axis=1, keepdims=True) + odds.sum(axis=0) - odds))
