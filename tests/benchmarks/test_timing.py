from multiprocessing import parent_process

import numpy as np
import pytest
import torch

from benchmarks.benchmark import Ratio, Report
from benchmarks.timing import Times, in_new_process, in_turn, one_thread, peak_memory


def doubled(value):
    return 2.0 * value


def helps_another_process(_):
    return parent_process() is not None


def test_work_is_done_in_turn_by_the_given_clock():
    done = []
    ticks = iter(range(100))
    work = {name: lambda name=name: done.append(name) for name in "abc"}
    times = in_turn(work, 3, lambda: float(next(ticks)), warm_up=1)
    assert all(taken.seconds == (1.0, 1.0, 1.0) for taken in times.values())
    rounds = ["".join(done[i : i + 3]) for i in range(0, 12, 3)]
    assert rounds == ["cab", "abc", "bca", "cab"]  # a warm-up, and each starts once


def test_medians_and_ratios():
    report = Report()
    report.add_times({"work": Times((0.003, 0.001, 0.002, 0.010))})
    (row,) = report.rows
    assert row.value == pytest.approx(2.5)
    assert row.low == pytest.approx(1.3)
    assert row.high == pytest.approx(7.9)
    assert (row.unit, row.count) == ("ms", 4)
    assert Ratio("x", 1.5).is_reached is None
    assert Ratio("x", 1.5, 1.5).is_reached is True
    assert Ratio("x", 1.6, 1.5, at_least=False).is_reached is False


def test_one_thread_ends():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_process_of_its_own_tells_its_result_and_its_memory():
    held = np.ones(2**28)  # two gigabytes, which is not the other process's
    value, peak = in_new_process(doubled, 21)
    assert value == 42
    assert 2**20 < peak < held.nbytes < peak_memory()


def test_a_process_of_its_own_may_have_helpers():
    assert in_new_process(helps_another_process, None)[0] is False  # an evaluation in a helper would use one core
