"""The single shot detector of one view: backbone, extra layers, heads (Liu et al. 2016, section 2.1).

Convention:
    B images, N anchors, C foreground classes. Class 0 of the logits is background.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossview.detector import nnpack
from crossview.detector.anchors import AnchorGrid
from crossview.detector.apart import MOST_THREADS, for_each_image, is_inference_on_cpu
from crossview.detector.backbone import Backbone
from crossview.detector.band import Band
from crossview.detector.winograd import has_winograd


class SSDOutput(NamedTuple):
    """Raw outputs of B images.

    Attributes:
        logits: (B, N, 1 + C) class scores before the softmax.
        offsets: (B, N, 4) box offsets with regard to the anchors, variances divided out.
        maps: the two finest feature maps (B, C, h, w), for whatever else looks at boxes.
    """

    logits: Tensor
    offsets: Tensor
    maps: tuple[Tensor, ...] = ()


class L2Normalization(nn.Module):
    """Scales every pixel's feature vector to a learned length per channel (Liu et al. 2015, "ParseNet")."""

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        """Starts with the same length for all channels.

        Args:
            channels: channels of the feature map.
            scale: initial length.
        """
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), float(scale)))

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features (B, C, h, w) of features (B, C, h, w); in single precision.

        Sums of squares and the guard against a length of zero are beyond 16-bit floats.
        """
        return functional.normalize(features.float(), dim=1) * self.scale[:, None, None]


class ExtraLayers(nn.Module):
    """The layers conv6 to conv9 of SSD300 (conv10 in SSD512): each halves or trims the map before it."""

    def __init__(self, in_channels: int, stages: Sequence[Sequence[int]]) -> None:
        """Builds one stage per entry.

        Args:
            in_channels: channels of the last backbone map.
            stages: per stage (squeeze channels, output channels, stride, padding, kernel size of the second
                convolution).
        """
        super().__init__()
        self.stages = nn.ModuleList()
        self.out_channels: list[int] = []
        for squeeze, out, stride, padding, kernel in stages:
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(in_channels, squeeze, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(squeeze, out, kernel, stride, padding),
                    nn.ReLU(inplace=True),
                )
            )
            self.out_channels.append(out)
            in_channels = out
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # built with a bias above

    def forward(self, features: Tensor) -> list[Tensor]:
        """One feature map a stage."""
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


class SSD(nn.Module):
    """Detector of one view.

    The backbone is a module with ``out_channels``, ``preprocessing`` and a ``forward`` that returns its feature maps,
    the largest first. Submodules have the shape of the original networks, so that trained weights can be copied layer
    by layer.
    """

    anchors: Tensor

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        image_size: Sequence[int],
        anchors: AnchorGrid,
        extra_stages: Sequence[Sequence[int]],
        normalize_first_map: bool = True,
        variances: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    ) -> None:
        """Builds the heads for the feature maps that the backbone and the extra layers give on an image of this size.

        Args:
            backbone: feature extractor.
            num_classes: number of foreground classes C.
            image_size: height and width in pixels.
            anchors: settings of the default boxes.
            extra_stages: see `ExtraLayers`.
            normalize_first_map: L2 normalisation of the first map, with scale 20.
            variances: of the box offsets.

        Raises:
            ValueError: the anchors' settings do not fit the number of feature maps.
        """
        super().__init__()
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.num_classes = num_classes
        self.variances = tuple(float(value) for value in variances)
        self.backbone = backbone
        channels = list(backbone.out_channels)
        self.extras = ExtraLayers(channels[-1], extra_stages)
        self.normalization = L2Normalization(channels[0]) if normalize_first_map else nn.Identity()
        channels += self.extras.out_channels
        self.map_channels = tuple(channels)
        self.anchor_grid = anchors
        per_cell = anchors.boxes_per_cell
        if len(per_cell) != len(channels):
            raise ValueError(f"anchors: settings for {len(per_cell)} feature maps, the network has {len(channels)}")
        self.class_heads = nn.ModuleList(
            _head(width, count * (1 + num_classes)) for width, count in zip(channels, per_cell, strict=True)
        )
        self.box_heads = nn.ModuleList(_head(width, count * 4) for width, count in zip(channels, per_cell, strict=True))
        self.eval()  # a black image must not enter the statistics of batch normalisation
        with torch.no_grad():
            probe = self.feature_maps(torch.zeros(1, 3, *self.image_size))
        self.train()
        map_sizes = [(int(features.shape[2]), int(features.shape[3])) for features in probe]
        self.memory_format = torch.contiguous_format
        self.register_buffer("anchors", anchors.boxes(self.image_size, map_sizes).float(), persistent=False)

    def use_memory_format(self, memory_format: torch.memory_format) -> None:
        """Lays out the weights, and from now on the images, in this format."""
        self.memory_format = memory_format
        self.to(memory_format=memory_format)

    def plain_convolutions(self) -> list[nn.Conv2d]:
        """Convolutions of the backbone and the extra layers that no normalisation follows."""
        extras = [layer for layer in self.extras.modules() if isinstance(layer, nn.Conv2d)]
        return [*self.backbone.plain_convolutions(), *extras]

    def feature_maps(self, images: Tensor, band: Band | None = None) -> list[Tensor]:
        """Feature maps of standardised images (B, 3, H, W), or of a band (B, 3, h, W) of them, the largest first.

        The maps are those of whole images, with zeros for what the backbone has not seen.
        """
        first, *others = self.backbone(images)
        maps = [self.normalization(first), *others]
        if band is not None:
            strides = self.backbone.row_strides or ()
            maps = [band.put_back(*each, self.image_size[0]) for each in zip(maps, strides, strict=True)]
        return [*maps, *self.extras(maps[-1])]

    def forward(self, images: Tensor, band: Band | None = None) -> SSDOutput:
        """Raw outputs for RGB images (B, 3, H, W) in 0..255.

        Args:
            images: whole images.
            band: what the backbone sees of them, where it has ``row_strides``; None: everything.

        Raises:
            ValueError: the images are not of the size that the network was built for.
        """
        if tuple(images.shape[-2:]) != self.image_size:
            raise ValueError(f"images of {tuple(images.shape[-2:])} pixels given to a network for {self.image_size}")
        if band is not None or not self._takes_images_apart(images):
            return self._outputs(images, band)
        logits, offsets, maps = zip(*for_each_image(self._outputs, images), strict=True)
        joined = tuple(torch.cat(part) for part in zip(*maps, strict=True))
        return SSDOutput(torch.cat(logits), torch.cat(offsets), joined)

    def _takes_images_apart(self, images: Tensor) -> bool:
        """Whether several images are looked at one by one: in evaluation, by a processor with two threads or one.

        That is for NNPACK, which convolves single images only. What it does not convolve is faster with all at once.
        """
        may = len(images) > 1 and torch.get_num_threads() <= MOST_THREADS and is_inference_on_cpu(self, images)
        in_order = self.memory_format == torch.contiguous_format
        return may and in_order and has_winograd(self.backbone) and nnpack.is_available()

    def _outputs(self, images: Tensor, band: Band | None = None) -> SSDOutput:
        standardised = self.backbone.preprocessing.apply(images if band is None else band.cut(images))
        maps = self.feature_maps(standardised.contiguous(memory_format=self.memory_format), band)
        logits = [
            _flat(head(features), 1 + self.num_classes) for head, features in zip(self.class_heads, maps, strict=True)
        ]
        offsets = [_flat(head(features), 4) for head, features in zip(self.box_heads, maps, strict=True)]
        return SSDOutput(torch.cat(logits, dim=1), torch.cat(offsets, dim=1), tuple(maps[:2]))


def _head(in_channels: int, out_channels: int) -> nn.Conv2d:
    head = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]  # it has one
    return head


def _flat(output: Tensor, values: int) -> Tensor:
    """(B, A * values, h, w) as (B, h * w * A, values), the order of the anchors."""
    return output.permute(0, 2, 3, 1).reshape(output.shape[0], -1, values)
