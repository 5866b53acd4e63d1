import math
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from crossview.build import ConfigError, build
from crossview.command import CONFIG_DIR
from crossview.schedules import multi_step, one_cycle

PEAK = 2e-4


def two_groups(lr=1.0):
    return torch.optim.Adam([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr * scale} for scale in (1, 10)], lr=lr)


def rates(schedule, steps):
    """Learning rate of the first group in each of the steps, and after the last."""
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return [*found, schedule.optimizer.param_groups[0]["lr"]]


def shipped(name):
    config: Any = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / "scheduler" / f"{name}.yaml"))
    return build(config["schedule"], "scheduler.schedule"), config["interval"]


def test_the_notebooks_steps():
    schedule, interval = shipped("steps")
    assert interval == "epoch"
    found = rates(schedule(two_groups(1e-3), 120), 120)
    for epoch, expected in [(0, 1e-3), (79, 1e-3), (80, 1e-4), (99, 1e-4), (100, 1e-5), (119, 1e-5)]:
        assert found[epoch] == pytest.approx(expected), epoch


def test_steps_after_a_linear_rise():
    schedule = multi_step(two_groups(1e-3), 30, milestones=[10, 20], gamma=0.1, warmup=4)
    found = rates(schedule, 30)
    rise = [1e-3 * (0.01 + 0.99 * step / 4) for step in range(4)]
    assert found[:4] == pytest.approx(rise)
    for step, expected in [(4, 1e-3), (9, 1e-3), (10, 1e-4), (19, 1e-4), (20, 1e-5), (29, 1e-5)]:
        assert found[step] == pytest.approx(expected), step


@pytest.mark.parametrize("total", [1, 50, math.inf])
def test_constant(total):
    schedule, _ = shipped("constant")
    assert rates(schedule(two_groups(PEAK), total), 12) == [PEAK] * 13


def test_one_cycle_goes_up_and_down_over_the_run():
    # 0.1 of 101 steps: the peak is at step 9.1 (counted from 0), the end at step 100.
    schedule = one_cycle(two_groups(PEAK), 100, warmup=0.1, start_factor=0.1, end_factor=0.02)
    found = rates(schedule, 100)

    def cosine(start, end, share):
        return PEAK * (end + (start - end) * (1 + math.cos(math.pi * share)) / 2)

    assert found[0] == pytest.approx(0.1 * PEAK)
    assert found[5] == pytest.approx(cosine(0.1, 1.0, 5 / 9.1))
    assert found[55] == pytest.approx(cosine(1.0, 0.02, (55 - 9.1) / 90.9))
    assert found[99] == pytest.approx(cosine(1.0, 0.02, (99 - 9.1) / 90.9))  # of the last optimizer step
    assert found[100] == pytest.approx(0.02 * PEAK)
    top = found.index(max(found))
    assert top == 10  # 0.9 steps down a slope ten times as long is higher than 0.1 steps before the top
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_one_cycle_keeps_the_ratio_of_the_groups():
    optimizer = two_groups(PEAK)
    schedule = one_cycle(optimizer, 10)
    for _ in range(10):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(10 * first)
        optimizer.step()
        schedule.step()


def test_one_cycle_leaves_momentum_alone():
    optimizer = two_groups()
    rates(one_cycle(optimizer, 5), 5)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_of_a_very_short_run(total):
    found = rates(one_cycle(two_groups(PEAK), total), total)
    assert all(0 < rate <= PEAK * (1 + 1e-9) for rate in found)
    assert found[-1] == pytest.approx(0.02 * PEAK)


@pytest.mark.parametrize("total", [math.inf, 0, -1])
def test_one_cycle_needs_the_length_of_the_run(total):
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs or trainer\.max_steps, or choose scheduler=const"):
        one_cycle(two_groups(), total)


@pytest.mark.parametrize("warmup", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("total", range(1, 25))
def test_one_cycle_takes_any_number_of_steps(total, warmup):
    found = rates(one_cycle(two_groups(PEAK), total, warmup=warmup), total)
    assert all(0 < rate <= PEAK * 1.0001 for rate in found)
    assert found[-1] == pytest.approx(0.02 * PEAK)
