import math

import pytest
import torch

from crossview.metrics.matching import FALSE_POSITIVE, NEUTRAL, TRUE_POSITIVE
from crossview.metrics.reid import match_flags, reid_values

# Objects of view 1: 0 is object 2 of view 2, 1 is object 0, 2 is not there, 3 is object 1 and difficult.
COUNTERPARTS = torch.tensor([2, 0, -1, 1])
IGNORED = torch.tensor([False, False, False, True])
T, F, N = TRUE_POSITIVE, FALSE_POSITIVE, NEUTRAL


@pytest.mark.parametrize(
    ("first", "second", "flag"),
    [
        (0, 2, T),
        (0, 0, F),  # two different objects
        (2, -1, F),  # -1 is no object, not even that of an object without a counterpart
        (-1, -1, F),
        (-1, 2, F),
        (1, -1, F),
        (3, 1, N),
        (3, 0, F),
    ],
)
def test_a_match_is_right_if_both_detections_show_the_same_object(first, second, flag):
    found = match_flags(torch.tensor([first]), torch.tensor([second]), torch.ones(1), COUNTERPARTS, IGNORED)
    assert found.tolist() == [flag]


def test_of_several_right_matches_of_an_object_the_best_counts():
    targets_1, targets_2 = torch.tensor([0, 0, 1, 0]), torch.tensor([2, 2, 0, 2])
    found = match_flags(targets_1, targets_2, torch.tensor([0.3, 0.9, 0.5, 0.9]), COUNTERPARTS, IGNORED)
    assert found.tolist() == [F, T, T, F]


def test_a_view_without_objects():
    none = torch.zeros(0, dtype=torch.int64)
    found = match_flags(torch.tensor([-1]), torch.tensor([-1]), torch.ones(1), none, none.bool())
    assert found.tolist() == [F]
    assert match_flags(none, none, torch.zeros(0), COUNTERPARTS, IGNORED).tolist() == []


def test_values_by_hand():
    scores, flags = torch.tensor([0.2, 0.9, 0.5, 0.8, 0.7]), torch.tensor([T, T, F, N, T])
    values = reid_values(scores, flags, n_objects=4, threshold=0.5)
    # By falling score T T F T, the neutral one left out: precision 1, 1, 2/3, 3/4 at recall 1/4, 2/4, 2/4, 3/4.
    assert values.ap == pytest.approx((1 + 1 + 3 / 4) / 4)
    # At 0.5 and above: two right, one wrong, two of four missed.
    assert values.precision == pytest.approx(2 / 3)
    assert values.recall == pytest.approx(2 / 4)
    assert values.f1 == pytest.approx(4 / 7)


def test_nothing_found_is_zero_and_nothing_to_find_is_no_number():
    none = torch.zeros(0)
    missed = reid_values(none, none.long(), 3, 0.5)
    assert (missed.ap, missed.f1, missed.recall) == (0, 0, 0)
    assert math.isnan(missed.precision)
    invented = reid_values(torch.ones(2), torch.tensor([F, F]), 0, 0.5)
    assert math.isnan(invented.ap)
    assert math.isnan(invented.f1)
    assert invented.precision == 0
