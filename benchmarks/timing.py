"""How time is taken: pieces of work in turn, round after round, in one process.

Work that uses one thread is timed with the processor's clock, which other work on the machine disturbs less; work that
uses several threads or processes with the clock on the wall.
"""

import gc
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import cv2
import numpy as np
import torch

from crossview.memory import keep_freed_memory

Clock = Callable[[], float]
Work = Callable[[], object]
Result = TypeVar("Result")

WALL: Clock = time.perf_counter
PROCESSOR: Clock = time.process_time
_STATUS = Path("/proc/self/status")  # Linux


@dataclass(frozen=True)
class Times:
    """What a piece of work took.

    Attributes:
        seconds: of each round.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median, seconds."""
        return median(self.seconds)

    @property
    def mean(self) -> float:
        """Mean, seconds."""
        return sum(self.seconds) / len(self.seconds)

    def percentile(self, share: float) -> float:
        """A percentile (0 to 100), seconds."""
        return float(np.percentile(self.seconds, share))


def seconds(work: Work, clock: Clock = WALL) -> float:
    """What one call takes."""
    start = clock()
    work()
    return clock() - start


def in_turn(work: Mapping[str, Work], rounds: int, clock: Clock = WALL, warm_up: int = 1) -> dict[str, Times]:
    """What each piece of work takes, done in turn; the first ``warm_up`` rounds are not counted.

    Each round starts with another piece, so that none always follows the same one.
    """
    names = list(work)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        gc.collect()
        for name in names[number % len(names) :] + names[: number % len(names)]:
            spent = seconds(work[name], clock)
            if number >= 0:
                taken[name].append(spent)
    return {name: Times(tuple(values)) for name, values in taken.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch and OpenCV work in this thread alone: threads that wait for each other count as processor time."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def peak_memory() -> int:
    """The most memory that this process has held so far, bytes."""
    # Asked otherwise, a process has that of the one that started it too.
    status = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    for line in status:
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def with_kept_memory(work: Callable[[], Result], threads: int) -> Result:
    """What the work gives with so many threads in a process that keeps freed memory from now on."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    return work()


def in_new_process(work: Callable[..., Result], *arguments: object) -> tuple[Result, int]:
    """What a function returns in a process of its own, and the peak of that process's memory in bytes.

    It is a program of its own, as a user starts one: an evaluation in a helping process would not use all cores.

    Args:
        work: a function at the top of a module; gets the arguments.
        arguments: whatever can be pickled.

    Raises:
        subprocess.CalledProcessError: the work failed; what it said is on the standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "task", Path(folder) / "answer"
        task.write_bytes(pickle.dumps((work, arguments)))
        root = Path(__file__).parents[1]
        command = [sys.executable, "-m", "benchmarks.own_process", str(task), str(answer)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(root)})
        found: tuple[Result, int] = pickle.loads(answer.read_bytes())
        return found


def with_peak(work: Callable[..., Result], *arguments: object) -> tuple[Result, int]:
    """What a function returns, and the peak of this process's memory so far in bytes."""
    return work(*arguments), peak_memory()
