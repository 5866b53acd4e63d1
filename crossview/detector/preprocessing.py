"""Input standardisation: what a backbone's weights expect its input images to look like.

Conventions:
    Images come as RGB in 0..255. A standardised image is ``(channels - mean) / std``, where the channels are first put
    into ``channel_order``. ``mean`` and ``std`` are in 0..255 units and stand in the order of the channels *after*
    re-ordering: the mean (123, 117, 104) of RGB weights is written (104, 117, 123) for BGR weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

ChannelOrder = Literal["rgb", "bgr"]
Triple = tuple[float, float, float]


def _triple(name: str, values: Triple) -> Triple:
    """Returns ``values`` as three plain floats (configs hand over lists of integers)."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise ValueError(f"{name}: expected three numbers, one a channel, found {values!r}")
    return numbers


@dataclass(frozen=True)
class Preprocessing:
    """Channel order, mean and standard deviation that belong to a set of weights.

    Attributes:
        mean: Subtracted, 0..255 units, in ``channel_order``.
        std: Divided by, 0..255 units, in ``channel_order``.
        channel_order: Order in which the network takes the channels, ``"rgb"`` or ``"bgr"``.

    Raises:
        ValueError: If ``mean`` or ``std`` are not three numbers, ``std`` is not positive, or the order is unknown.
    """

    mean: Triple
    std: Triple
    channel_order: ChannelOrder

    def __post_init__(self) -> None:
        """Checks the fields and turns numbers into floats."""
        object.__setattr__(self, "mean", _triple("mean", self.mean))
        object.__setattr__(self, "std", _triple("std", self.std))
        if min(self.std) <= 0:
            raise ValueError(f"std: expected positive numbers, found {self.std}")
        if self.channel_order not in get_args(ChannelOrder):
            raise ValueError(f"channel_order: expected one of {get_args(ChannelOrder)}, found {self.channel_order!r}")

    def __str__(self) -> str:
        """Returns order, mean and standard deviation in a few words."""
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.channel_order}, mean ({mean}), std ({std})"

    def reordered(self, channel_order: ChannelOrder) -> Preprocessing:
        """Returns the same standardisation for the other channel order: mean and std move with their channels."""
        if channel_order == self.channel_order:
            return self
        red_blue_swapped = (self.mean[::-1], self.std[::-1])
        return Preprocessing(*red_blue_swapped, channel_order)

    def overridden(
        self, mean: Triple | None = None, std: Triple | None = None, channel_order: ChannelOrder | None = None
    ) -> Preprocessing:
        """Returns this standardisation with the given parts replaced.

        Args:
            mean: New mean in the resulting channel order; None keeps each channel's own mean.
            std: New standard deviation in the resulting channel order; None keeps each channel's own.
            channel_order: New order; None keeps it.
        """
        base = self.reordered(channel_order or self.channel_order)
        return Preprocessing(base.mean if mean is None else mean, base.std if std is None else std, base.channel_order)

    def apply(self, images: Tensor) -> Tensor:
        """Standardises images.

        Args:
            images: (..., 3, H, W) RGB in 0..255, uint8 or floating point, on any device.

        Returns:
            (..., 3, H, W) on the same device and in the same memory format, channels in ``channel_order``; float32 for
            integer images, else the dtype of ``images``. A new tensor.

        Raises:
            ValueError: If the third dimension from the end is not 3.
        """
        if images.ndim < 3 or images.shape[-3] != 3:
            raise ValueError(f"images: expected shape (..., 3, H, W), found {tuple(images.shape)}")
        dtype = images.dtype if images.is_floating_point() else torch.float32
        mean, std = torch.tensor((self.mean, self.std), dtype=dtype, device=images.device)[..., None, None]
        ordered = images.flip(-3) if self.channel_order == "bgr" else images
        standardised: Tensor = (ordered - mean).div_(std)
        return standardised

    def to_tensor(self) -> Tensor:
        """Returns (3, 3) float64: the rows mean, std and the RGB index of each channel; for storing in checkpoints."""
        source_channel = (0.0, 1.0, 2.0) if self.channel_order == "rgb" else (2.0, 1.0, 0.0)
        return torch.tensor((self.mean, self.std, source_channel), dtype=torch.float64)

    @classmethod
    def from_tensor(cls, values: Tensor) -> Preprocessing:
        """Inverse of :meth:`to_tensor`."""
        mean, std, source_channel = values.tolist()
        return cls(mean, std, "rgb" if source_channel[0] == 0 else "bgr")


# Mean of ImageNet as SSD rounds it; a standard deviation that brings the input of a random network to unit variance.
SCRATCH = Preprocessing(mean=(123, 117, 104), std=(58, 57, 57), channel_order="rgb")
