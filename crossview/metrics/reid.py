"""How well the same objects are found in both views of a pair.

Convention:
    M predicted matches of a pair, each of a detection of view 1 and one of view 2, with a score. G objects of view 1. A
    match is right if both detections hit boxes of the same identity, the box of their class that they overlap most, by
    at least the threshold. Of several right matches of one object the best one counts, the others are wrong. A match of
    an object that is difficult in either view is neutral. Flags are those of `crossview.metrics.matching`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from crossview.metrics.average_precision import voc10_area
from crossview.metrics.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE


class ReidValues(NamedTuple):
    """What predicted matches are worth; NaN where there is no object to find, precision where nothing is predicted.

    Attributes:
        ap: area under precision and recall at all thresholds, all points.
        f1: harmonic mean of precision and recall at the threshold.
        precision: share of right matches.
        recall: share of the objects seen in both views that are found.
    """

    ap: float
    f1: float
    precision: float
    recall: float


def match_flags(targets_1: Tensor, targets_2: Tensor, scores: Tensor, counterparts: Tensor, ignored: Tensor) -> Tensor:
    """Which predicted matches of a pair are right.

    Args:
        targets_1: (M,) int64 object of view 1 that each match's first detection hits, -1 for none.
        targets_2: (M,) int64 object of view 2 that its second detection hits, -1 for none.
        scores: (M,).
        counterparts: (G,) int64 the same object in view 2, -1 where it is not annotated there.
        ignored: (G,) bool, difficult in either view.

    Returns:
        (M,) int64.
    """
    # Plain numbers: a pair has some tens of matches, for which a tensor's overhead is most of the time.
    flags = [FALSE_POSITIVE] * len(targets_1)
    first, second, other, skip = (values.tolist() for values in (targets_1, targets_2, counterparts, ignored))
    taken: set[int] = set()
    for row in torch.sort(scores, descending=True, stable=True)[1].tolist():
        target = first[row]
        if target < 0 or second[row] < 0 or other[target] != second[row]:
            continue
        if skip[target]:
            flags[row] = NEUTRAL
        elif target not in taken:
            flags[row] = TRUE_POSITIVE
            taken.add(target)
    return torch.tensor(flags, dtype=torch.int64, device=targets_1.device)


def reid_values(scores: Tensor, flags: Tensor, n_objects: int, threshold: float) -> ReidValues:
    """The metrics of the matches (M,) of all pairs together.

    Args:
        scores: (M,).
        flags: (M,) int64, see `match_flags`.
        n_objects: objects seen in both views, without the difficult ones.
        threshold: least score of a match that counts for all but ``ap``.
    """
    order = torch.sort(scores, descending=True, stable=True)[1]
    area = float(voc10_area(flags[order], n_objects))
    counted = flags[scores >= threshold]
    right, wrong = int((counted == TRUE_POSITIVE).sum()), int((counted == FALSE_POSITIVE).sum())
    nan = float("nan")
    return ReidValues(
        ap=area,
        f1=2 * right / (right + wrong + n_objects) if n_objects else nan,
        precision=right / (right + wrong) if right + wrong else nan,
        recall=right / n_objects if n_objects else nan,
    )
