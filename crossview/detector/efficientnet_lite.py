"""The EfficientNet-Lite0 backbone of the small, fast SSD (Tan and Le 2019; the Lite variant has no squeeze-and-excite).

Convention:
    Images are (B, 3, H, W), feature maps (B, C, h, w). Strides round up: an edge of 75 becomes 38, as in `VGG16`.
"""

import math
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork

from crossview.detector.backbone import Backbone
from crossview.detector.efficientnet_weights import PREPROCESSING, read_efficientnet_weights
from crossview.detector.folding import FoldedCopy, wants_folding
from crossview.detector.preprocessing import ChannelOrder, Triple

OUT_INDICES = (2, 3, 4)  # timm counts the halvings of the image from zero: strides 8, 16 and 32
GROUPS = 32  # of channels that are normalised together, where the number of channels allows it


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 up to its last layer of stride 32, optionally with a feature pyramid on top.

    The map of stride 8 comes after few layers of a small network. The pyramid (Lin et al. 2017) tells it what the
    deeper maps have found, which SSD's small objects need. Its maps end with a ReLU, as those of VGG16 do, and group
    normalisation brings them to one scale: those of ImageNet's weights have standard deviations of 8, 6 and 3.

    Batches of one to four pairs are too few for statistics of their own, so batch normalisation keeps those of the
    loaded weights by default, also in training mode; its scales and shifts are trained.

    Attributes:
        out_channels: Channels of the maps of stride 8, 16 and 32.
        preprocessing: Standardisation to apply to RGB images before :meth:`forward`.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        pyramid_channels: int | None = None,
        freeze_norms: bool = True,
        mean: Triple | None = None,
        std: Triple | None = None,
        channel_order: ChannelOrder | None = None,
    ) -> None:
        """Builds the network and gives it its first weights.

        Args:
            weights: ``"imagenet"`` or a file (see :mod:`crossview.detector.efficientnet_weights`); None starts at
                random (Kaiming normal), which wants ``freeze_norms=False``.
            pyramid_channels: Channels of every map of the feature pyramid; None for the plain maps.
            freeze_norms: Batch normalisation uses its running statistics in training too, and does not change them.
            mean: Overrides the mean that belongs to the weights; 0..255 units, in ``channel_order``.
            std: Overrides the standard deviation that belongs to the weights; 0..255 units, in ``channel_order``.
            channel_order: Overrides the channel order that belongs to the weights.

        Raises:
            ValueError: If a preprocessing override is malformed.
            DataError: If ``weights`` cannot be used.
        """
        super().__init__(PREPROCESSING, mean, std, channel_order)
        self.freeze_norms = freeze_norms
        self.features = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=OUT_INDICES)
        info: Any = self.features.feature_info
        widths: list[int] = info.channels()
        self.pyramid: FeaturePyramidNetwork | None = None
        if pyramid_channels is not None:
            self.pyramid = FeaturePyramidNetwork(widths, pyramid_channels, norm_layer=_group_norm)
        self.out_channels = tuple(widths if pyramid_channels is None else [pyramid_channels] * len(widths))
        if weights is not None:
            self.features.load_state_dict(read_efficientnet_weights(weights, self.features.state_dict()))
        self.train()

    def train(self, mode: bool = True) -> "EfficientNetLite0":
        """Sets the mode of all layers but the frozen norms, which stay in evaluation mode."""
        super().train(mode)
        self._for_inference = FoldedCopy()  # fused optimizers change weights without PyTorch's counting it
        if self.freeze_norms:
            for layer in self.features.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Computes the feature maps.

        Args:
            images: (B, 3, H, W) floating point, standardised by ``preprocessing.apply``.

        Returns:
            (B, out_channels[i], ceil(H / s), ceil(W / s)) for the strides s of 8, 16 and 32.

        Raises:
            TypeError: If ``images`` are integers, that is, have not been standardised.
        """
        self.require_standardised(images)
        features = self.features
        if wants_folding(self, images):
            features = self._for_inference.of(features)
            images = images.contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = features(images)
        if self.pyramid is None:
            return maps
        named = self.pyramid({str(level): features for level, features in enumerate(maps)})
        return [functional.relu(features) for features in named.values()]


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)
