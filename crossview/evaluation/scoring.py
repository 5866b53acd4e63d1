"""All metrics of a test set from its records alone; docs/evaluation.md says what each is.

The classes that score a training run score here too, fed in the same precision: the numbers are the same. One process
of a training has all scenes and scores them, while the others may have ended: nothing is synchronised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import BASELINES, Baseline, MatchSettings
from crossview.evaluation.known import portions
from crossview.evaluation.outcomes import LocationErrors, PairOutcome, PortionOutcome, RowOutcome, score_portion
from crossview.evaluation.records import Scene
from crossview.evaluation.workers import mapping
from crossview.metrics.geolocation import shares_inside, summarise
from crossview.metrics.keyed import KeyedRows
from crossview.metrics.reid import reid_values

ELLIPSE = 0.9  # confidence of the error ellipses in files and of the share inside in the table
MILLISECONDS = "reid/milliseconds"

AnyRows = TypeVar("AnyRows", bound=KeyedRows)


class Ranked(NamedTuple):
    """Predictions with what became of them, for curves.

    Attributes:
        scores: (N,) float64.
        flags: (N,) int64, see `crossview.metrics.matching`.
        n_objects: that could be found.
    """

    scores: Tensor
    flags: Tensor
    n_objects: int


@dataclass(frozen=True)
class SceneOutcome(PairOutcome):
    """A pair in a baseline, with its scene, which the processes that score do not send back.

    Attributes:
        scene: with the detections that were scored.
    """

    scene: Scene


class BaselineOutcome(NamedTuple):
    """A baseline over all scenes: its numbers, and what curves and pictures are made of."""

    baseline: Baseline
    metrics: dict[str, float]
    cross: Ranked
    reid: Ranked
    errors: LocationErrors
    scenes: list[SceneOutcome]


class Outcome(NamedTuple):
    """Everything about a test set.

    Attributes:
        metrics: by their names without the split.
        detection: all detections, each view once.
        covisibility: probabilities (N,) and truth (N,) of detections that show an object with an identity.
        baselines: empty for views by themselves.
    """

    metrics: dict[str, float]
    detection: Ranked
    covisibility: tuple[NDArray[np.float64], NDArray[np.bool_]]
    baselines: list[BaselineOutcome]


def score(
    scenes: Sequence[Scene],
    matcher: PairMatcher,
    settings: MatchSettings,
    baselines: Sequence[Baseline] = BASELINES,
) -> Outcome:
    """All metrics of scenes; many pairs are shared out over the processor's cores.

    Args:
        scenes: either pairs or views by themselves.
        matcher: of the detections of pairs.
        settings: of the detections that are matched.
        baselines: the rows to fill; the metrics are those of the last one.
    """
    pairs = [scene for scene in scenes if len(scene.views) == 2]
    embedded = all(view.detections.embeddings is not None for scene in pairs for view in scene.views)
    rows = [baseline for baseline in baselines if embedded or not baseline.needs_embeddings]
    together = list(portions(scenes))
    work = partial(score_portion, baselines=rows, matcher=matcher, settings=settings)
    with mapping(len(together) * len(rows) if pairs else 0) as spread:
        found = list(spread(work, together))
    metrics, detection = _detection_metrics(found)
    probabilities, truth = (np.concatenate(part) for part in zip(*(it.covisibility for it in found), strict=True))
    found = [portion for portion in found if portion.rows]
    if not found:
        return Outcome(metrics, detection, (probabilities, truth), [])
    values = {name: float(value) for name, value in _merged([it.network for it in found]).compute().items()}
    outcomes = [
        score_baseline(pairs, baseline, [portion.rows[number] for portion in found], matcher.score_threshold)
        for number, baseline in enumerate(rows)
    ]
    best = outcomes[-1].metrics
    metrics |= {name: best[name] for name in ("cross/ap50", "cross/center_px", "cross/placed")}
    metrics |= {"cross/geometry_ap50": values["geometry_ap50"], "cross/network_ap50": values["ap50"]}
    rest = {name: value for name, value in best.items() if name.startswith(("reid/", "geo/"))}
    rest.pop(MILLISECONDS)  # the same predictions have the same metrics
    metrics |= rest
    return Outcome(metrics, detection, (probabilities, truth), outcomes)


def _detection_metrics(found: Sequence[PortionOutcome]) -> tuple[dict[str, float], Ranked]:
    metric = _merged([portion.detection for portion in found])
    rows, objects = metric.distinct()
    computed = metric.compute() | _merged([portion.coco for portion in found]).compute()
    values = {f"detection/{name}": float(value) for name, value in computed.items()}
    return values, Ranked(rows[:, 1], rows[:, 2].long(), len(objects))


def _merged(metrics: Sequence[AnyRows]) -> AnyRows:
    """One metric of all, in their order: of a repeated view the first counts."""
    *others, whole = metrics
    for other in reversed(others):
        whole.merge_state(other)  # puts the other one first
    return whole


def score_baseline(
    scenes: Sequence[Scene], baseline: Baseline, portions_of_row: Sequence[RowOutcome], threshold: float
) -> BaselineOutcome:
    """One row of the table of baselines.

    Args:
        scenes: all pairs.
        baseline: of the row.
        portions_of_row: of the same pairs in the same order.
        threshold: least score of a match that counts.
    """
    cross = _merged([portion.cross for portion in portions_of_row])
    hits = torch.cat([portion.hits for portion in portions_of_row])
    pairs = [pair for portion in portions_of_row for pair in portion.pairs]
    outcomes = [SceneOutcome(**vars(pair), scene=scene) for scene, pair in zip(scenes, pairs, strict=True)]
    reid = Ranked(
        torch.from_numpy(np.concatenate([outcome.matched.scores for outcome in outcomes])),
        torch.cat([outcome.flags for outcome in outcomes]),
        sum(outcome.n_shared for outcome in outcomes),
    )
    errors = LocationErrors(*(np.concatenate(parts) for parts in zip(*(o.errors for o in outcomes), strict=True)))
    values = cross.compute()
    metrics = {
        "cross/ap50": float(values["ap50"]),
        "cross/center_px": float(values["center_px"]),
        "cross/placed": float(hits.double().mean()),
        **{f"reid/{name}": value for name, value in reid_values(*reid, threshold)._asdict().items()},
        **{f"geo/{name}": value for name, value in summarise(errors.error_m)._asdict().items()},
        f"geo/inside_{round(100 * ELLIPSE)}": float(shares_inside(errors.squares, [ELLIPSE])[0]),
        "reid/refined": float(np.mean([outcome.matched.refined for outcome in outcomes])),
        MILLISECONDS: 1000 * float(np.median([outcome.matched.seconds for outcome in outcomes])),
    }
    rows, objects = cross.distinct()
    ranked = Ranked(rows[:, 1], rows[:, 2].long(), len(objects))
    return BaselineOutcome(baseline, metrics, ranked, reid, errors, outcomes)
