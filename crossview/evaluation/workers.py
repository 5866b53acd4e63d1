"""Work on many portions in as many processes as there are cores to use."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

from crossview.signals import outlive_signals

LEAST = 8  # portions for each process: below, it would take longer to start than to do the work

Mapping = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def mapping(count: int, processes: int | None = None) -> Iterator[Mapping]:
    """A function like the built-in `map` for ``count`` items of work, which others may do in processes of their own.

    What they work on and what they give must be picklable. They do nothing else, on one thread each, and end with the
    block.

    Args:
        count: of the items in all calls.
        processes: to share the work; None: the cores that this process may use, at most one for `LEAST` items. With one
            the work is done here.
    """
    processes = min(_cores(), count // LEAST) if processes is None else processes
    if processes < 2:
        yield map
        return
    # A fork would copy the threads of PyTorch in whatever state they are.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start)
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> None:
    outlive_signals()
    torch.set_num_threads(1)
