"""Fits the matcher to scenes whose identities are annotated, such as those of a validation set."""

from collections.abc import Sequence

import numpy as np
import torch

from crossview.build import ConfigError
from crossview.dual.match_calibration import KnownPair, calibrate_matcher
from crossview.dual.matching import PairMatcher
from crossview.evaluation.baselines import MatchSettings, pair_view
from crossview.evaluation.known import known_of
from crossview.evaluation.records import Scene, scene_detections, scene_objects, scene_periods
from crossview.metrics.cross_view import take
from crossview.metrics.matching import TRUE_POSITIVE


def known_pair(scene: Scene, settings: MatchSettings) -> KnownPair:
    """A scene's detections with the identities of the objects that they hit."""
    known = known_of(scene_detections([scene]), scene_objects([scene]), scene_periods([scene]))
    targets, shared = known.seen.targets, known.shared
    hit = torch.where(known.seen.flags == TRUE_POSITIVE, targets, -1)  # of several detections of an object the best
    ids = take(known.objects.ids, hit, fill=0)[0].numpy()
    has_id = take(known.objects.has_id, hit, fill=False)[0].numpy()
    # As `match_flags` has it: both are of one object, which is difficult in a view.
    counterparts = take(shared.number, targets, fill=-1)
    difficult = take(shared.difficult, counterparts, fill=False)[0, 0]
    neutral = (difficult[:, None] & (counterparts[0, 0][:, None] == targets[0, 1])).numpy()
    used = [np.flatnonzero(view.detections.scores >= settings.min_score) for view in scene.views]
    one, two = (pair_view(view, rows) for view, rows in zip(scene.views, used, strict=True))
    return KnownPair(
        one,
        two,
        ids[0][used[0]],
        ids[1][used[1]],
        has_id[0][used[0]],
        has_id[1][used[1]],
        known.shared_count(0),
        neutral[np.ix_(*used)],
    )


def calibrated(matcher: PairMatcher, scenes: Sequence[Scene], settings: MatchSettings) -> PairMatcher:
    """The matcher fitted to the pairs among the scenes.

    Raises:
        ConfigError: nothing in them can be learned from.
    """
    try:
        return calibrate_matcher(matcher, [known_pair(scene, settings) for scene in scenes if len(scene.views) == 2])
    except ValueError as error:
        raise ConfigError(f"calibrate: {error}") from error
