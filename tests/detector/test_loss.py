import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from crossview.detector.loss import batch_counts, hard_negatives, ssd_loss
from crossview.detector.ranks import ALONE
from tests.side_by_side import side_by_side

CASES = sorted((Path(__file__).parents[1] / "golden").glob("loss_*.npz"))


def random_batch(
    labels: list[list[int]], classes: int = 2, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, offsets, labels and the targets of the positive anchors."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.tensor(labels)
    logits = torch.randn(*wanted.shape, 1 + classes, generator=generator, dtype=dtype)
    offsets = torch.randn(*wanted.shape, 4, generator=generator, dtype=dtype)
    targets = torch.randn(int((wanted > 0).sum()), 4, generator=generator, dtype=dtype)
    return logits, offsets, wanted, targets


# The independent evaluation


def test_there_are_golden_batches():
    assert len(CASES) == 7


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_loss_of_the_golden_batches(path):
    # Against `total_without_clamp`: the Keras loss limits probabilities to 1e-15 from below, we do not, since the
    # log-softmax needs no limit, and a limit stops the gradient where the network is most wrong. The two differ in the
    # batch of saturated logits only.
    with np.load(path) as golden:
        logits = torch.from_numpy(golden["logits"]).double().requires_grad_()
        offsets = torch.from_numpy(golden["loc"]).double()
        labels = torch.from_numpy(golden["target_class"])
        targets = torch.from_numpy(golden["target_offsets"]).double()[labels > 0]
        ratio, least = float(golden["neg_pos_ratio"]), int(golden["n_neg_min"])
        terms = ssd_loss(logits, offsets, labels, targets, ratio, least)
        positives = max(1, int(golden["n_pos"]))
        assert int((labels > 0).sum()) == int(golden["n_pos"])
        total = (terms.classification + terms.localization).item()
        assert total == pytest.approx(float(golden["total_without_clamp"]), rel=1e-6)
        assert terms.localization.item() == pytest.approx(golden["loc_sum"].sum() / positives, rel=1e-6)
        if golden["kth_gap"] == 0:  # only in the saturated batch
            assert abs(total - golden["total"]) > 1
            return
        assert total == pytest.approx(float(golden["total"]), rel=1e-6)
        # An anchor counts if and only if the loss depends on its logits.
        (slope,) = torch.autograd.grad(terms.classification, logits)
        counted = slope.abs().sum(dim=-1) > 0
        assert bool(counted[labels > 0].all())
        assert not counted[labels < 0].any()
        kept = torch.zeros_like(counted)
        kept[torch.from_numpy(golden["neg_kept_image"]), torch.from_numpy(golden["neg_kept_anchor"])] = True
        assert torch.equal(counted & (labels == 0), kept)
        per_image = -logits.detach().log_softmax(dim=-1)[..., 0] * kept
        np.testing.assert_allclose(per_image.sum(dim=1).numpy(), golden["neg_cls_sum"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_single_precision_is_enough(path):
    with np.load(path) as golden:
        labels = torch.from_numpy(golden["target_class"])
        terms = ssd_loss(
            torch.from_numpy(golden["logits"]),
            torch.from_numpy(golden["loc"]),
            labels,
            torch.from_numpy(golden["target_offsets"])[labels > 0],
            float(golden["neg_pos_ratio"]),
            int(golden["n_neg_min"]),
        )
        total = (terms.classification + terms.localization).item()
        assert total == pytest.approx(float(golden["total_without_clamp"]), rel=1e-5)


# A case by hand


def test_loss_by_hand():
    # Probabilities that are powers of 1/2: every log loss is a multiple of log 2.
    probabilities = torch.tensor(
        [
            [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]],
            [[0.25, 0.25, 0.5], [0.25, 0.5, 0.25], [0.125, 0.375, 0.5]],
        ]
    )
    labels = torch.tensor([[2, 0, 0], [-1, 0, 0]])
    offsets = torch.zeros(2, 3, 4)
    offsets[0, 0] = torch.tensor([0.5, -0.5, 3.0, 1.0])
    targets = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    terms = ssd_loss(probabilities.log(), offsets, labels, targets, negatives_per_positive=2, min_negatives=0)
    # Positive: 1/4, 2 log 2. Negatives: the two hardest of 2, 1 | 2, 3 log 2, from both images; neutral never.
    assert terms.classification.item() == pytest.approx((2 + 2 + 3) * math.log(2), rel=1e-6)
    assert terms.localization.item() == pytest.approx(0.125 + 0.125 + 2.5, rel=1e-6)


def test_targets_belong_to_the_positive_anchors_in_order():
    logits, offsets, labels, _ = random_batch([[0, 2, 1], [-1, 0, 2]])
    terms = ssd_loss(logits, offsets, labels, offsets[labels > 0])
    assert terms.localization.item() == 0
    shuffled = ssd_loss(logits, offsets, labels, offsets[labels > 0].flip(0))
    assert shuffled.localization.item() > 0


# Hard negatives


@pytest.mark.parametrize(
    ("labels", "ratio", "least", "kept"),
    [
        ([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], 3, 0, 3),  # three a positive, over the whole batch
        ([[1, 2, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], 4, 0, 9),  # no more than there are
        ([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], 2.5, 0, 2),  # rounded down
        ([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], 3, 2, 4),  # at least two an image
        ([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], 3, 4, 8),  # without any object
        ([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], 3, 0, 0),  # the original
        ([[1, -1, -1, -1, -1, 0], [-1, -1, -1, -1, -1, -1]], 3, 4, 1),  # neutral anchors are no negatives
    ],
)
def test_number_of_negatives(labels, ratio, least, kept):
    logits, offsets, wanted, targets = random_batch(labels)
    logits.requires_grad_()
    terms = ssd_loss(logits, offsets, wanted, targets, ratio, least)
    (slope,) = torch.autograd.grad(terms.classification, logits)
    counted = slope.abs().sum(dim=-1) > 0
    assert bool(counted[wanted > 0].all())
    assert not counted[wanted < 0].any()
    assert int(counted[wanted == 0].sum()) == kept
    # They are the hardest ones.
    hardness = -logits.log_softmax(dim=-1)[..., 0]
    background = wanted == 0
    if 0 < kept < int(background.sum()):
        assert float(hardness.detach()[counted & background].min()) >= float(
            hardness.detach()[~counted & background].max()
        )


def test_hard_negatives_counts_candidates_only():
    losses = torch.tensor([[5.0, 1.0, 2.0], [4.0, 0.0, 3.0]])
    candidates = torch.tensor([[False, True, True], [True, True, True]])
    sums = [float(hard_negatives(losses, candidates, count)) for count in (0, 1, 2, 3, 4, 100)]
    assert sums == [0, 4, 7, 9, 10, 10]


def test_a_batch_without_objects_teaches_background():
    logits, offsets, labels, targets = random_batch([[0] * 50, [0] * 50], dtype=torch.float32)
    logits.requires_grad_()
    offsets.requires_grad_()
    terms = ssd_loss(logits, offsets, labels, targets)
    (terms.classification + terms.localization).backward()
    # The sum over the 2 x 4 hardest: the normaliser is one.
    hardness = -logits.detach().log_softmax(dim=-1)[..., 0].flatten()
    assert terms.classification.item() == pytest.approx(float(hardness.topk(8).values.sum()), rel=1e-6)
    assert terms.localization.item() == 0
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad[..., 0].sum()) < 0  # a step down the gradient raises the background's logit
    assert offsets.grad is None or not offsets.grad.any()


def test_no_anchor_at_all_counts():
    logits, offsets, labels, targets = random_batch([[-1] * 5])
    terms = ssd_loss(logits, offsets, labels, targets)
    assert (terms.classification.item(), terms.localization.item()) == (0, 0)


# The normaliser


@pytest.mark.parametrize(
    ("positives", "images", "normalizer", "negatives"),
    [
        ([6], [2], 6.0, 18),
        ([0], [2], 1.0, 8),
        ([6, 3], [2, 2], 4.5, 27),
        ([1, 0], [2, 1], 0.5, 12),
        ([0, 0], [1, 1], 0.5, 8),
        ([9, 9], [1, 1], 9.0, 40),  # no more than there are anchors
    ],
)
def test_all_ranks_know_the_numbers_of_the_whole_batch(positives, images, normalizer, negatives):
    def counts(ranks):
        positive = torch.zeros(images[ranks.rank], 20, dtype=torch.bool)
        positive.view(-1)[: positives[ranks.rank]] = True
        found = batch_counts(positive, 3.0, 4, ranks)
        return found.negatives, float(found.normalizer)

    assert side_by_side(len(positives), counts) == [(negatives, normalizer)] * len(positives)


def test_the_loss_is_divided_by_the_normaliser():
    logits, offsets, labels, targets = random_batch([[1, 2, 0, 0, 0, 0, 0, 0]])
    summed = functional.smooth_l1_loss(offsets[labels > 0], targets, reduction="sum")
    assert ssd_loss(logits, offsets, labels, targets).localization.item() == pytest.approx(float(summed) / 2)


# Images of the batch by rank; the batch has images with many objects, few and none, and equally hard negatives.
@pytest.mark.parametrize("shares", [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [[3, 2], [1, 0]], [[0, 1, 2], [3]]])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0])
def test_ranks_that_share_a_batch_learn_as_one_does(shares, ratio):
    logits, offsets, labels, targets = random_batch([[1, 2, 0, 1, 2, 0], [0, 1, 0, -1, 0, 0], [0] * 6, [-1, 0] * 3])
    logits[2, 3:] = logits[2, :3]
    start = [0, *(labels > 0).sum(dim=1).cumsum(0).tolist()]

    def slopes(ranks, rows):
        own = (logits[rows].clone().requires_grad_(), offsets[rows].clone().requires_grad_())
        wanted = torch.cat([targets[start[row] : start[row + 1]] for row in rows])
        terms = ssd_loss(*own, labels[rows], wanted, ratio, 1, ranks)
        loss = terms.classification + terms.localization
        loss.backward()
        return loss.item(), own[0].grad, own[1].grad

    whole = slopes(ALONE, [0, 1, 2, 3])
    found = side_by_side(2, lambda ranks: slopes(ranks, shares[ranks.rank]))
    assert sum(loss for loss, *_ in found) / 2 == pytest.approx(whole[0])
    order = torch.tensor([row for share in shares for row in share])
    for part in (1, 2):
        torch.testing.assert_close(torch.cat([each[part] for each in found]) / 2, whole[part][order])


def test_gradients_by_finite_differences():
    logits, offsets, labels, targets = random_batch([[1, 0, 0, -1, 0, 2], [0, 0, 2, 0, -1, 0]])
    # Away from the kinks: |difference| = 1 of smooth L1, and equally hard negatives.
    difference = (offsets[labels > 0] - targets).abs()
    hardness = -logits.log_softmax(dim=-1)[..., 0][labels == 0]
    assert float((difference - 1).abs().min()) > 1e-3
    assert float(hardness.sort().values.diff().min()) > 1e-3

    def total(logits: Tensor, offsets: Tensor) -> Tensor:
        terms = ssd_loss(logits, offsets, labels, targets, negatives_per_positive=1, min_negatives=0)
        return terms.classification + 0.7 * terms.localization

    assert torch.autograd.gradcheck(total, (logits.requires_grad_(), offsets.requires_grad_()))
