"""Work on many portions in as many processes as there are cores to use."""

import gc
import logging
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from threading import Thread
from typing import Any

import torch

from crossview.cores import usable_cores
from crossview.evaluation.spill import pickled

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
    pools: list[ProcessPoolExecutor] = []

    def spread(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        whole = _Work(work, list(items))
        pool = ProcessPoolExecutor(processes, _context(), initializer=_start, initargs=(whole,))
        pools.append(pool)
        return _gathered(whole, deque(_submitted(pool, number) for number in range(len(whole.items))))

    try:
        yield spread
    finally:
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


class _Work:
    """What is done with which items: a forked process has them from the start, another one gets them as a pickle."""

    def __init__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.work = work
        self.items = items

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (pickled((self.work, self.items)),)

    def __call__(self, number: int) -> object:
        return self.work(self.items[number])


def _loaded(data: bytes) -> _Work:
    return _Work(*pickle.loads(data))


def _context() -> BaseContext:
    """How processes begin: on Linux as forks, which need not import anything nor be sent what they work on.

    Other threads' locks may be held for ever in a fork. As in the processes of PyTorch's `DataLoader`, there is one
    thread, and no GPU, in what it does.
    """
    return get_context("fork" if sys.platform == "linux" else "spawn")


def _submitted(pool: ProcessPoolExecutor, number: int) -> Future[bytes] | None:
    try:
        return pool.submit(_answer, number)
    except BrokenProcessPool:
        return None


def _gathered(work: _Work, answers: deque[Future[bytes] | None]) -> Iterator[Any]:
    """The answers in order, none of which is kept; what lost its process is done here."""
    lost = False
    for number in range(len(answers)):
        answer = answers.popleft()
        try:
            yield work(number) if answer is None or lost else pickle.loads(answer.result())
        except BrokenProcessPool:
            lost = True
            logger.warning("A helping process was ended from outside; this one does the rest, which takes longer.")
            yield work(number)


_own: list[_Work] = []  # in a helping process: its work


def _start(work: _Work) -> None:
    _own[:] = [work]
    gc.freeze()  # what was there before the fork is no garbage: looking through it would copy it, page by page
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the first process decides
    Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    torch.set_num_threads(1)


def _answer(number: int) -> bytes:
    return pickled(_own[0](number))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the main thread waits for work that never comes
