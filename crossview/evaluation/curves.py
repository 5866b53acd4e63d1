"""Curves of an evaluation as SVG text: precision and recall, errors against distance, calibration.

Convention:
    Colours are those of the baselines, the same in all curves.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crossview.evaluation.scoring import ELLIPSE, BaselineOutcome, Outcome, Ranked
from crossview.evaluation.svg import new_figure, svg_text
from crossview.metrics.geolocation import shares_inside
from crossview.metrics.matching import NEUTRAL, TRUE_POSITIVE

COLORS = ("#7a7a7a", "#e69f00", "#0072b2", "#009e73")
MOST_POINTS = 300  # of a curve: more cannot be seen
BINS = 10
LEAST_IN_BIN = 5
Array = NDArray[np.float64]


def precision_recall(ranked: Ranked) -> tuple[Array, Array]:
    """Recall and precision (N,) after each prediction by falling score; neutral ones are left out."""
    order = np.argsort(-ranked.scores.numpy(), kind="stable")
    flags = ranked.flags.numpy()[order]
    flags = flags[flags != NEUTRAL]
    hits = np.cumsum(flags == TRUE_POSITIVE)
    return hits / max(ranked.n_objects, 1), hits / np.arange(1, len(flags) + 1)


def reliability(probabilities: Array, truth: NDArray[np.bool_]) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean probability, share that is true, and number, of the predictions in bins of equal width that hold enough."""
    number = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(number, minlength=BINS)
    enough = count >= LEAST_IN_BIN
    mean, share = (
        np.bincount(number, weights=values, minlength=BINS)[enough] / count[enough] for values in (probabilities, truth)
    )
    return mean, share, count[enough]


def precision_recall_curves(curves: Mapping[str, Ranked], colors: Sequence[str], title: str) -> str:
    """Curves of several rankings by their names."""
    figure, axes = new_figure(title, "recall", "precision")
    for (name, ranked), color in zip(curves.items(), colors, strict=True):
        recall, precision = precision_recall(ranked)
        if len(recall):
            shown = np.unique(np.linspace(0, len(recall) - 1, min(MOST_POINTS, len(recall))).astype(int))
            axes.plot(recall[shown], precision[shown], color=color, label=name, linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    return svg_text(figure, axes)


def error_against_distance(baselines: Sequence[BaselineOutcome], colors: Sequence[str]) -> str:
    """Errors of positions over the distance of the object, with medians of equally many."""
    figure, axes = new_figure("error of positions (right matches)", "metres from the nearer camera", "error in metres")
    highest = 0.0
    for outcome, color in zip(baselines, colors, strict=True):
        distance, error = outcome.errors.distance_m, outcome.errors.error_m
        if not len(error):
            continue
        axes.plot(distance, error, ".", color=color, markersize=2.5, alpha=0.35)
        parts = np.array_split(np.argsort(distance), min(8, max(len(error) // LEAST_IN_BIN, 1)))
        middle = [[np.median(values[part]) for part in parts] for values in (distance, error)]
        axes.plot(*middle, "o-", color=color, label=outcome.baseline.title, linewidth=1.4, markersize=3.5)
        highest = max(highest, float(np.quantile(error, 0.97)))
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.1 * highest or 1.0)
    return svg_text(figure, axes)


def calibration_of_scores(outcome: Outcome) -> str:
    """How often predictions of a probability are true: detections, matches, co-visibility."""
    figure, axes = new_figure("calibration of scores", "probability that was said", "share that is true")
    counted = outcome.detection.flags != NEUTRAL
    sources = {
        "detections": (outcome.detection.scores[counted], outcome.detection.flags[counted] == TRUE_POSITIVE),
    }
    if outcome.baselines:
        best = outcome.baselines[-1].reid
        counted = best.flags != NEUTRAL
        sources["matches"] = (best.scores[counted], best.flags[counted] == TRUE_POSITIVE)
    drawn = {name: (values.numpy(), truth.numpy()) for name, (values, truth) in sources.items()}
    if len(outcome.covisibility[0]):
        drawn["seen in the other view too"] = outcome.covisibility
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for (name, (values, truth)), color in zip(drawn.items(), COLORS[1:], strict=False):
        mean, share, _ = reliability(values, truth)
        axes.plot(mean, share, "o-", color=color, label=name, linewidth=1.4, markersize=4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return svg_text(figure, axes)


def calibration_of_ellipses(baselines: Sequence[BaselineOutcome], colors: Sequence[str]) -> str:
    """Share of the true positions inside the error ellipses, for every confidence."""
    figure, axes = new_figure("calibration of error ellipses", "confidence of the ellipse", "share of positions inside")
    levels = np.linspace(0.02, 0.99, 50)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    axes.axvline(ELLIPSE, color="0.8", linewidth=1, linestyle=":")
    for outcome, color in zip(baselines, colors, strict=True):
        if len(outcome.errors.squares):
            shares = shares_inside(outcome.errors.squares, levels.tolist())
            axes.plot(levels, shares, color=color, label=outcome.baseline.title, linewidth=1.4)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return svg_text(figure, axes)
