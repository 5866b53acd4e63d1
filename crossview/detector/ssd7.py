"""The feature extractor of SSD7, the small network of ssd_keras: seven convolutions, no pretrained weights.

Convention:
    The layers carry the names of ssd_keras (``conv1``, ``bn1`` ... ``bn7``) and have its parameters, biases in front of
    the norms included. Images are (B, 3, H, W), feature maps (B, C, h, w). Pools round down, as there.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from crossview.detector.backbone import Backbone
from crossview.detector.preprocessing import ChannelOrder, Preprocessing, Triple

LAYERS = 7
FIRST_MAP = 4  # conv4 to conv7 are looked at
PREPROCESSING = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), channel_order="rgb")


class SSD7Features(Backbone):
    """Seven convolutions, each with batch normalisation and ELU, and a pool of stride 2 between two of them.

    The random start is Kaiming normal with the gain of ReLU, biases zero.

    Attributes:
        out_channels: Channels of conv4 to conv7.
        preprocessing: Standardisation to apply to RGB images before :meth:`forward`.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (32, 48, 64, 64, 48, 48, 32),
        norm_momentum: float = 0.03,
        mean: Triple | None = None,
        std: Triple | None = None,
        channel_order: ChannelOrder | None = None,
    ) -> None:
        """Builds the network at random.

        Args:
            channels: Channels of the seven convolutions.
            norm_momentum: Weight of a new batch in the running statistics (one minus the momentum of Keras).
            mean: Overrides the mean; 0..255 units, in ``channel_order``.
            std: Overrides the standard deviation; 0..255 units, in ``channel_order``.
            channel_order: Overrides the channel order.

        Raises:
            ValueError: If ``channels`` are not seven numbers, or a preprocessing override is malformed.
        """
        super().__init__(PREPROCESSING, mean, std, channel_order)
        if len(channels) != LAYERS:
            raise ValueError(f"channels: expected {LAYERS} numbers, found {list(channels)}")
        for number, (before, width) in enumerate(pairwise((3, *channels)), start=1):
            kernel = 5 if number == 1 else 3
            layer = nn.Conv2d(before, width, kernel, padding=kernel // 2)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # built with a bias above
            self.add_module(f"conv{number}", layer)
            self.add_module(f"bn{number}", nn.BatchNorm2d(width, eps=1e-3, momentum=norm_momentum))
        self.out_channels = tuple(channels[FIRST_MAP - 1 :])

    def plain_convolutions(self) -> list[nn.Conv2d]:
        """None: batch normalisation centres and scales all of them."""
        return []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Computes the feature maps.

        Args:
            images: (B, 3, H, W) floating point, standardised by ``preprocessing.apply``.

        Returns:
            (B, out_channels[i], h, w) of strides 8, 16, 32 and 64, rounded down; at least 64 pixels on each edge.

        Raises:
            TypeError: If ``images`` are integers, that is, have not been standardised.
        """
        self.require_standardised(images)
        maps = []
        features = images
        for number in range(1, LAYERS + 1):
            features = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(features))
            features = functional.elu(features)
            if number >= FIRST_MAP:
                maps.append(features)
            if number < LAYERS:
                features = functional.max_pool2d(features, 2)
        return maps
