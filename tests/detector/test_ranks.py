"""What the ranks tell each other; over real processes in tests/test_distributed.py."""

import pytest
import torch

from crossview.detector.ranks import ALONE, current_ranks
from tests.side_by_side import side_by_side


def test_without_processes_there_is_one_rank():
    assert current_ranks() is ALONE
    rows = torch.rand(3, 2, requires_grad=True)
    assert ALONE.gather_rows(rows) is rows
    assert torch.equal(ALONE.gather(rows), rows.detach()[None])
    assert not ALONE.gather(rows).requires_grad


def test_totals_are_known_to_all():
    totals = side_by_side(3, lambda ranks: ranks.total(torch.tensor([ranks.rank, 10])).tolist())
    assert totals == [[3, 30]] * 3


@pytest.mark.parametrize("counts", [(2, 3), (0, 2), (2, 0), (0, 0), (1, 0, 4)])
def test_rows_of_all_ranks_come_together_and_have_the_gradient_of_one_process(counts):
    shares = [torch.rand(count, 2, dtype=torch.float64) for count in counts]

    def loss(rows):
        return (rows @ rows.T).tanh().sum()

    whole = torch.cat(shares).requires_grad_()
    loss(whole).backward()

    def slope(ranks):
        own = shares[ranks.rank].clone().requires_grad_()
        rows = ranks.gather_rows(own)
        assert torch.equal(rows, torch.cat(shares))
        loss(rows).backward()
        return own.grad

    # The average over the ranks of a weight's gradient is the sum of those through their rows, divided by their number.
    found = torch.cat(side_by_side(len(counts), slope)) / len(counts)
    torch.testing.assert_close(found, whole.grad)
