"""Which order of a feature map's numbers in memory is the fast one here."""

import torch
from torch import nn

from crossview.detector import nnpack
from crossview.detector.apart import MOST_THREADS
from crossview.detector.winograd import has_winograd


def fast_memory_format(network: nn.Module, channels_last: bool | None = None) -> torch.memory_format:
    """The memory format of a network's convolutions.

    Args:
        network: that is to be trained.
        channels_last: what the user wants; None for whatever is faster to train in: ``channels_last`` on GPUs and on
            processors with AVX-512. With AVX2 oneDNN has no fast gradient of the weights for that format, and a
            training step of VGG16 takes 1.6 times as long in it as in the ordinary one. Convolutions with fewer
            multiplications, which know the ordinary one only, are faster with AVX-512 too, by an eighth to a quarter of
            a step on up to two threads; how they fare on more could not be measured.
    """
    if channels_last is None:
        channels_last = torch.cuda.is_available() or _prefers_channels_last(network)
    return torch.channels_last if channels_last else torch.contiguous_format


def _prefers_channels_last(network: nn.Module) -> bool:
    """Whether this processor does."""
    if "AVX512" not in torch.backends.cpu.get_cpu_capability():
        return False
    return not (has_winograd(network) and torch.get_num_threads() <= MOST_THREADS and nnpack.is_available())
