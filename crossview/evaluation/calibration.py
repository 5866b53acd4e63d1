"""Fits the matcher to scenes whose identities are annotated, such as those of a validation set."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crossview.build import ConfigError
from crossview.dual.match_calibration import KnownPair, calibrate
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import MatchSettings, pair_view
from crossview.evaluation.records import Scene, SceneObjects, scene_detections, scene_objects, scene_periods
from crossview.metrics.matching import TRUE_POSITIVE, match_views


def known_pair(scene: Scene, settings: MatchSettings) -> KnownPair:
    """A scene's detections with the identities of the objects that they hit."""
    objects = scene_objects([scene])
    found = match_views(scene_detections([scene]), objects, period=scene_periods([scene]))
    hit = found.flags == TRUE_POSITIVE  # of several detections of an object the best
    target = torch.where(hit, found.targets, 0)
    ids, has_id = objects.ids.gather(2, target)[0].numpy(), (hit & objects.has_id.gather(2, target))[0].numpy()
    used = [np.flatnonzero(view.detections.scores >= settings.min_score) for view in scene.views]
    one, two = (pair_view(view, rows) for view, rows in zip(scene.views, used, strict=True))
    return KnownPair(
        one,
        two,
        ids[0][used[0]],
        ids[1][used[1]],
        has_id[0][used[0]],
        has_id[1][used[1]],
        _shared(scene),
        _neutral(found.targets[0], objects)[np.ix_(*used)],
    )


def _neutral(targets: torch.Tensor, objects: SceneObjects) -> NDArray[np.bool_]:
    """Whether detections (D1, D2) are of one identity that is difficult in a view, given what (2, D) they hit."""
    row = targets.clamp(min=0)
    named = (targets >= 0) & objects.has_id[0].gather(1, row)
    ids, difficult = objects.ids[0].gather(1, row), objects.difficult[0].gather(1, row)
    same = (ids[0][:, None] == ids[1]) & named[0][:, None] & named[1]
    return (same & (difficult[0][:, None] | difficult[1])).numpy()


def _shared(scene: Scene) -> int:
    """The number of objects that both views annotate, without those that are difficult in one."""
    one, two = (view.truth.ids[view.truth.has_id & ~view.truth.difficult] for view in scene.views)
    return len(np.intersect1d(one, two))


def calibrated(matcher: PairMatcher, scenes: Sequence[Scene], settings: MatchSettings) -> PairMatcher:
    """The matcher fitted to the pairs among the scenes.

    Raises:
        ConfigError: nothing in them can be learned from.
    """
    try:
        return calibrate(matcher, [known_pair(scene, settings) for scene in scenes if len(scene.views) == 2])
    except ValueError as error:
        raise ConfigError(f"calibrate: {error}") from error
