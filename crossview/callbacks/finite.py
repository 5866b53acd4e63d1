"""Stops a run whose loss is no longer a number, before the weights are spoilt, and says where it came from."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from crossview.data.batch import PairBatch, select_pair
from crossview.module import CrossViewModule


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite."""


class StopOnNonFiniteLoss(pl.Callback):
    """Ends the training with the names of the pairs and loss terms that are not finite."""

    def __init__(self) -> None:
        """Starts without a batch."""
        self._batch: PairBatch | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: PairBatch, batch_idx: int
    ) -> None:
        """Remembers the batch that the loss will belong to."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Checks the loss before it reaches any weight.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        if bool(torch.isfinite(loss)) or self._batch is None or not isinstance(pl_module, CrossViewModule):
            return
        found = "; ".join(_diagnose(pl_module, self._batch)) or "in no single pair"
        raise NonFiniteLossError(
            f"the loss is {float(loss)} at step {trainer.global_step}: {found}. "
            "checkpoints/last.ckpt is from the last validation. Look at these views and their annotations; "
            "if they are fine, lower optimizer.lr or trainer.gradient_clip_val."
        )


@torch.no_grad()
def _diagnose(module: CrossViewModule, batch: PairBatch) -> list[str]:
    """One line for every pair of the batch whose loss is not finite."""
    lines = []
    for number, (view_1, view_2) in enumerate(batch.names):
        pair = select_pair(batch, number)
        _, terms = module.losses(pair, module(pair))
        broken = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        if broken:
            lines.append(f"pair {view_1} / {view_2}: {', '.join(broken)}")
    return lines
