"""3x3 convolutions with fewer multiplications, on the CPU.

Winograd's minimal filtering (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks"). The forward
pass and the gradient of the input are convolutions, which NNPACK has, a library that PyTorch brings along: tiles of
8x8 values give 6x6 results with 64 multiplications instead of 324. The gradient of the weights is
:mod:`crossview.detector.winograd_gradient`.

Rounding: results differ from those of the direct way by up to 1e-4 of their standard deviation, where the direct way
itself is within 2e-5. They are the same in every run and for every number of threads.

Convention:
    Maps are (B, C, h, w) in the ordinary order of memory.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from crossview.detector import nnpack
from crossview.detector.winograd_gradient import kernel_gradient

# Below these, transforming tiles costs more than the multiplications it saves.
SMALLEST_MAP = 1024  # pixels, for results
SMALLEST_GRADIENT_MAP = 256  # pixels, for the gradient of the weights
FEWEST_CHANNELS = 16  # of the map, for results
FEWEST_GRADIENT_CHANNELS = 32  # of map and result, for the gradient of the weights


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 that keeps the size of the map; the fast way where there is one.

    That is for single precision on the CPU, maps in the ordinary order and large enough, outside of autocast,
    compilation and export. Everywhere else, and with ``winograd=False``, it is `torch.nn.Conv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, winograd: bool = True) -> None:
        """Builds the layer; weights have the names and shapes of `torch.nn.Conv2d`.

        Args:
            in_channels: of the map.
            out_channels: of the result.
            winograd: whether the fast way may be taken.
        """
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)
        self.winograd = winograd

    def forward(self, input: Tensor) -> Tensor:
        """The convolved map (B, out_channels, h, w) of a map (B, in_channels, h, w)."""
        if self.winograd and is_fast_for(input) and self.weight.dtype == torch.float32 and self.bias is not None:
            result: Tensor = _Convolution.apply(input, self.weight, self.bias)
            return result
        return super().forward(input)


def has_winograd(network: nn.Module) -> bool:
    """Whether a network has convolutions that may take the fast way."""
    return any(isinstance(layer, WinogradConv2d) and layer.winograd for layer in network.modules())


def is_fast_for(maps: Tensor) -> bool:
    """Whether maps (B, C, h, w) can and should be convolved with `_Convolution`."""
    return (
        maps.device.type == "cpu"
        and maps.dtype == torch.float32
        and maps.shape[0] > 0
        and maps.shape[-2] * maps.shape[-1] >= SMALLEST_GRADIENT_MAP
        and maps.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _Convolution(torch.autograd.Function):
    """A convolution and its gradients, each the way that is fast for the size of the map."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(maps, weight)
        return _convolve(maps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # noqa: ANN401
        maps, weight = ctx.saved_tensors
        wants_maps, wants_weight, wants_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        of_maps = of_weight = None
        if wants_maps:
            # The gradient of a convolution is the convolution with the kernel turned by half a circle.
            turned = weight.flip(2, 3).transpose(0, 1).contiguous()
            of_maps = _convolve(gradient, turned, gradient.new_zeros(len(turned)))
        if wants_weight and min(weight.shape[:2]) >= FEWEST_GRADIENT_CHANNELS:
            of_weight = kernel_gradient(maps, gradient)
        elif wants_weight:
            of_weight = conv2d_weight(maps, weight.shape, gradient, padding=1)  # type: ignore[no-untyped-call]
        return of_maps, of_weight, gradient.sum((0, 2, 3)) if wants_bias else None


def _convolve(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    pixels, channels = maps.shape[-2] * maps.shape[-1], maps.shape[1]
    if pixels < SMALLEST_MAP or channels < FEWEST_CHANNELS or not nnpack.is_available():
        return functional.conv2d(maps, weight, bias, padding=1)
    return nnpack.convolve(maps, weight, bias)
