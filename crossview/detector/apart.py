"""Two threads of a processor that work apart, each on an image of its own.

PyTorch's threads work on one operation together and wait for each other at its end. Threads that work apart wait once.
They help convolutions of NNPACK, which takes single images only; a network of many small operations is the better off
with all images at once, as Python's part of the work is then done once, and only one thread at a time can do that.

Convention:
    Work apart is without gradients, and on the CPU.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor, nn

MOST_THREADS = 2  # more work together: there may be fewer images than threads

Result = TypeVar("Result")


def is_inference_on_cpu(module: nn.Module, images: Tensor) -> bool:
    """Whether a network in this mode looks at these images on the CPU for their results alone.

    Not in training, for a gradient, in 16-bit floats or for a compiler.
    """
    return (
        not module.training
        and images.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def works_apart() -> bool:
    """Whether this thread shares its work out: not where there is one only, as in those that work apart."""
    return 1 < torch.get_num_threads() <= MOST_THREADS


def in_threads(work: Callable[..., Result], *columns: Sequence[Tensor]) -> list[Result]:
    """Like the built-in `map`, in threads that work apart."""

    def without_gradient(*row: Tensor) -> Result:
        with torch.no_grad():  # every thread has its own
            return work(*row)

    return list(_threads().map(without_gradient, *columns))


def for_each_image(work: Callable[[Tensor], Result], images: Tensor) -> list[Result]:
    """What work gives for each image (1, ...) of images (B, ...)."""
    single = torch.split(images, 1)
    if len(single) == 1 or not works_apart():
        return [work(image) for image in single]
    return in_threads(work, single)


@cache
def _threads() -> ThreadPoolExecutor:
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(MOST_THREADS, "apart", initializer=_be_single)
    all_there = Barrier(MOST_THREADS)
    wait([pool.submit(all_there.wait) for _ in range(MOST_THREADS)])
    torch.set_num_threads(threads)  # what a thread sets for itself, it sets for MKL and new threads too
    return pool


# A forked process has the pool's memory and none of its threads: it makes its own.
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_threads.cache_clear)


def _be_single() -> None:
    torch.get_num_threads()  # its first call in a thread would undo what follows
    torch.set_num_threads(1)
