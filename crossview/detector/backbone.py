"""What SSD needs of a feature extractor."""

from torch import nn

from crossview.detector.preprocessing import Preprocessing


class Backbone(nn.Module):
    """Base of feature extractors: ``forward`` takes standardised images and returns feature maps, the largest first.

    Attributes:
        out_channels: Channels of each feature map.
        preprocessing: Standardisation that the weights expect, applied to RGB images in 0..255.
    """

    out_channels: tuple[int, ...]
    preprocessing: Preprocessing

    def use_preprocessing(self, belonging: Preprocessing) -> None:
        """Takes over the standardisation that belongs to new weights."""
        self.preprocessing = belonging
