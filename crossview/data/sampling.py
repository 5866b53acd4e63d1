"""Which pairs a process draws, in which order: shuffled by (seed, epoch), shared out over the processes.

Both samplers are `DistributedSampler`, so that Lightning leaves them in place (it would else put its own, which
pads, around them) and tells them the epoch, also after a resume.
"""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

_ORDER_STREAM = 0xC0FFEE  # keeps the order independent of the draws of the pair with the same number


class TrainSampler(DistributedSampler[Any]):
    """Yields (epoch, index) in an order that depends on (seed, epoch) only.

    The epoch travels with the index, so that workers that live on from epoch to epoch need not be told. With
    several processes all get equally many pairs, as their gradients are exchanged at every step: up to ``world_size
    - 1`` pairs come twice.

    Args:
        pairs: the data set.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, pairs: Sized, seed: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(pairs, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self._pairs = pairs
        self._skip = 0

    def skip_once(self, samples: int) -> None:
        """Lets the next pass leave out this many samples of this process at its beginning."""
        self._skip = samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch, _ORDER_STREAM])
        order = np.resize(rng.permutation(len(self._pairs)), self.total_size)
        share = order[self.rank :: self.num_replicas][self._skip :]
        self._skip = 0
        return iter([(self.epoch, index) for index in share.tolist()])


class ShardSampler(DistributedSampler[Any]):
    """Yields every index once over all processes, in order; the processes' shares differ by one pair at most.

    Args:
        pairs: the data set.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, pairs: Sized, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(pairs, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self._share = range(rank, len(pairs), world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)

    def __len__(self) -> int:
        return len(self._share)
