"""What SSD needs of a feature extractor."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from crossview.detector.preprocessing import SCRATCH, ChannelOrder, Preprocessing, Triple


class Backbone(nn.Module):
    """Base of feature extractors: ``forward`` takes standardised images and returns feature maps, the largest first.

    A backbone carries the input standardisation of its weights, also through ``state_dict``: a restored checkpoint
    standardises as it did in training, whether or not the weights file it started from still exists.

    Attributes:
        out_channels: Channels of each feature map.
        row_strides: Stride of each feature map, if rows of an image, from a multiple of the largest one on, give rows
            of its maps but for what lies beyond their edges; None if the two are not in line.
        preprocessing: Standardisation that the weights expect, applied to RGB images in 0..255.
    """

    out_channels: tuple[int, ...]
    row_strides: ClassVar[tuple[int, ...] | None] = None
    preprocessing: Preprocessing

    def __init__(
        self,
        preprocessing: Preprocessing = SCRATCH,
        mean: Triple | None = None,
        std: Triple | None = None,
        channel_order: ChannelOrder | None = None,
    ) -> None:
        """Takes the standardisation.

        Args:
            preprocessing: What belongs to the first weights.
            mean: Overrides the mean that belongs to the weights; 0..255 units, in ``channel_order``.
            std: Overrides the standard deviation that belongs to the weights; 0..255 units, in ``channel_order``.
            channel_order: Overrides the channel order that belongs to the weights.

        Raises:
            ValueError: If an override is malformed.
        """
        super().__init__()
        self._overrides = (mean, std, channel_order)
        self.use_preprocessing(preprocessing)

    def use_preprocessing(self, belonging: Preprocessing) -> None:
        """Takes over the standardisation that belongs to new weights; the constructor's overrides stay in force."""
        self.preprocessing = belonging.overridden(*self._overrides)

    def plain_convolutions(self) -> list[nn.Conv2d]:
        """Convolutions that no normalisation follows, which a random start should calibrate.

        Here: all that have a bias, of which a normalisation would make no use.
        """
        return [layer for layer in self.modules() if isinstance(layer, nn.Conv2d) and layer.bias is not None]

    @staticmethod
    def require_standardised(images: Tensor) -> None:
        """Refuses images as they come out of a file.

        Raises:
            TypeError: If ``images`` are integers, that is, have not been standardised.
        """
        if not images.is_floating_point():
            raise TypeError(
                f"images: found {images.dtype}, expected standardised floating point images; "
                "call backbone.preprocessing.apply(images) first"
            )

    def get_extra_state(self) -> Tensor:
        """Returns the standardisation as a tensor, for ``state_dict``."""
        return self.preprocessing.to_tensor()

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the standardisation back from ``state_dict``."""
        self.preprocessing = Preprocessing.from_tensor(torch.as_tensor(state))
