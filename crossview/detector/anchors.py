"""Default boxes (anchors) of SSD, Liu et al. 2016, section 2.2.

Convention:
    Anchors are ``cxcywh`` in pixels of the network's image. Order: layer by layer, in a layer row by row, in a cell:
    the ratios as listed, ratio 1 with scale s_k and then again with sqrt(s_k s_k+1). A ratio r has width s sqrt(r) m
    and height s / sqrt(r) m with m the shorter image side, as in ssd_keras.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crossview.geometry.boxes import to_centers, to_corners


@dataclass(frozen=True)
class AnchorGrid:
    """Settings of the anchors, one entry a feature map in every list.

    Attributes:
        scales: one more than feature maps, as fractions of the shorter image side, rising.
        aspect_ratios: width / height of each feature map's anchors.
        two_boxes_for_ratio_1: add the second, larger square where 1 is among the ratios.
        steps: pixels between neighbouring centres: a number or (vertical, horizontal) a feature map. None: image size /
            map size on each axis, which spreads the centres evenly on any image shape. The original's 8, 16, 32, 64,
            100, 300 put centres outside an image that is not 300x300.
        offsets: position of the first centre, in steps: a number for all, or as ``steps`` one entry a feature map.
        clip: cut the anchors at the image border.
    """

    scales: Sequence[float]
    aspect_ratios: Sequence[Sequence[float]]
    two_boxes_for_ratio_1: bool = True
    steps: Sequence[float | Sequence[float]] | None = None
    offsets: Sequence[float | Sequence[float]] | float = 0.5
    clip: bool = False

    def __post_init__(self) -> None:
        """Checks the lists against each other.

        Raises:
            ValueError: lengths differ, or a scale or ratio is not positive.
        """
        layers = len(self.aspect_ratios)
        if len(self.scales) != layers + 1:
            raise ValueError(
                f"anchors.scales: found {len(self.scales)} values, need {layers + 1}: one more than aspect_ratios"
            )
        for name, values in (("steps", self.steps), ("offsets", self.offsets)):
            if isinstance(values, Sequence) and len(values) != layers:
                raise ValueError(f"anchors.{name}: found {len(values)} values, need {layers}: one a feature map")
        if min(self.scales) <= 0 or min(ratio for ratios in self.aspect_ratios for ratio in ratios) <= 0:
            raise ValueError("anchors.scales and anchors.aspect_ratios must be positive")

    @property
    def boxes_per_cell(self) -> list[int]:
        """Number of anchors in a cell of each feature map."""
        return [len(ratios) for ratios in self.cell_ratios]

    @property
    def cell_ratios(self) -> list[tuple[float, ...]]:
        """Width / height of the anchors in a cell of each feature map, in their order."""
        twice = 1 if self.two_boxes_for_ratio_1 else None
        return [
            tuple(ratio for listed in ratios for ratio in [listed] * (2 if listed == twice else 1))
            for ratios in self.aspect_ratios
        ]

    def _shapes(self, layer: int) -> list[tuple[float, float]]:
        """Widths and heights of a cell's anchors, as fractions of the shorter image side."""
        scale, ratios = self.scales[layer], self.aspect_ratios[layer]
        larger = math.sqrt(scale * self.scales[layer + 1])
        shapes = []
        for ratio in ratios:
            shapes.append((scale * math.sqrt(ratio), scale / math.sqrt(ratio)))
            if ratio == 1 and self.two_boxes_for_ratio_1:
                shapes.append((larger, larger))
        return shapes

    def _steps(self, layer: int, image_size: tuple[int, int], map_size: tuple[int, int]) -> tuple[float, float]:
        if self.steps is None:
            return image_size[0] / map_size[0], image_size[1] / map_size[1]
        return _per_axis(self.steps[layer])

    def boxes(self, image_size: tuple[int, int], map_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """All anchors (N, 4) ``cxcywh`` in pixels, float64.

        Args:
            image_size: height and width of the network's image in pixels.
            map_sizes: height and width of every feature map.

        Raises:
            ValueError: the number of feature maps is not the number of aspect ratio lists.
        """
        if len(map_sizes) != len(self.aspect_ratios):
            raise ValueError(
                f"anchors: settings for {len(self.aspect_ratios)} feature maps, the network has {len(map_sizes)}"
            )
        layers = []
        for layer, (rows, columns) in enumerate(map_sizes):
            step_y, step_x = self._steps(layer, image_size, (rows, columns))
            first_y, first_x = _per_axis(self.offsets[layer] if isinstance(self.offsets, Sequence) else self.offsets)
            center_y = (torch.arange(rows, dtype=torch.float64) + first_y) * step_y
            center_x = (torch.arange(columns, dtype=torch.float64) + first_x) * step_x
            shapes = torch.tensor(self._shapes(layer), dtype=torch.float64) * min(image_size)
            grid_y, grid_x = torch.meshgrid(center_y, center_x, indexing="ij")
            centers = torch.stack((grid_x, grid_y), dim=-1)[:, :, None].expand(-1, -1, len(shapes), -1)
            layers.append(torch.cat((centers, shapes.expand(rows, columns, -1, -1)), dim=-1).reshape(-1, 4))
        anchors = torch.cat(layers)
        return self._clipped(anchors, image_size) if self.clip else anchors

    @staticmethod
    def _clipped(anchors: Tensor, image_size: tuple[int, int]) -> Tensor:
        limit = anchors.new_tensor([image_size[1], image_size[0]] * 2)
        return to_centers(torch.minimum(to_corners(anchors).clamp(min=0), limit))


def _per_axis(value: float | Sequence[float]) -> tuple[float, float]:
    """A number for both axes, or (vertical, horizontal)."""
    if isinstance(value, Sequence):
        return float(value[0]), float(value[1])
    return float(value), float(value)
