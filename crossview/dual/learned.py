"""A head that learns where a box is in the other view, without the ground: what geometry is to be compared with.

Convention:
    A box starts where an infinitely far object would be: in the same direction, of the same angular size. From there
    the network turns it, moves it up or down, and lets it grow, each from the box, the relative pose and the score.
    The turn is given as a vector (forward, right) in the direction of the box, which starts as (1, 0): for an object at
    distance d, seen at angle a from the line between cameras b apart, the right one is (1 - b cos(a) / d,
    b sin(a) / d), which is smooth in all of them, while the turn itself jumps where the object is between the cameras.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crossview.dual.head import ProjectionHead, Sighting, image_place, limited, log_metres, view_angles
from crossview.geometry.camera import Camera, bearing, column, row, tilt
from crossview.geometry.projection import or_placeholder

LIFT_LIMIT = math.pi / 2  # radians
GROWTH_LIMIT = 3.0  # of the logarithm: a factor 20
MIN_VECTOR = 1e-2  # a shorter one says nothing about the direction, and its gradient would be without bounds


class Change(NamedTuple):
    """What happens to boxes (...) on their way from one view to the other.

    Attributes:
        turn: (...) radians clockwise.
        lift: (...) radians upwards.
        growth: (..., 2) natural logarithm of the factors of width and height.
    """

    turn: Tensor
    lift: Tensor
    growth: Tensor


def changed_boxes(camera_from: Camera, camera_to: Camera, boxes: Tensor, change: Change) -> Tensor:
    """Boxes (..., 4) ``xyxy`` of one camera as another one sees them after a change.

    Without any change that is the view of infinitely far objects. The centre lies on the panorama's stretch between its
    seams.

    Args:
        camera_from: cameras of batch shape (...), broadcastable (see `Camera.per_object`).
        camera_to: the same.
        boxes: (..., 4) pixels of ``camera_from``, of positive size.
        change: (...).
    """
    left, top, right, bottom = boxes.unbind(-1)
    x = column(camera_to, bearing(camera_from, (left + right) / 2) + change.turn)
    y = row(camera_to, tilt(camera_from, (top + bottom) / 2) + change.lift)
    center = torch.stack((x, y), dim=-1)
    half = (boxes[..., 2:] - boxes[..., :2]) / 2 * (camera_from.scale / camera_to.scale) * change.growth.exp()
    return torch.cat((center - half, center + half), dim=-1)


def turn_of(vector: Tensor) -> Tensor:
    """Angles (...) clockwise from the first axis of vectors (..., 2); 0 without a gradient for those without length."""
    forward, right = vector.unbind(-1)
    long = forward * forward + right * right > MIN_VECTOR**2
    forward = torch.where(long, forward, torch.ones_like(forward))
    return torch.atan2(torch.where(long, right, torch.zeros_like(right)), forward)


class LearnedHead(ProjectionHead):
    """The place in the other view by the network alone, from the box, the relative pose and the score.

    Every box of positive size has a place, whether its foot is below the horizon or not.
    """

    features = 11
    place_outputs = 5

    def start(self, seen: Sighting) -> tuple[Tensor, Tensor]:
        """Where infinitely far objects would be, and which boxes have a size."""
        boxes, valid = _with_size(seen.boxes)
        zero = torch.zeros_like(boxes)
        far = changed_boxes(seen.source, seen.target, boxes, Change(zero[..., 0], zero[..., 0], zero[..., :2]))
        return or_placeholder(far, valid), valid

    def describe(self, seen: Sighting, start: Tensor) -> list[Tensor]:
        """The box in angles, the distance between the cameras, the place in the other image that it starts from."""
        baseline = log_metres(seen.baseline).expand(start.shape[:-1])
        boxes, _ = _with_size(seen.boxes)
        return [*view_angles(seen.source, boxes, seen.toward), baseline, *image_place(start, self.image_size)]

    def place(self, seen: Sighting, start: Tensor, outputs: Tensor) -> Tensor:
        """The start, changed as the network says."""
        vector = outputs[..., :2] + outputs.new_tensor([1.0, 0.0])
        change = Change(turn_of(vector), limited(outputs[..., 2], LIFT_LIMIT), limited(outputs[..., 3:], GROWTH_LIMIT))
        boxes, valid = _with_size(seen.boxes)
        return or_placeholder(changed_boxes(seen.source, seen.target, boxes, change), valid)


def _with_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4) of which those without a size are the placeholder, and which (...) have one."""
    valid = boxes.isfinite().all(dim=-1) & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    return or_placeholder(boxes, valid), valid
