"""Convolutions with their padding and their activation in one pass over the maps, for inference on the CPU.

A small network spends much of its time on moving maps about. oneDNN, which PyTorch brings along, bounds results while
it has them at hand, and keeps kernels in an order of its own; PyTorch uses both in networks that it compiles, whose
operations these are. And TensorFlow's padding, of which one side may be the wider one, needs no padded copy of the
map: a kernel with zeros on its narrower side and the wider padding on both sides gives the same.

Convention:
    Maps are (B, C, h, w) in ``channels_last``.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn import functional

OPERATIONS = ("_convolution_pointwise", "_reorder_convolution_weight")  # not public names, so they may go


Way = Callable[[Tensor], Tensor]  # results (B, D, h', w') of maps (B, C, h, w)


class FusedConv2d(nn.Module):
    """A convolution and the bounds of its results, without gradients.

    In single precision and where oneDNN has it in one pass; else one after the other.
    """

    def __init__(self, layer: nn.Conv2d, bounds: tuple[float, float] | None = None) -> None:
        """Takes a layer over, whose weights do not change any more.

        Args:
            layer: one of `can_be_fused`.
            bounds: least and largest value of the results; None for no bounds.
        """
        super().__init__()
        self.layer = layer
        self.bounds = bounds
        self._ready: tuple[torch.Size, Way] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """The results (B, D, h', w') of maps (B, C, h, w)."""
        if not is_available() or not maps.dtype == self.layer.weight.dtype == torch.float32:
            results: Tensor = self.layer(maps)
            return results if self.bounds is None else results.clamp_(*self.bounds)
        ready = self._ready  # threads that work apart may come here at once, and make two
        if ready is None or ready[0] != maps.shape:
            ready = self._ready = maps.shape, _in_one_pass(self.layer, self.bounds, maps.shape)
        return ready[1](maps)


@cache
def is_available() -> bool:
    """Whether PyTorch has these operations, and the processor is of the kind on which they were found to be faster."""
    if not torch.backends.mkldnn.is_available() or "AVX" not in torch.backends.cpu.get_cpu_capability():  # type: ignore[no-untyped-call]
        return False
    return all(hasattr(torch.ops.mkldnn, name) for name in OPERATIONS)


def can_be_fused(layer: nn.Module) -> bool:
    """Whether it is a convolution whose padding is zeros, with TensorFlow's padding or the same on both sides."""
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        return False
    return type(layer) is Conv2dSame or (type(layer) is nn.Conv2d and not isinstance(layer.padding, str))


def fuse(network: nn.Module) -> nn.Module:
    """Replaces a network's convolutions, and each ReLU6 that follows one in the same module; returns the network."""
    for parent in list(network.modules()):
        for (name, layer), (next_name, follower) in pairwise((*parent.named_children(), ("", None))):
            if not isinstance(layer, nn.Conv2d) or not can_be_fused(layer):
                continue
            bounds = (follower.min_val, follower.max_val) if isinstance(follower, nn.ReLU6) else None
            setattr(parent, name, FusedConv2d(layer, bounds))
            if bounds is not None:
                setattr(parent, next_name, nn.Identity())
    return network


def _in_one_pass(layer: nn.Conv2d, bounds: tuple[float, float] | None, size: torch.Size) -> Way:
    """The way for maps of this size."""
    weight, padding = layer.weight.detach(), layer.padding
    if isinstance(layer, Conv2dSame):
        sides = zip(size[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
        rows, columns = (get_same_padding(*side) for side in sides)
        # Of an odd number, the end has one more than the start.
        weight = functional.pad(weight, (columns % 2, 0, rows % 2, 0)).contiguous(memory_format=torch.channels_last)
        padding = ((rows + 1) // 2, (columns + 1) // 2)
    how = padding, layer.stride, layer.dilation, layer.groups
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *how, size)
    activation = ("none", []) if bounds is None else ("hardtanh", list(bounds))

    def convolved(maps: Tensor) -> Tensor:
        results: Tensor = torch.ops.mkldnn._convolution_pointwise(maps, packed, layer.bias, *how, *activation, "")
        return results

    return convolved
