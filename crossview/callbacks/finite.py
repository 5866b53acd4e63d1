"""Stops a run whose loss or gradient is no longer a number, before it spoils the weights, and says where it is from."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from crossview.base_module import DetectorModule
from crossview.data.batch import PairBatch, ViewBatch


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite."""


class StopOnNonFiniteLoss(pl.Callback):
    """Ends the training with the names of the pairs or views and of the loss terms that are not finite."""

    def __init__(self) -> None:
        """Starts without a batch."""
        self._batch: PairBatch | ViewBatch | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: PairBatch | ViewBatch, batch_idx: int
    ) -> None:
        """Remembers the batch that the loss will belong to."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Checks the loss before it reaches any weight.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        if not bool(torch.isfinite(loss)):
            self._stop(trainer, pl_module, f"the loss is {float(loss.detach())}", _is_broken)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks the gradient: a finite loss may have one that is not.

        With 16-bit floats it is left to the gradient scaler, which expects overflows and skips such steps.

        Raises:
            NonFiniteLossError: the gradient is NaN or infinite.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        weights = [weight for weight in pl_module.parameters() if weight.grad is not None]
        norm = get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        if bool(torch.isfinite(norm)):
            return

        def has_broken_gradient(term: Tensor) -> bool:
            gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            return any(_is_broken(gradient) for gradient in gradients if gradient is not None)

        self._stop(trainer, pl_module, f"the gradient's length is {float(norm)}", has_broken_gradient)

    def _stop(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, what: str, is_guilty: Callable[[Tensor], bool]
    ) -> None:
        found: list[str] = []
        if self._batch is not None and isinstance(pl_module, DetectorModule):
            found = _diagnose(pl_module, self._batch, trainer.precision_plugin.forward_context, is_guilty)
        raise NonFiniteLossError(
            f"{what} at step {trainer.global_step}: {'; '.join(found)}. The weights are as before this step; "
            "checkpoints/last.ckpt is from before it. Look at these views and their annotations; "
            "if they are fine, lower optimizer.lr or trainer.gradient_clip_val."
        )


def _is_broken(value: Tensor) -> bool:
    return not bool(torch.isfinite(value).all())


@torch.enable_grad()
def _diagnose(
    module: DetectorModule,
    batch: PairBatch | ViewBatch,
    precision: Callable[[], AbstractContextManager[None]],
    is_guilty: Callable[[Tensor], bool],
) -> list[str]:
    """One line for every item of the batch with a guilty loss term; all items if none is guilty by itself.

    Other processes may be fine and do not take part, so nothing in here may wait for them.
    """
    lines = []
    for layer in module.modules():
        if isinstance(layer, nn.SyncBatchNorm):
            layer.eval()  # its statistics are those of all processes
    for number in range(len(batch.names)):
        item = batch.select(number)
        with precision():  # as in the step, or what overflowed there would not here
            output = module(item)
            with module.single_precision():
                _, terms = module.losses(item, output)
        guilty = [name for name, value in terms.items() if is_guilty(value)]
        if guilty:
            lines.append(f"{batch.title(number)}: {', '.join(guilty)}")
    together = ", ".join(batch.title(number) for number in range(len(batch.names)))
    return lines or [f"nothing in this process by itself, but together {together}"]
