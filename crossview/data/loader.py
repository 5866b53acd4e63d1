"""The loader of the training batches, which can go on in the middle of an epoch.

Lightning keeps the states of loaders that have them in its checkpoints, and hands them back before the first batch.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader

from crossview.data.sampling import TrainSampler


class TrainLoader(DataLoader[Any]):
    """A `DataLoader` over a `TrainSampler` with batches of a fixed size."""

    sampler: TrainSampler
    batch_size: int

    _resumed_epoch: int | None = None
    _resumed_batches = 0
    _batches = 0  # handed out in this epoch

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Lets the next pass begin after the batches of ``state``, if it is of the same epoch."""
        self._resumed_epoch, self._resumed_batches = state["epoch"], state["batches"]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # all that Lightning needs of it
        """One pass over the samples.

        Does nothing until the first batch is asked for: only then the sampler knows the epoch, which workers that
        started earlier would miss after a resume.
        """
        self._batches = self._resumed_batches if self.sampler.epoch == self._resumed_epoch else 0
        self._resumed_epoch = None
        self.sampler.skip_once(self._batches * self.batch_size)
        for batch in super().__iter__():
            self._batches += 1
            yield batch
