"""What a file of a trained detector holds, under the names of `crossview.detector.ssd.SSD`.

Conventions:
    Names are those of the detector's state dict (``backbone.conv1_1.weight``, ``extras.stages.0.2.bias``,
    ``normalization.scale``, ``class_heads.0.weight``, ``box_heads.0.weight``). Convolution weights are OIHW, box
    offsets those of centre x, centre y, width and height, and the first score of an anchor is that of background.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from crossview.detector.preprocessing import Preprocessing


@dataclass(frozen=True)
class Tower:
    """One detector in a file.

    Attributes:
        tensors: By the detector's names; shapes are not yet checked.
        keys: Key in the file of each tensor.
        preprocessing: Standardisation of the images that the weights expect; None if the file does not tell.
    """

    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    preprocessing: Preprocessing | None


@dataclass(frozen=True)
class AnchorFacts:
    """What a file tells about the anchors that its heads were trained with; None where it does not tell.

    Attributes:
        ratios: Aspect ratios of a cell's anchors in their order, for each feature map.
        scales: As in `crossview.detector.anchors.AnchorGrid`.
        variances: Of the box offsets.
    """

    ratios: Sequence[Sequence[float]] | None = None
    scales: Sequence[float] | None = None
    variances: Sequence[float] | None = None


@dataclass(frozen=True)
class TrainedFile:
    """A file of a trained detector.

    Attributes:
        source: Name of the format.
        towers: One detector, or that of view 1 and that of view 2.
        unused: Keys that belong to no detector.
        class_names: Foreground classes, None if the file does not tell.
        anchors: What it tells about the anchors.
        parts: Tensors of the network beside the detectors, by their keys (``net.projection.output.bias``).
    """

    source: str
    towers: tuple[Tower, ...]
    unused: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    anchors: AnchorFacts = AnchorFacts()
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def unused_beside(self, views: int, parts: Collection[str] = ()) -> tuple[str, ...]:
        """Keys of the detectors behind the first ``views`` and of other parts than ``parts`` (keys)."""
        others = [key for tower in self.towers[views:] for key in tower.keys.values()]
        return (*others, *(key for key in self.parts if key not in parts))

    def tower(self, view: int) -> Tower:
        """The detector of view 0 or 1; a single one serves both."""
        return self.towers[min(view, len(self.towers) - 1)]
