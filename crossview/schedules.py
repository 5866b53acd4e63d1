"""Learning-rate schedules. Each is called with the optimizer and the number of optimizer steps of the whole run."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, LinearLR, LRScheduler, MultiStepLR, OneCycleLR

from crossview.build import ConfigError

WARMUP_START = 0.01  # of the learning rate, in the first step of a linear rise


def constant(optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """The optimizer's own learning rate throughout."""
    return ConstantLR(optimizer, factor=1.0)


def multi_step(
    optimizer: Optimizer, total_steps: float, milestones: Sequence[int], gamma: float, warmup: int = 0
) -> LRScheduler:
    """The learning rate times ``gamma`` at each milestone, after a linear rise.

    Args:
        optimizer: its learning rates are those before the first milestone.
        total_steps: optimizer steps of the run; not needed.
        milestones: in the schedule's interval, epochs or steps.
        gamma: factor at each milestone.
        warmup: epochs or steps of the rise from a hundredth of the learning rate; 0 for none. Adam's first steps change
            every weight by the whole learning rate, which a network that starts at random does not survive unharmed.
    """
    steps = MultiStepLR(optimizer, milestones=list(milestones), gamma=gamma)
    if warmup == 0:
        return steps
    rise = LinearLR(optimizer, start_factor=WARMUP_START, total_iters=warmup)
    return ChainedScheduler([rise, steps], optimizer=optimizer)


def one_cycle(
    optimizer: Optimizer, total_steps: float, warmup: float = 0.1, start_factor: float = 0.1, end_factor: float = 0.02
) -> LRScheduler:
    """Up to the optimizer's learning rate and down again over the whole run (Smith and Topin 2018, cosine).

    Args:
        optimizer: its learning rates are the peaks.
        total_steps: optimizer steps of the run.
        warmup: share of the run that the rise takes.
        start_factor: first learning rate as a fraction of the peak.
        end_factor: last learning rate as a fraction of the peak.

    Raises:
        ConfigError: the run has no known end.
    """
    if not math.isfinite(total_steps) or total_steps < 1:
        raise ConfigError(
            "scheduler=one_cycle needs to know the length of the run: set trainer.max_epochs or trainer.max_steps, "
            "or choose scheduler=constant"
        )
    planned = int(total_steps) + 1  # one spare step: Lightning steps the schedule after the last optimizer step too
    if math.isclose(warmup * planned, 1.0):
        warmup = 0.5 / planned  # a rise of one step has no length, by which torch divides: begin at the peak
    return OneCycleLR(
        optimizer,
        max_lr=[float(group["lr"]) for group in optimizer.param_groups],
        total_steps=planned,
        pct_start=warmup,
        div_factor=1.0 / start_factor,
        final_div_factor=start_factor / end_factor,
        cycle_momentum=False,
    )
