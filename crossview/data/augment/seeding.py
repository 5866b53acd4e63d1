"""Random draws that depend on nothing but (seed, epoch, index): not on workers, ranks or global state."""

from dataclasses import dataclass

import numpy as np

SEED_LIMIT = 2**32


@dataclass(frozen=True, slots=True)
class Draws:
    """Source of the random numbers of one pair in one epoch.

    Attributes:
        seed: the run's seed, 0 to 2**32 - 1.
        epoch: number of the epoch, from 0.
        index: number of the pair in its data set.
    """

    seed: int
    epoch: int
    index: int

    def sequence(self, *stream: int) -> np.random.SeedSequence:
        """Entropy of one stream: streams of different numbers are independent of each other."""
        return np.random.SeedSequence([self.seed, self.epoch, self.index, *stream])

    def generator(self, *stream: int) -> np.random.Generator:
        """A new generator at the start of one stream."""
        return np.random.default_rng(self.sequence(*stream))
