"""NNPACK's 3x3 convolutions, which PyTorch brings along for processors of several kinds.

Threads: NNPACK's own wait for each other several times in a layer. Two of them lose a good part of the second one's
time with that, so they work apart: each on an image of its own, and on half of the channels of a single image. More
than two work together on one image after the other.

Convention:
    Maps are (B, C, h, w) on the CPU, in single precision and in the ordinary order of memory.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

APART = 2  # threads, at most, that work apart

Result = TypeVar("Result")


@cache
def is_available() -> bool:
    """Whether PyTorch was built with NNPACK and the processor is one it knows; gets it ready."""
    if not hasattr(torch, "_nnpack_spatial_convolution"):  # PyTorch has no public name for it, so it may go
        return False
    if not torch.backends.nnpack.is_available():  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        return False
    threads = torch.get_num_threads()
    if threads <= APART:
        # NNPACK keeps the threads of its first convolution: with one it never waits, whoever calls it.
        torch.set_num_threads(1)
        _convolved(torch.zeros(1, 16, 8, 8), torch.zeros(16, 16, 3, 3), torch.zeros(16))
        torch.set_num_threads(threads)
    return True


def convolve(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolves with padding 1; NNPACK takes the fast way for one image at a time only.

    Args:
        maps: (B, C, h, w), of one image at least.
        weight: (D, C, 3, 3).
        bias: (D,).

    Returns:
        (B, D, h, w).
    """
    if len(maps) == 1 and _works_apart():
        return torch.cat(_in_threads(partial(_convolved, maps), weight.chunk(APART), bias.chunk(APART)), dim=1)
    results = for_each_image(lambda image: _convolved(image, weight, bias), maps)
    return results[0] if len(results) == 1 else torch.cat(results)


def for_each_image(work: Callable[[Tensor], Result], images: Tensor) -> list[Result]:
    """What work without gradients gives for each image (1, ...) of images (B, ...)."""
    single = torch.split(images, 1)
    if len(single) == 1 or not _works_apart():
        return [work(image) for image in single]
    return _in_threads(work, single)


def _works_apart() -> bool:
    return 1 < torch.get_num_threads() <= APART  # one in the threads below


def _convolved(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch._nnpack_spatial_convolution(image, weight, bias, padding=1)


def _in_threads(work: Callable[..., Result], *columns: Sequence[Tensor]) -> list[Result]:
    """Like the built-in `map`, without gradients."""

    def without_gradient(*row: Tensor) -> Result:
        with torch.no_grad():  # every thread has its own
            return work(*row)

    return list(_threads().map(without_gradient, *columns))


@cache
def _threads() -> ThreadPoolExecutor:
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(APART, "convolution", initializer=_be_single)
    all_there = Barrier(APART)
    wait([pool.submit(all_there.wait) for _ in range(APART)])
    torch.set_num_threads(threads)  # what a thread sets for itself, it sets for MKL and new threads too
    return pool


def _be_single() -> None:
    torch.get_num_threads()  # its first call in a thread would undo what follows
    torch.set_num_threads(1)
