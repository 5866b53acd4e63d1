"""Convolutions with kernels and padding as oneDNN wants them, for inference on the CPU.

A small network spends much of its time on moving numbers about. oneDNN, which PyTorch brings along, has kernels in an
order of its own, into which PyTorch brings them in each call, but for networks that it compiles. And TensorFlow's
padding, of which one side may be the wider one, needs no padded copy of the map: a kernel with zeros on its narrower
side and the wider padding on both sides gives the same.

Activations stay layers of their own: oneDNN would bound results in the same pass, and make NaN a number.

Convention:
    Maps are (B, C, h, w) in ``channels_last``.
"""

from functools import cache
from typing import NamedTuple, TypeGuard

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn import functional


class Packed(NamedTuple):
    """A kernel as oneDNN wants it for maps of one size, and the padding of both sides of rows and columns."""

    size: torch.Size
    weight: Tensor
    padding: tuple[int, int]


class PackedConv2d(nn.Module):
    """A convolution without gradients.

    In single precision and where PyTorch and the processor have this way; else the layer as it is. PyTorch's counter of
    operations does not know it.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        """Takes over a layer that `can_be_packed`, whose weights do not change any more."""
        super().__init__()
        self.layer = layer
        self._packed: Packed | None = None

    def forward(self, maps: Tensor) -> Tensor:
        """The results (B, D, h', w') of maps (B, C, h, w)."""
        layer = self.layer
        may_be_packed = torch.backends.mkldnn.enabled and is_available()
        if not may_be_packed or not maps.dtype == layer.weight.dtype == torch.float32:
            plain: Tensor = layer(maps)
            return plain
        packed = self._packed  # callers in several threads may make two
        if packed is None or packed.size != maps.shape:
            packed = self._packed = pack(layer, maps.shape)
        return convolve(maps, packed, layer)


def can_be_packed(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution without hooks, padded with zeros as TensorFlow does or the same on both sides."""
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        return False
    if layer._forward_hooks or layer._forward_pre_hooks:
        return False
    return type(layer) is Conv2dSame or (type(layer) is nn.Conv2d and not isinstance(layer.padding, str))


def with_packed_convolutions(network: nn.Module) -> nn.Module:
    """Replaces a network's convolutions where they can be; returns the network."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if can_be_packed(layer):
                setattr(parent, name, PackedConv2d(layer))
    return network


@cache
@torch.no_grad()
def is_available() -> bool:
    """Whether PyTorch has these operations, and the processor is of the kind on which they were found to be faster.

    They have no public names and may change, so they are tried.
    """
    if not torch.backends.mkldnn.is_available() or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):  # type: ignore[no-untyped-call]
        return False
    layer, maps = nn.Conv2d(8, 8, 1), torch.zeros(1, 8, 4, 4)
    try:
        convolve(maps, pack(layer, maps.shape), layer)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def pack(layer: nn.Conv2d, size: torch.Size) -> Packed:
    """The kernel and the padding of a layer for maps of this size (B, C, h, w)."""
    weight, padding = layer.weight.detach(), layer.padding
    if isinstance(layer, Conv2dSame):
        sides = zip(size[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True)
        rows, columns = (get_same_padding(*side) for side in sides)
        # Of an odd number, the end has one more than the start.
        weight = functional.pad(weight, (columns % 2, 0, rows % 2, 0)).contiguous(memory_format=torch.channels_last)
        padding = ((rows + 1) // 2, (columns + 1) // 2)
    assert not isinstance(padding, str), "refused by `can_be_packed`"
    how = padding, layer.stride, layer.dilation, layer.groups
    return Packed(size, torch.ops.mkldnn._reorder_convolution_weight(weight, *how, size), (padding[0], padding[1]))


def convolve(maps: Tensor, packed: Packed, layer: nn.Conv2d) -> Tensor:
    """The results (B, D, h', w') of maps (B, C, h, w) of the size for which the layer was packed."""
    how = packed.padding, layer.stride, layer.dilation, layer.groups
    results: Tensor = torch.ops.mkldnn._convolution_pointwise(maps, packed.weight, layer.bias, *how, "none", [], "")
    return results
