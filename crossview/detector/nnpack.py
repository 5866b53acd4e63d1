"""NNPACK's 3x3 convolutions, which PyTorch brings along for processors of several kinds.

NNPACK's own threads wait for each other several times in a layer. Two therefore work apart, each on an image of its
own, and on half of the channels of a single image. More than two work together on one image after the other.

Convention:
    Maps are (B, C, h, w) on the CPU, in single precision and in the ordinary order of memory.
"""

from functools import cache, partial

import torch
from torch import Tensor

from crossview.detector.apart import MOST_THREADS, for_each_image, in_threads, works_apart


@cache
def is_available() -> bool:
    """Whether PyTorch was built with NNPACK and the processor is one it knows; gets it ready."""
    if not hasattr(torch, "_nnpack_spatial_convolution"):  # PyTorch has no public name for it, so it may go
        return False
    if not torch.backends.nnpack.is_available():  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        return False
    threads = torch.get_num_threads()
    if threads <= MOST_THREADS:
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
    if len(maps) == 1 and works_apart():
        parts = in_threads(partial(_convolved, maps), weight.chunk(MOST_THREADS), bias.chunk(MOST_THREADS))
        return torch.cat(parts, dim=1)
    results = for_each_image(lambda image: _convolved(image, weight, bias), maps)
    return results[0] if len(results) == 1 else torch.cat(results)


def _convolved(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch._nnpack_spatial_convolution(image, weight, bias, padding=1)
