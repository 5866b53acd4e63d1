"""Boxes seen in one view, placed in another view over flat ground.

Convention:
    An object stands on the ground at the middle of its box's lower edge (its foot) and is an upright board facing the
    camera: its width and height in metres follow from the box and the foot's distance, and are kept between views. So
    the box grows and shrinks with distance, and projecting there and back is the identity.
    Directions are named ``from`` -> ``to``; "1_to_2" means: seen in view 1, placed in view 2.
    A box that does not exist in the other view (``valid`` is False) is the `PLACEHOLDER`, a constant of positive size,
    so that offsets and logarithms of it are finite.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crossview.geometry.camera import (
    MIN_DISTANCE,
    TAU,
    Camera,
    bearing,
    column,
    cut_gradient,
    ground_distance,
    horizontal_offset,
    row,
    tilt,
)

MAX_TOP_TILT = math.radians(89.0)  # a top nearer to the zenith than this says nothing about the height
MAX_ANGULAR_WIDTH = math.radians(175.0)  # neither does a board that fills half of the horizon have a width
PLACEHOLDER = (0.0, 0.0, 1.0, 1.0)  # xyxy pixels


class Standing(NamedTuple):
    """Objects (...) standing on the ground, in metres of the pair's frame.

    Attributes:
        foot: (..., 2) east and north of the foot.
        width: (...) metres.
        height: (...) metres above the ground.
        distance: (...) horizontal metres from the camera that saw it.
    """

    foot: Tensor
    width: Tensor
    height: Tensor
    distance: Tensor


def locate_boxes(camera: Camera, boxes: Tensor) -> tuple[Standing, Tensor]:
    """Where the objects of boxes (..., 4) ``xyxy`` stand, and for which (...) flat ground gives an answer.

    A box has no place when its foot is at or above the horizon or straight below the camera, its top past 89 degrees,
    or its width over 175 degrees.

    Args:
        camera: cameras of batch shape (...), broadcastable (see `Camera.per_object`).
        boxes: (..., 4) pixels of the camera's image.
    """
    left, top, right, bottom = boxes.unbind(-1)
    distance, valid = ground_distance(camera, bottom)
    top_tilt = tilt(camera, top)
    middle, span = (left + right) / 2, right - left
    valid = valid & (distance > MIN_DISTANCE) & (bottom > top) & (top_tilt < MAX_TOP_TILT)
    valid = valid & (span > 0) & (TAU * camera.scale[..., 0] * span < MAX_ANGULAR_WIDTH)
    # Masked before they are used: the pixels themselves may have overflowed, and are factors of the camera's gradient.
    zero = torch.zeros_like(distance)
    middle, top_tilt = torch.where(valid, middle, zero), torch.where(valid, top_tilt, zero)
    angular_width = TAU * camera.scale[..., 0] * torch.where(valid, span, zero + 1.0)
    angle = bearing(camera, middle)
    foot = camera.position + distance.unsqueeze(-1) * torch.stack((torch.sin(angle), torch.cos(angle)), dim=-1)
    width = 2.0 * distance * torch.tan(angular_width / 2)
    height = camera.height + distance * torch.tan(top_tilt)
    standing = Standing(
        cut_gradient(foot, valid.unsqueeze(-1)),
        cut_gradient(width, valid),
        cut_gradient(height, valid),
        cut_gradient(distance, valid),
    )
    return standing, valid


def view_boxes(camera: Camera, standing: Standing) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (..., 4) ``xyxy`` in which a camera sees standing objects.

    The centre lies on the panorama's stretch between its seams; the box itself may cross the seam, and may lie outside
    a cropped image. There is no box of an object straight below the camera, or so far away that its box rounds to
    nothing.

    Returns:
        boxes (..., 4), the distance (...) in metres from this camera, and where (...) they exist.
    """
    distance, angle, valid = horizontal_offset(camera, standing.foot)
    center = column(camera, angle)
    half = torch.atan2(standing.width / 2, distance) / (TAU * camera.scale[..., 0])
    top = row(camera, torch.atan2(standing.height - camera.height, distance))
    bottom = row(camera, -torch.atan2(camera.height, distance))
    boxes = torch.stack((center - half, top, center + half, bottom), dim=-1)
    valid = valid & (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return or_placeholder(boxes, valid), cut_gradient(distance, valid), valid


def project_boxes(camera_from: Camera, camera_to: Camera, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (..., 4) of one view placed in the other view by geometry alone, and where (...) that is possible.

    Source: the construction of Wegner et al., "Cataloging Public Objects Using Aerial and Street-Level Images", CVPR
    2016 (image to ground and back), extended to whole boxes.
    """
    standing, seen = locate_boxes(camera_from, boxes)
    placed, _, visible = view_boxes(camera_to, standing)
    valid = seen & visible
    return or_placeholder(placed, valid), valid


def or_placeholder(boxes: Tensor, valid: Tensor) -> Tensor:
    """Boxes (..., 4), and the `PLACEHOLDER` where ``valid`` (...) is False."""
    return torch.where(valid.unsqueeze(-1), boxes, boxes.new_tensor(PLACEHOLDER))
