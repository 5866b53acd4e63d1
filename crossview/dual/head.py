"""Heads that place the boxes of one view in the other: by geometry, with or without a learned correction.

A head also says whether the object is there at all. `crossview.dual.learned` has the one that places without geometry.

Convention:
    Angles in a head's input are measured from the line between the two cameras, so that turning the whole world
    changes nothing. Distances are given as logarithms of metres. The last layer starts at zero: an untrained head
    leaves every placed box where it starts from, and gives co-visibility the logit 0.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from crossview.dual.earlier_heads import last_rows
from crossview.geometry.boxes import to_centers
from crossview.geometry.camera import TAU, Camera, bearing, horizontal_offset, tilt
from crossview.geometry.projection import Standing, locate_boxes, or_placeholder, view_boxes

CORRECTION_LIMIT = (
    5.0  # in SSD offsets: half a box of shift or a factor e of size, so that no early step throws a box away
)


class Placement(NamedTuple):
    """Boxes of one view, placed in the other view.

    Attributes:
        boxes: (B, N, 4) ``xyxy`` pixels of the other view, by the head.
        valid: (B, N) bool, False where the head has no place for them; the boxes are meaningless there.
        geometry_boxes: (B, N, 4) the same by geometry alone.
        geometry_valid: (B, N) bool, False where flat ground gives no place.
        covisibility: (B, N) logit: is the object there in the other view's image?
    """

    boxes: Tensor
    valid: Tensor
    geometry_boxes: Tensor
    geometry_valid: Tensor
    covisibility: Tensor


class Sighting(NamedTuple):
    """Boxes of one view, and what geometry makes of them.

    Attributes:
        source: cameras (B, 1) that saw the boxes.
        target: cameras (B, 1) of the other view.
        boxes: (B, N, 4) ``xyxy`` pixels of the view ``source``.
        standing: the objects (B, N) on flat ground.
        distance_to: (B, N) metres from the other camera.
        geometry_boxes: (B, N, 4) where the other camera sees them.
        geometry_valid: (B, N) bool: where there is such a place.
        toward: (B, 1) bearing of the other camera, radians; the own camera's yaw if both are at one place.
        baseline: (B, 1) metres between the cameras.
    """

    source: Camera
    target: Camera
    boxes: Tensor
    standing: Standing
    distance_to: Tensor
    geometry_boxes: Tensor
    geometry_valid: Tensor
    toward: Tensor
    baseline: Tensor


def sight(camera_from: Camera, camera_to: Camera, boxes: Tensor) -> Sighting:
    """Boxes (B, N, 4) of cameras (B,), with their places in the view of other cameras (B,) by geometry."""
    source, target = camera_from.per_object(), camera_to.per_object()
    standing, located = locate_boxes(source, boxes)
    placed, distance_to, visible = view_boxes(target, standing)
    valid = located & visible
    placed = or_placeholder(placed, valid)
    baseline, toward, apart = horizontal_offset(source, target.position)
    baseline = torch.where(apart, baseline, 0.0)
    toward = torch.where(apart, toward, source.yaw)  # from the same place there is no direction
    return Sighting(source, target, boxes, standing, distance_to, placed, valid, toward, baseline)


def view_angles(camera: Camera, boxes: Tensor, toward: Tensor) -> list[Tensor]:
    """Five numbers (B, N) that describe boxes (B, N, 4) in one view.

    The bearing is counted from ``toward`` (B, 1), that of the other camera.
    """
    left, top, right, bottom = boxes.unbind(-1)
    angle = bearing(camera, (left + right) / 2) - toward
    width = TAU * camera.scale[..., 0] * (right - left)
    return [torch.sin(angle), torch.cos(angle), tilt(camera, top), tilt(camera, bottom), width]


def image_place(boxes: Tensor, image_size: tuple[int, int]) -> list[Tensor]:
    """Three numbers (B, N) that say where in an image boxes (B, N, 4) are, and how tall."""
    height, width = image_size
    center = to_centers(boxes)
    return [
        2.0 * center[..., 0] / width - 1.0,
        2.0 * center[..., 1] / height - 1.0,
        (boxes[..., 3] - boxes[..., 1]).clamp(1e-2, 1e4).log() - math.log(height / 4),
    ]


def log_metres(distance: Tensor) -> Tensor:
    """A distance in metres as an input of a head."""
    return torch.log(distance.clamp(0.1, 1e4)) - math.log(10.0)


def limited(values: Tensor, limit: float) -> Tensor:
    """The same values near zero, which never leave -limit..limit."""
    return limit * torch.tanh(values / limit)


def _corrected(boxes: Tensor, offsets: Tensor, variances: Sequence[float]) -> Tensor:
    """Boxes (..., 4) ``xyxy`` changed by SSD offsets (..., 4) of which they are the reference themselves.

    The change is added to the corners: offsets of zero leave every bit as it is, which the way over centre and size
    and back does not.
    """
    scaled = offsets * offsets.new_tensor(variances)
    size = boxes[..., 2:] - boxes[..., :2]
    shift, growth = scaled[..., :2] * size, torch.expm1(scaled[..., 2:]) * size / 2
    return boxes + torch.cat((shift - growth, shift + growth), dim=-1)


class ProjectionHead(nn.Module, ABC):
    """Places boxes in the other view, and says whether the object is there.

    What is common to all: a small network looks at numbers that describe a box, and gives the logit of co-visibility
    and, if the subclass wants them, numbers to place the box by. The two directions share one head: seen from the line
    between the cameras they are the same problem.

    Attributes:
        features: how many numbers describe a box.
        place_outputs: how many numbers `place` takes.
    """

    features: ClassVar[int]
    place_outputs: ClassVar[int]

    def __init__(
        self, image_size: tuple[int, int], variances: tuple[float, ...], hidden: int = 64, box_gradient: float = 1.0
    ) -> None:
        """Builds the head.

        Args:
            image_size: height and width of the network's image.
            variances: of the boxes' SSD offsets.
            hidden: width of the two hidden layers.
            box_gradient: factor of the gradient that reaches the detector's boxes through the placing. A pixel at the
                foot of a far box moves the placed box by many, so that with factor 1 this gradient drowns the others
                of an untrained detector.

        Raises:
            ValueError: ``box_gradient`` is not in 0..1.
        """
        super().__init__()
        if not 0 <= box_gradient <= 1:
            raise ValueError(f"box_gradient: found {box_gradient}, expected 0 to 1")
        self.box_gradient = box_gradient
        self.image_size = image_size
        self.variances = variances
        self.hidden = nn.Sequential(nn.Linear(self.features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.output = nn.Linear(hidden, self.place_outputs + 1)
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
        seen = sight(camera_from, camera_to, boxes.detach().lerp(boxes, self.box_gradient))
        start, valid = self.start(seen)
        # The features describe where the box is; the head learns from them but does not move the box to please itself.
        features = torch.stack([*self.describe(seen, start), score], dim=-1).detach()
        features = torch.where(valid.unsqueeze(-1), features, 0.0)
        features = torch.cat((features, valid.unsqueeze(-1).to(features.dtype)), dim=-1)
        outputs, covisibility = self.output(self.hidden(features)).split((self.place_outputs, 1), dim=-1)
        placed = self.place(seen, start, outputs)
        return Placement(placed, valid, seen.geometry_boxes, seen.geometry_valid, covisibility.squeeze(-1))

    @abstractmethod
    def start(self, seen: Sighting) -> tuple[Tensor, Tensor]:
        """Where an untrained head places the boxes (B, N, 4), and for which (B, N) there is a place."""

    @abstractmethod
    def describe(self, seen: Sighting, start: Tensor) -> list[Tensor]:
        """What the network gets to know of the boxes: two less than ``features`` finite numbers (B, N).

        The score and whether there is a place are added to them.
        """

    @abstractmethod
    def place(self, seen: Sighting, start: Tensor, outputs: Tensor) -> Tensor:
        """Boxes (B, N, 4) in the other view.

        Args:
            seen: the boxes and their cameras.
            start: (B, N, 4) where they start.
            outputs: (B, N, place_outputs) of the network; zero leaves them there.
        """


class GeometryHead(ProjectionHead):
    """Pure geometry: foot to the ground, ground to the other camera. Only co-visibility is learned."""

    features = 20
    place_outputs = 0

    def __init__(
        self, image_size: tuple[int, int], variances: tuple[float, ...], hidden: int = 64, box_gradient: float = 1.0
    ) -> None:
        """Builds the head; arguments as in `ProjectionHead`."""
        super().__init__(image_size, variances, hidden, box_gradient)
        self.register_load_state_dict_pre_hook(last_rows)  # type: ignore[no-untyped-call]

    def start(self, seen: Sighting) -> tuple[Tensor, Tensor]:
        """The places by geometry."""
        return seen.geometry_boxes, seen.geometry_valid

    def describe(self, seen: Sighting, start: Tensor) -> list[Tensor]:
        """The box and its projection in angles, the distances, the size in metres, the place in the other image."""
        return [
            *view_angles(seen.source, seen.boxes, seen.toward),
            *view_angles(seen.target, start, seen.toward),
            log_metres(seen.standing.distance),
            log_metres(seen.distance_to),
            log_metres(seen.standing.width),
            log_metres(seen.standing.height),
            log_metres(seen.baseline).expand_as(seen.distance_to),
            *image_place(start, self.image_size),
        ]

    def place(self, seen: Sighting, start: Tensor, outputs: Tensor) -> Tensor:
        """The places by geometry."""
        return start


class ResidualHead(GeometryHead):
    """Geometry, and a learned correction in SSD offsets of the placed box."""

    place_outputs = 4

    def place(self, seen: Sighting, start: Tensor, outputs: Tensor) -> Tensor:
        """The places by geometry, corrected."""
        return _corrected(start, limited(outputs, CORRECTION_LIMIT), self.variances)
