"""The learned part of the projection between two views: a correction of the placed box, and co-visibility.

Convention:
    Angles in the head's input are measured from the line between the two cameras, so that turning the whole world
    changes nothing. Distances are given as logarithms of metres. The last layer starts at zero: an untrained head
    leaves every placed box where geometry puts it, and gives co-visibility the logit 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crossview.geometry.boxes import to_centers
from crossview.geometry.camera import TAU, Camera, bearing, horizontal_offset, tilt
from crossview.geometry.projection import PLACEHOLDER, locate_boxes, view_boxes

FEATURES = 20  # see `ProjectionHead.forward`
CORRECTION_LIMIT = (
    5.0  # in SSD offsets: half a box of shift or a factor e of size, so that no early step throws a box away
)


class Placement(NamedTuple):
    """Boxes of one view, placed in the other view.

    Attributes:
        boxes: (B, N, 4) ``xyxy`` pixels of the other view, corrected.
        geometry_boxes: (B, N, 4) the same by geometry alone.
        valid: (B, N) bool, False where flat ground gives no place; the boxes are meaningless there.
        covisibility: (B, N) logit: is the object there in the other view's image?
    """

    boxes: Tensor
    geometry_boxes: Tensor
    valid: Tensor
    covisibility: Tensor


def _view_angles(camera: Camera, boxes: Tensor, toward: Tensor) -> list[Tensor]:
    """Five numbers (B, N) that describe boxes (B, N, 4) in one view.

    The bearing is counted from ``toward`` (B, 1), that of the other camera.
    """
    left, top, right, bottom = boxes.unbind(-1)
    angle = bearing(camera, (left + right) / 2) - toward
    width = TAU * camera.scale[..., 0] * (right - left)
    return [torch.sin(angle), torch.cos(angle), tilt(camera, top), tilt(camera, bottom), width]


def _log_metres(distance: Tensor) -> Tensor:
    return torch.log(distance.clamp(0.1, 1e4)) - math.log(10.0)


def _corrected(boxes: Tensor, offsets: Tensor, variances: Sequence[float]) -> Tensor:
    """Boxes (..., 4) ``xyxy`` changed by SSD offsets (..., 4) of which they are the reference themselves.

    The change is added to the corners: offsets of zero leave every bit as it is, which the way over centre and size
    and back does not.
    """
    scaled = offsets * offsets.new_tensor(variances)
    size = boxes[..., 2:] - boxes[..., :2]
    shift, growth = scaled[..., :2] * size, torch.expm1(scaled[..., 2:]) * size / 2
    return boxes + torch.cat((shift - growth, shift + growth), dim=-1)


class ProjectionHead(nn.Module):
    """Places boxes in the other view by geometry, then corrects them and says whether the object is there.

    The two directions share one head: seen from the line between the cameras they are the same problem.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        variances: tuple[float, ...],
        hidden: int = 64,
        learned: bool = True,
        box_gradient: float = 1.0,
    ) -> None:
        """Builds the head.

        Args:
            image_size: height and width of the network's image.
            variances: of the correction's offsets.
            hidden: width of the two hidden layers.
            learned: False keeps pure geometry; only co-visibility is learned then.
            box_gradient: factor of the gradient that reaches the detector's boxes through the geometry. A pixel at the
                foot of a far box moves the placed box by many, so that with factor 1 this gradient drowns the others
                of an untrained detector.

        Raises:
            ValueError: ``box_gradient`` is not in 0..1.
        """
        super().__init__()
        if not 0 <= box_gradient <= 1:
            raise ValueError(f"projection.box_gradient: found {box_gradient}, expected 0 to 1")
        self.box_gradient = box_gradient
        self.image_size = image_size
        self.variances = variances
        self.learned = learned
        self.hidden = nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.output = nn.Linear(hidden, 5)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, camera_from: Camera, camera_to: Camera, boxes: Tensor, score: Tensor) -> Placement:
        """Places boxes of the view ``from`` in the view ``to``.

        Args:
            camera_from: cameras (B,) of the view that saw the boxes.
            camera_to: cameras (B,) of the other view.
            boxes: (B, N, 4) ``xyxy`` pixels of the view ``from``.
            score: (B, N) probability that the box holds an object.
        """
        source, target = camera_from.per_object(), camera_to.per_object()
        boxes = boxes.detach().lerp(boxes, self.box_gradient)
        standing, located = locate_boxes(source, boxes)
        placed, distance_to, visible = view_boxes(target, standing)
        valid = located & visible
        placed = torch.where(valid.unsqueeze(-1), placed, placed.new_tensor(PLACEHOLDER))
        baseline, toward, _ = horizontal_offset(source, target.position)
        height, width = self.image_size
        center = to_centers(placed)
        columns = [
            *_view_angles(source, boxes, toward),
            *_view_angles(target, placed, toward),
            _log_metres(standing.distance),
            _log_metres(distance_to),
            _log_metres(standing.width),
            _log_metres(standing.height),
            _log_metres(baseline).expand_as(score),
            2.0 * center[..., 0] / width - 1.0,
            2.0 * center[..., 1] / height - 1.0,
            (placed[..., 3] - placed[..., 1]).clamp(1e-2, 1e4).log() - math.log(height / 4),
            score.detach(),
        ]
        # The features describe where the box is; the head learns from them but does not move the box to please itself.
        features = torch.stack(columns, dim=-1).detach() * valid.unsqueeze(-1)
        features = torch.cat((features, valid.unsqueeze(-1).to(features.dtype)), dim=-1)
        correction, covisibility = self.output(self.hidden(features)).split((4, 1), dim=-1)
        corrected = placed
        if self.learned:
            limited = CORRECTION_LIMIT * torch.tanh(correction / CORRECTION_LIMIT)
            corrected = _corrected(placed, limited, self.variances)
        return Placement(corrected, placed, valid, covisibility.squeeze(-1))
