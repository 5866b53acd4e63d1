"""Convolutions with their padding and their activation in one pass over the maps, for inference on the CPU.

A small network spends much of its time on moving maps about. oneDNN, which PyTorch brings along, bounds results while it
has them at hand, and keeps kernels in an order of its own; PyTorch uses both in networks that it compiles, whose
operations these are. And TensorFlow's padding, of which one side may be the wider one, needs no padded copy of the map:
a kernel with zeros on its narrower side and the wider padding on both sides gives the same.

Convention:
    Maps are (B, C, h, w) in ``channels_last``.
"""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn
from torch.nn import functional

OPERATIONS = ("_convolution_pointwise", "_reorder_convolution_weight")  # not public names, so they may go


class _Packed(NamedTuple):
    """A kernel as oneDNN wants it for maps of one size, and the padding of both sides of rows and columns."""

    size: torch.Size
    weight: Tensor
    padding: tuple[int, int]


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
        self._packed: _Packed | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """The results (B, D, h', w') of maps (B, C, h, w)."""
        layer = self.layer
        if not is_available() or not maps.dtype == layer.weight.dtype == torch.float32:
            result: Tensor = layer(maps)
            return result if self.bounds is None else result.clamp_(*self.bounds)
        packed = self._packed  # threads that work apart may come here at once, and make two
        if packed is None or packed.size != maps.shape:
            packed = self._packed = _packed(layer, maps.shape)
        what, values = ("none", []) if self.bounds is None else ("hardtanh", list(self.bounds))
        result = torch.ops.mkldnn._convolution_pointwise(
            maps, packed.weight, layer.bias, packed.padding, layer.stride, layer.dilation, layer.groups, what, values, ""
        )
        return result


@cache
def is_available() -> bool:
    """Whether PyTorch has these operations, and the processor is of the kind on which they were measured to be faster."""
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


def _packed(layer: nn.Conv2d, size: torch.Size) -> _Packed:
    weight, padding = layer.weight.detach(), layer.padding
    if isinstance(layer, Conv2dSame):
        sides = zip(size[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
        rows, columns = (get_same_padding(*side) for side in sides)
        # Of an odd number, the end has one more than the start.
        weight = functional.pad(weight, (columns % 2, 0, rows % 2, 0)).contiguous(memory_format=torch.channels_last)
        padding = ((rows + 1) // 2, (columns + 1) // 2)
    assert not isinstance(padding, str), "refused by `can_be_fused`"
    args = padding, layer.stride, layer.dilation, layer.groups, size
    return _Packed(size, torch.ops.mkldnn._reorder_convolution_weight(weight, *args), (padding[0], padding[1]))
