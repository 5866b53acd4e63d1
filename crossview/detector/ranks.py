"""What the ranks, the processes of a data-parallel training, have to know of each other to learn as one would.

Convention:
    Every rank computes the loss of its share of the batch, and the gradients are averaged over the ranks. A loss that
    is divided by a number of the whole batch is divided by that number's mean over the ranks therefore. All ranks call
    the same methods in the same order: each call waits for all of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """The ranks of a training.

    Attributes:
        rank: number of this one.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def gather(self, values: Tensor) -> Tensor:
        """Values (R, ...) of all ranks, of values (...) that have the same shape in each; without gradient."""
        values = values.detach()
        if self.size == 1:
            return values.unsqueeze(0)
        found = [torch.empty_like(values) for _ in range(self.size)]
        distributed.all_gather(found, values.contiguous())
        return torch.stack(found)

    def total(self, values: Tensor) -> Tensor:
        """The sum (...) over all ranks of values (...); without gradient."""
        return self.gather(values).sum(dim=0)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows (sum of M, ...) of all ranks one after another, of rows (M, ...) whose number M may differ.

        The other ranks' rows are constants here. The gradient of this rank's rows is multiplied by the number of ranks:
        of a loss that every rank computes of all rows, the average over the ranks is the whole gradient then.
        """
        if self.size == 1:
            return rows
        counts = [int(count) for count in self.gather(torch.tensor(len(rows), device=rows.device))]
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        found = [share[:count] for share, count in zip(self.gather(padded), counts, strict=True)]
        if rows.requires_grad:
            found[self.rank] = rows.detach() + self.size * (rows - rows.detach())
        return torch.cat(found)


ALONE = Ranks()


def current_ranks() -> Ranks:
    """The ranks of the training that this process takes part in."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return Ranks(distributed.get_rank(), distributed.get_world_size())
