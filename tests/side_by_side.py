"""Ranks that are threads of this process, so that what they tell each other can be tested without further ones."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from crossview.detector.ranks import Ranks

TIME_LIMIT_S = 60


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    """One of several ranks that meet in memory."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    table: tuple[list[torch.Tensor], ...] = ()

    def gather(self, values):
        self.table[self.rank].append(values.detach().clone())
        self.barrier.wait(TIME_LIMIT_S)
        found = torch.stack([column[-1] for column in self.table])
        self.barrier.wait(TIME_LIMIT_S)
        return found


def side_by_side(count, work):
    """What ``work`` returns in each of so many ranks; it is called with the rank."""
    barrier = threading.Barrier(count)
    table: tuple[list[torch.Tensor], ...] = tuple([] for _ in range(count))
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(work, ThreadRanks(rank, count, barrier, table)) for rank in range(count)]
        return [each.result() for each in running]
