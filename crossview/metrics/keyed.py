"""The state that the metrics share: matched detections in blocks, one block a key.

Convention:
    A key (int64) names what counts once: a view, or a direction of a pair. Detections compete for objects only within
    their key, so they are matched as they come and only the outcome is kept.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class KeyedRows(Metric):
    """Collects the rows of keys over batches and processes; the first block of a key counts, repetitions do not.

    A distributed sampler repeats samples to even out the processes, and a view occurs in several pairs. Every process
    gathers the same number of tensors, as a state is never an empty list: processes may get any number of updates, or
    none.

    Args:
        columns: values kept for each detection.
        kwargs: those of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    blocks: list[Tensor]  # (V, 3) int64: key, number of detections, number of objects
    detections: list[Tensor]  # (D, columns) float64, block by block
    objects: list[Tensor]  # (G,) int64 classes, block by block

    def __init__(self, columns: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = columns
        for name in ("blocks", "detections", "objects"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._append_nothing()

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._append_nothing()

    def _append_nothing(self) -> None:
        self.blocks.append(torch.zeros(0, 3, dtype=torch.int64, device=self.device))
        self.detections.append(torch.zeros(0, self.columns, dtype=torch.float64, device=self.device))
        self.objects.append(torch.zeros(0, dtype=torch.int64, device=self.device))

    def append(
        self, keys: Tensor, rows: tuple[Tensor, ...], present: Tensor, object_labels: Tensor, counted: Tensor
    ) -> None:
        """Keep the outcome of a batch.

        Args:
            keys: (...) int64.
            rows: the columns, each (..., D).
            present: (..., D) bool, which rows to keep.
            object_labels: (..., G) int64.
            counted: (..., G) bool, which objects count.

        Raises:
            ValueError: if the keys are not int64 or not one for each view.
        """
        if keys.dtype != torch.int64 or keys.shape != present.shape[:-1] or keys.shape != counted.shape[:-1]:
            raise ValueError(
                f"keys are {keys.dtype} {tuple(keys.shape)}, detections {tuple(present.shape)} and objects "
                f"{tuple(counted.shape)}: expected int64 keys, one for each view of both"
            )
        blocks = torch.stack((keys, present.sum(-1), counted.sum(-1)), dim=-1).reshape(-1, 3)
        table = torch.stack([row[present].detach().double() for row in rows], dim=-1)
        self.blocks.append(blocks.to(self.device))
        self.detections.append(table.to(self.device))
        self.objects.append(object_labels[counted].to(self.device))

    def distinct(self) -> tuple[Tensor, Tensor]:
        """Detections (D, columns) and classes of objects (G,) of every key once, by rising key.

        The order does not depend on how the keys were spread over batches and processes, so neither do ties of scores.
        """
        blocks = dim_zero_cat(self.blocks)
        keys, order = torch.sort(blocks[:, 0], stable=True)
        is_first = torch.ones_like(keys, dtype=torch.bool)
        is_first[1:] = keys[1:] != keys[:-1]
        kept = order[is_first]
        detections = dim_zero_cat(self.detections)[_rows_of_blocks(blocks[:, 1], kept)]
        objects = dim_zero_cat(self.objects)[_rows_of_blocks(blocks[:, 2], kept)]
        return detections, objects


def _rows_of_blocks(counts: Tensor, kept: Tensor) -> Tensor:
    """Row numbers (R,) of the kept blocks (K,), of blocks one after another with the given numbers of rows (V,)."""
    starts, sizes = (counts.cumsum(0) - counts)[kept], counts[kept]
    within = torch.arange(int(sizes.sum()), device=counts.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return starts.repeat_interleave(sizes) + within
