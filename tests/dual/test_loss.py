import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.targets import NEUTRAL, AnchorMatches
from crossview.dual.head import Placement
from crossview.dual.loss import CrossTargets, cross_loss, cross_targets
from tests.dual.scenes import VARIANCES

# Objects of view 1: 0 is object 2 of view 2, 1 is not in view 2, 2 has no identity, 3 is object 0 of view 2.
HAS_ID = torch.tensor([[True, True, False, True]])
COUNTERPARTS = torch.tensor([[2, -1, -1, 0]])
FOUND = torch.tensor([[True, False, False, True]])
BOXES_2 = torch.tensor([[[0.0, 0.0, 10.0, 20.0], [50.0, 0.0, 60.0, 20.0], [590.0, 5.0, 610.0, 45.0]]])


def matches(labels: list[int], objects: list[int]) -> AnchorMatches:
    return AnchorMatches(torch.tensor([labels]), torch.tensor([objects]))


def placement(boxes: Tensor, logits: Tensor, valid: Tensor | None = None) -> Placement:
    valid = torch.ones_like(logits).bool() if valid is None else valid
    return Placement(boxes, valid, boxes, valid, logits)


# Targets


@pytest.mark.parametrize(
    ("label", "number", "covisible", "background", "box"),
    [
        (1, 0, 1, False, 2),  # shared: there, with its box
        (2, 3, 1, False, 0),  # shared with another class: identity alone counts
        (1, 1, 0, False, None),  # known to be somebody else: not there
        (1, 2, NEUTRAL, False, None),  # without identity: nobody knows
        (0, 0, 0, True, None),  # background, whose object number says nothing
        (NEUTRAL, 0, NEUTRAL, False, None),  # neutral in its own view
    ],
)
def test_target_of_an_anchor(label, number, covisible, background, box):
    targets = cross_targets(matches([0, label], [0, number]), HAS_ID, COUNTERPARTS, FOUND, BOXES_2)
    assert targets.covisible.tolist() == [[0, covisible]]
    assert targets.background.tolist() == [[True, background]]
    assert targets.covisible.dtype == torch.int64
    if box is not None:
        assert torch.equal(targets.boxes[0, 1], BOXES_2[0, box])
    assert bool(targets.boxes.isfinite().all())


@pytest.mark.parametrize(("objects_1", "objects_2"), [(0, 3), (4, 0), (0, 0)])
def test_targets_without_objects_in_a_view(objects_1, objects_2):
    labels = [0, NEUTRAL] if objects_1 == 0 else [0, NEUTRAL, 1]
    targets = cross_targets(
        matches(labels, [0] * len(labels)),
        HAS_ID[:, :objects_1],
        torch.full((1, objects_1), -1),
        torch.zeros(1, objects_1, dtype=torch.bool),
        BOXES_2[:, :objects_2],
    )
    # An object with an identity is known not to be in a view without objects.
    assert targets.covisible.tolist() == [[0, NEUTRAL, 0][: len(labels)]]
    assert targets.background.tolist() == [[True, False, False][: len(labels)]]
    assert targets.boxes.shape == (1, len(labels), 4)


def test_targets_of_every_pair_by_itself():
    # The same objects in both pairs, in another order in the second.
    both = AnchorMatches(torch.tensor([[1, 1], [1, 1]]), torch.tensor([[0, 1], [0, 1]]))
    boxes = torch.stack((BOXES_2[0], BOXES_2[0] + 100))
    targets = cross_targets(
        both,
        torch.ones(2, 2, dtype=torch.bool),
        torch.tensor([[2, -1], [-1, 1]]),
        torch.tensor([[True, False], [False, True]]),
        boxes,
    )
    assert targets.covisible.tolist() == [[1, 0], [0, 1]]
    assert torch.equal(targets.boxes[0, 0], boxes[0, 2])
    assert torch.equal(targets.boxes[1, 1], boxes[1, 1])


# The loss


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def case() -> tuple[Placement, CrossTargets]:
    """Two positive anchors (one across the seam), one without a place, a known absent, two background, a neutral."""
    boxes = torch.tensor(
        [
            [
                [10.0, 10.0, 30.0, 50.0],
                [0.0, 5.0, 20.0, 45.0],
                [0.0, 0.0, 1.0, 1.0],
                *[[100.0, 100.0, 200.0, 200.0]] * 4,
            ]
        ]
    )
    wanted = torch.tensor(
        [
            [
                [12.0, 10.0, 32.0, 50.0],  # 2 of 20 pixels to the right: -0.1 / 0.1
                [590.0, 5.0, 610.0, 45.0],  # around the seam of 600: 10 of 20 pixels to the left, +0.5 / 0.1
                [300.0, 0.0, 400.0, 10.0],
                *[[0.0, 0.0, 0.0, 0.0]] * 4,
            ]
        ]
    )
    valid = torch.tensor([[True, True, False, True, True, True, True]])
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.3, -0.7, 1.5, 9.0]])
    covisible = torch.tensor([[1, 1, 1, 0, 0, 0, NEUTRAL]])
    background = torch.tensor([[False, False, False, False, True, True, False]])
    return placement(boxes, logits, valid), CrossTargets(covisible, background, wanted)


@pytest.mark.parametrize(
    ("ratio", "least", "mined"),
    [
        (0.0, 1, softplus(1.5)),  # the harder of the two background anchors
        (0.4, 0, softplus(1.5)),  # 0.4 of 3 positives
        (3.0, 0, softplus(1.5) + softplus(-0.7)),
        (0.0, 0, 0.0),
    ],
)
def test_loss_by_hand(ratio, least, mined):
    placed, targets = case()
    terms = cross_loss(placed, targets, VARIANCES, torch.tensor([600.0]), ratio, least)
    presence = softplus(-0.5) + softplus(1.0) + softplus(-2.0)
    # Every known absence counts, whatever the number of negatives; neutral anchors never do.
    assert float(terms.classification) == pytest.approx((presence + softplus(0.3) + mined) / 3, rel=1e-6)
    # Smooth L1 of -1 and of 5, over the three positives.
    assert float(terms.localization) == pytest.approx((0.5 + 4.5) / 3, rel=1e-5)


def test_sizes_are_measured_against_the_target():
    boxes, wanted = torch.tensor([[[0.0, 0.0, 40.0, 10.0]]]), torch.tensor([[[0.0, 0.0, 20.0, 40.0]]])
    targets = CrossTargets(torch.tensor([[1]]), torch.tensor([[False]]), wanted)
    terms = cross_loss(placement(boxes, torch.zeros(1, 1)), targets, VARIANCES, torch.tensor([600.0]))
    offsets = torch.tensor([10 / 20 / 0.1, -15 / 40 / 0.1, math.log(2) / 0.2, math.log(0.25) / 0.2])
    expected = functional.smooth_l1_loss(offsets, torch.zeros(4), reduction="sum")
    assert float(terms.localization) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("shift", [0.0, 600.0, -600.0])
def test_a_perfect_projection_costs_nothing_on_whichever_side_of_the_seam(shift):
    wanted = BOXES_2.expand(1, -1, -1)
    targets = CrossTargets(torch.ones(1, 3).long(), torch.zeros(1, 3).bool(), wanted)
    moved = wanted + torch.tensor([shift, 0.0, shift, 0.0])
    terms = cross_loss(placement(moved, torch.full((1, 3), 50.0)), targets, VARIANCES, torch.tensor([600.0]))
    assert float(terms.localization) == pytest.approx(0, abs=1e-9)
    assert float(terms.classification) == pytest.approx(0, abs=1e-9)


def test_every_pair_goes_around_its_own_seam():
    wanted = torch.tensor([[[590.0, 5.0, 610.0, 45.0]]] * 2)
    boxes = torch.tensor([[[-10.0, 5.0, 10.0, 45.0]]] * 2)
    targets = CrossTargets(torch.ones(2, 1).long(), torch.zeros(2, 1).bool(), wanted)
    terms = cross_loss(placement(boxes, torch.zeros(2, 1)), targets, VARIANCES, torch.tensor([600.0, 650.0]))
    # In the second, 50 of 20 pixels are left: 25 - 0.5, over two positives.
    assert float(terms.localization) == pytest.approx(24.5 / 2, rel=1e-5)


def test_the_normaliser_counts_positives_of_all_ranks():
    placed, targets = case()
    alone = cross_loss(placed, targets, VARIANCES, torch.tensor([600.0]))
    seen = []

    def reduce(count: Tensor) -> Tensor:
        seen.append(float(count))
        return count * 2

    both = cross_loss(placed, targets, VARIANCES, torch.tensor([600.0]), reduce=reduce)
    assert seen == [3.0]
    assert float(both.classification) == pytest.approx(float(alone.classification) / 2)
    assert float(both.localization) == pytest.approx(float(alone.localization) / 2)


@pytest.mark.parametrize("background", [True, False])  # no shared object; nothing that counts at all
def test_without_positives_the_loss_is_finite(background):
    boxes = torch.ones(2, 6, 4).cumsum(dim=-1).requires_grad_()
    logits = torch.zeros(2, 6, requires_grad=True)
    covisible = torch.full((2, 6), 0 if background else NEUTRAL)
    targets = CrossTargets(covisible, covisible == 0, torch.zeros(2, 6, 4))
    terms = cross_loss(placement(boxes, logits), targets, VARIANCES, torch.tensor([600.0, 600.0]))
    # 2 x 4 negatives of log 2; the normaliser is one.
    assert terms.classification.item() == pytest.approx(8 * math.log(2) * background)
    assert terms.localization.item() == 0
    (terms.classification + terms.localization).backward()
    assert logits.grad is not None
    assert int((logits.grad > 0).sum()) == 8 * background
    assert boxes.grad is None or not boxes.grad.any()


def test_a_box_that_has_lost_its_width_teaches_co_visibility_only():
    # At x = 600 the next float32 is 6e-5 pixels away: a correction may close the gap, and log 0 is no loss.
    boxes = torch.tensor([[[600.0, 0.0, 600.0, 10.0], [0.0, 0.0, 10.0, 20.0]]], requires_grad=True)
    wanted = torch.tensor([[[590.0, 0.0, 600.0, 10.0], [0.0, 0.0, 20.0, 20.0]]])
    targets = CrossTargets(torch.ones(1, 2).long(), torch.zeros(1, 2).bool(), wanted)
    terms = cross_loss(placement(boxes, torch.zeros(1, 2)), targets, VARIANCES, torch.tensor([600.0]))
    assert terms.classification.item() == pytest.approx(math.log(2))
    assert math.isfinite(terms.localization.item())
    terms.localization.backward()
    assert boxes.grad is not None
    assert not boxes.grad[0, 0].any()
    assert bool(boxes.grad.isfinite().all())


def test_logits_far_out_stay_finite():
    placed, targets = case()
    logits = torch.tensor([[-1e4, 1e4, 0.0, 1e4, -1e4, 1e4, 1e4]], requires_grad=True)
    terms = cross_loss(placed._replace(covisibility=logits), targets, VARIANCES, torch.tensor([600.0]))
    terms.classification.backward()
    assert terms.classification.item() == pytest.approx((3e4 + math.log(2)) / 3)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_gradients_by_finite_differences():
    placed, targets = case()
    boxes = placed.boxes.double() + torch.tensor([0.3, 0.2, 0.9, 0.7]).double()
    logits = placed.covisibility.double()
    wanted = targets._replace(boxes=targets.boxes.double())

    def total(boxes: Tensor, logits: Tensor) -> Tensor:
        terms = cross_loss(
            placement(boxes, logits, placed.valid), wanted, VARIANCES, torch.tensor([600.0]).double(), 0.4, 0
        )
        return terms.classification + 0.7 * terms.localization

    assert torch.autograd.gradcheck(total, (boxes.requires_grad_(), logits.requires_grad_()))
