"""The VGG16 backbone of SSD300, fully convolutional.

Conventions:
    The layers carry the names of the Caffe and Keras files (``conv1_1`` ... ``conv5_3``, ``fc6``, ``fc7``), so that a
    weights file and the network can be compared name by name. Images are (B, 3, H, W), feature maps (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossview.detector.backbone import Backbone
from crossview.detector.pooling import Halving
from crossview.detector.preprocessing import SCRATCH, ChannelOrder, Triple
from crossview.detector.weights import load_vgg_weights
from crossview.detector.winograd import WinogradConv2d

CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)
# A random kernel and the one that changes nothing, in the sum that a convolution starts with: together they keep the
# mean square of maps after ReLU.
RANDOM_SHARE, IDENTITY_SHARE = 0.54, 0.77


class VGGFeatures(NamedTuple):
    """The two feature maps that SSD takes from VGG16, both after their ReLU.

    For an image of 300x600: conv4_3 is (B, 512, 38, 75), fc7 is (B, 1024, 19, 38).
    """

    conv4_3: Tensor
    fc7: Tensor


class VGG16(Backbone):
    """VGG16 up to conv5_3 with pool5 of stride 1, a dilated fc6 and fc7 as convolutions.

    Pools round up, as Caffe and Keras ("same") do: an edge of 75 becomes 38.

    The random start is Kaiming normal with fan-in and the gain of ReLU, biases zero. Convolutions of a block that have
    as many channels before as after also let through what comes in (Zagoruyko and Komodakis, "DiracNets: Training Very
    Deep Neural Networks Without Skip-Connections", 2017), so that the first layers learn from the first step on. Each
    convolution about keeps the mean square of its input: fc7 sees neither vanishing nor exploding values although no
    layer normalises.

    Attributes:
        out_channels: Channels of conv4_3 and fc7.
        preprocessing: Standardisation to apply to RGB images before :meth:`forward`.
    """

    row_strides: ClassVar[tuple[int, ...]] = (8, 16)

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        mean: Triple | None = None,
        std: Triple | None = None,
        channel_order: ChannelOrder | None = None,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        fc_channels: int = 1024,
        winograd: bool = True,
    ) -> None:
        """Builds the network and gives it its first weights.

        Args:
            weights: File of pretrained weights (see :mod:`crossview.detector.weights`); None starts at random.
            mean: Overrides the mean that belongs to the weights; 0..255 units, in ``channel_order``.
            std: Overrides the standard deviation that belongs to the weights; 0..255 units, in ``channel_order``.
            channel_order: Overrides the channel order that belongs to the weights.
            channels: Channels of the five blocks of convolutions.
            fc_channels: Channels of fc6 and fc7.
            winograd: Whether 3x3 convolutions may take the fast way of :mod:`crossview.detector.winograd`.

        Raises:
            ValueError: If ``channels`` are not five numbers, or a preprocessing override is malformed.
            DataError: If ``weights`` cannot be used.
        """
        super().__init__(SCRATCH, mean, std, channel_order)
        if len(channels) != len(CONVOLUTIONS_PER_BLOCK):
            raise ValueError(f"channels: expected {len(CONVOLUTIONS_PER_BLOCK)} numbers, found {list(channels)}")
        for block, (count, (before, width)) in enumerate(
            zip(CONVOLUTIONS_PER_BLOCK, pairwise((3, *channels)), strict=True), start=1
        ):
            for index in range(1, count + 1):
                layer = WinogradConv2d(before if index == 1 else width, width, winograd=winograd)
                self.add_module(f"conv{block}_{index}", layer)
            pool = Halving() if block < 5 else nn.MaxPool2d(3, stride=1, padding=1)
            self.add_module(f"pool{block}", pool)
        self.fc6 = nn.Conv2d(channels[-1], fc_channels, kernel_size=3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(fc_channels, fc_channels, kernel_size=1)
        self.out_channels = (channels[3], fc_channels)
        self.reset_parameters()
        if weights is not None:
            load_vgg_weights(self, weights)

    def reset_parameters(self) -> None:
        """Draws the random start anew."""
        for name, layer in self.convolutions().items():
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if name.startswith("conv") and layer.in_channels == layer.out_channels:
                _let_through(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def convolutions(self) -> dict[str, nn.Conv2d]:
        """Returns the layers that have weights, by name, from the input to fc7."""
        return {name: layer for name, layer in self.named_children() if isinstance(layer, nn.Conv2d)}

    def forward(self, images: Tensor) -> VGGFeatures:
        """Computes the feature maps.

        Args:
            images: (B, 3, H, W) floating point, standardised by ``preprocessing.apply``.

        Returns:
            conv4_3, (B, out_channels[0], ceil(H / 8), ceil(W / 8)), and fc7, (B, out_channels[1], ceil(H / 16),
            ceil(W / 16)).

        Raises:
            TypeError: If ``images`` are integers, that is, have not been standardised.
        """
        self.require_standardised(images)
        conv4_3 = self._through(images, "conv1_1", "conv4_3")
        return VGGFeatures(conv4_3, self._through(conv4_3, "pool4", "fc7"))

    def _through(self, maps: Tensor, first: str, last: str) -> Tensor:
        """What comes out of the last layer if these maps go into the first one."""
        layers = dict(self.named_children())
        names = list(layers)
        path = [layers[name] for name in names[names.index(first) : names.index(last) + 1]]
        maps = path[0](maps)
        for layer in path[1:]:
            # ReLU keeps the order of values, so it can wait for a pooling, which leaves fewer of them. In place is
            # safe: the backward passes of convolution and pooling need their input, not their output.
            if isinstance(layer, nn.Conv2d):
                maps = F.relu(maps, inplace=True)
            maps = layer(maps)
        return F.relu(maps, inplace=True)


@torch.no_grad()
def _let_through(kernels: Tensor) -> None:
    """Adds the identity to random kernels (C, C, 3, 3), in place."""
    kernels.mul_(RANDOM_SHARE).add_(IDENTITY_SHARE * nn.init.dirac_(torch.empty_like(kernels)))
