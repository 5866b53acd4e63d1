"""Work on many portions in as many processes as there are cores to use."""

import copyreg
import io
import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

import torch

from crossview.cores import usable_cores

LEAST = 8  # matchings of a portion for each process: below, it would take longer to start than to do the work
MOST = 8  # processes, each of which holds PyTorch

logger = logging.getLogger(__name__)

Mapping = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@contextmanager
def mapping(amount: int) -> Iterator[Mapping]:
    """A function like the built-in `map`, whose items may be worked on in processes of their own.

    Those are the cores that this process may use, at most one for an amount of `LEAST`. With one, and in a process that
    shares the machine with others of its kind, such as a job of a sweep, the work is done here. What they work on and
    what they give must be picklable. They use one thread of PyTorch each and end with the block, or with this process.

    Args:
        amount: of work, in portions that are matched once.
    """
    processes = min(usable_cores(), MOST, amount // LEAST)
    if processes < 2 or parent_process() is not None:
        yield map
        return
    # A fork would copy the threads of PyTorch in whatever state they are.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start)

    def spread(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        own = list(items)
        return _gathered(work, own, [_submitted(pool, work, item) for item in own])

    try:
        yield spread
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, work: Callable[[Any], Any], item: object) -> Future[bytes] | None:
    try:
        return pool.submit(_on_bytes, work, _dump(item))
    except BrokenProcessPool:
        return None


def _gathered(
    work: Callable[[Any], Any], items: Sequence[Any], answers: Sequence[Future[bytes] | None]
) -> Iterator[Any]:
    """The answers in order; what lost its process is done here."""
    lost = False
    for item, answer in zip(items, answers, strict=True):
        try:
            yield work(item) if answer is None or lost else pickle.loads(answer.result())
        except BrokenProcessPool:
            lost = True
            logger.warning("A helping process was ended from outside; this one does the rest, which takes longer.")
            yield work(item)


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the first process decides
    Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the main thread waits for work that never comes
