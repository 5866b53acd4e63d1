import pytest
import torch

from crossview.detector.anchors import AnchorGrid
from crossview.detector.transfer.heads import PUBLISHED_RATIOS, anchor_order, reordered, sampled


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((1, 1, 2, 0.5), (1, 1, 2, 0.5), [0, 1, 2, 3]),
        ((1, 1, 2, 0.5, 3, 1 / 3), (1, 1, 2, 3, 0.5, 0.333), [0, 1, 2, 4, 3, 5]),  # thirds as people write them
        ((0.5, 1, 1, 2), (1, 1, 2, 0.5), [1, 2, 3, 0]),  # the two squares keep their order
        ((1, 1, 2, 0.5), (1, 1, 3, 1 / 3), None),
        ((1, 1, 2), (1, 2), None),
        ((1, 2), (1, 1, 2), None),
    ],
)
def test_order_of_anchors(source, target, expected):
    assert anchor_order(source, target) == expected


def test_shipped_ratios_have_the_published_order():
    grid = AnchorGrid([0.1, 0.2, 0.3], [[1, 2, 1 / 2], [1, 2, 1 / 2, 3, 1 / 3]])
    assert [PUBLISHED_RATIOS[len(ratios)] for ratios in grid.cell_ratios] == grid.cell_ratios


@pytest.mark.parametrize("rest", [(), (2, 3, 3)])  # bias, weight
def test_reordering_moves_whole_anchors(rest):
    head = torch.randn(3 * 4, *rest)
    moved = reordered(head, [2, 0, 1])
    for new, old in enumerate([2, 0, 1]):
        assert torch.equal(moved[4 * new : 4 * new + 4], head[4 * old : 4 * old + 4])


@pytest.mark.parametrize("rest", [(), (2, 3, 3)])
def test_sampling_picks_background_and_sources_of_every_anchor(rest):
    anchors, trained = 2, 4  # background and three classes
    head, start = torch.randn(anchors * trained, *rest), torch.randn(anchors * 5, *rest)
    before = start.clone()
    result = sampled(head, start, [2, None, 0, 2], anchors)
    for anchor in range(anchors):
        new, old = result[5 * anchor : 5 * anchor + 5], head[trained * anchor : trained * anchor + trained]
        assert torch.equal(new[0], old[0])  # background
        assert torch.equal(new[1], old[3])
        assert torch.equal(new[2], before[5 * anchor + 2])  # left as it starts
        assert torch.equal(new[3], old[1])
        assert torch.equal(new[4], old[3])
    assert torch.equal(start, before)
