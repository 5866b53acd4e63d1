"""Compiles the detectors before they are trained; the names of their weights stay as they are."""

import logging
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from crossview.base_module import DetectorModule

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

logger = logging.getLogger(__name__)


class CompiledDetectors(pl.Callback):
    """Lets `torch.compile` make the detectors faster; where it cannot, they go on as they are, and a warning says why.

    Only the forward pass of a detector is replaced, which is nearly all of a step. Checkpoints know nothing of it: a
    run goes on, and a checkpoint is evaluated, with or without.
    """

    def __init__(self, mode: str | None = "default", backend: str = "inductor") -> None:
        """Takes the settings.

        Args:
            mode: what `torch.compile` aims at; None: nothing is compiled.
            backend: which compiler.

        Raises:
            ValueError: there is no such mode.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f"callbacks.compile.mode: found {mode}, expected null or one of {', '.join(MODES)}")
        self.mode = mode
        self.backend = backend

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compiles; what is compiled depends on the shape of the batches, so that it happens within the first ones."""
        if self.mode is None or not isinstance(pl_module, DetectorModule):
            return
        for detector in pl_module.detectors():
            if "forward" not in vars(detector):
                _compile_forward(detector, mode=self.mode, backend=self.backend)


def _compile_forward(network: nn.Module, **options: Any) -> None:
    """Puts a compiled function before the network's own ``forward``."""
    compiled = torch.compile(network.forward, **options)
    # An attribute of the object, not of the class, and no module: it is neither saved nor counted.
    network.forward = partial(_forward, network, compiled, network.forward)


def _forward(network: nn.Module, compiled: Any, plain: Any, *arguments: object) -> object:  # noqa: ANN401
    try:
        return compiled(*arguments)
    except Exception as error:  # compilers fail in many ways
        result = plain(*arguments)  # which fails too if it was not the compiler's fault
        network.forward = plain
        _warn(type(network).__name__, error)
        return result


@rank_zero_only
def _warn(name: str, error: Exception) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    logger.warning(
        "%s cannot be compiled here and goes on without (%s: %s). torch.compile needs a C++ compiler, and Triton on "
        "a GPU; callbacks.compile.mode=null leaves it out.",
        name,
        type(error).__name__,
        " ".join(lines[:2])[:200],  # the first one may only say which compiler it was
    )
