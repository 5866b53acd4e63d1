"""Work on many portions in as many processes as there are cores to use."""

import copyreg
import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from crossview.cores import usable_cores
from crossview.signals import outlive_signals

LEAST = 8  # matchings of a portion for each process: below, it would take longer to start than to do the work

Mapping = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def mapping(amount: int) -> Iterator[Mapping]:
    """A function like the built-in `map`, whose items may be worked on in processes of their own.

    Those are the cores that this process may use, at most one for an amount of `LEAST`; with one, the work is done
    here. What they work on and what they give must be picklable. They use one thread each and end with the block.

    Args:
        amount: of work, in portions that are matched once.
    """
    processes = min(usable_cores(), amount // LEAST)
    if processes < 2:
        yield map
        return
    # A fork would copy the threads of PyTorch in whatever state they are.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start)

    def spread(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(pickle.loads, pool.map(partial(_on_bytes, work), map(_dump, items)))

    try:
        yield spread
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _on_bytes(work: Callable[[Any], Any], item: bytes) -> bytes:
    """Does the work on a pickled item and pickles what it gives."""
    return _dump(work(pickle.loads(item)))


def _dump(item: object) -> bytes:
    """A pickle with tensors as arrays.

    Left to the pool, every small tensor would travel as a file descriptor, of which a process has few; PyTorch's own
    pickles take ten times as long.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {**copyreg.dispatch_table, torch.Tensor: _reduce_tensor}
    pickler.dump(item)
    return file.getvalue()


def _reduce_tensor(tensor: torch.Tensor) -> tuple[Any, ...]:
    return torch.from_numpy, (tensor.numpy(),)


def _start() -> None:
    outlive_signals()
    torch.set_num_threads(1)
