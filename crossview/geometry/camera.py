"""Cameras of (pieces of) equirectangular panoramas above flat ground.

Convention:
    Pixels are continuous, x right, y down, origin at the image's top left corner, pixel centres at +0.5.
    A bearing is clockwise from north, a tilt is positive upwards, both in radians.
    A whole panorama of W x H pixels covers 360 x 180 degrees:
    ``bearing = yaw - pi + 2 pi x / W`` and ``tilt = pi (1/2 - y / H)``.
    Worked number: yaw 0.9073966781 rad, 600x300 pixels, height 3 m, foot at x 238.205, y 166.88:
    bearing 14.9 degrees, tilt -10.13 degrees, 16.8 m away.

The camera follows its image. Resizing, cropping, expanding, rolling and mirroring an image all keep the map from its
pixels to fractions of the panorama affine, so that one scale and one offset an axis describe any chain of them exactly.
The seam (x = 0 and x = W of the panorama) stays where the panorama's file or its last roll has put it; the x of a
direction is always given on the stretch between the seams, fraction in [0, 1]; rounding may reach either end, which are
the same.

Functions return ``(value, valid)`` where a value may not exist. Where ``valid`` is False the value is finite and
meaningless, and no gradient flows from it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TAU = 2.0 * math.pi
HORIZON_TILT = -1e-6  # radians; flat ground seen above this tilt lies beyond the curvature of the Earth
MIN_DISTANCE = 1e-3  # metres; directly under the camera a bearing does not exist


class Camera(NamedTuple):
    """Pose and pixel map of one image, or of a batch of images of shape (...).

    Attributes:
        position: (..., 2) metres, east and north in the pair's local frame.
        height: (...) metres above the ground.
        yaw: (...) radians, bearing of the whole panorama's centre column.
        scale: (..., 2) fractions of the panorama per image pixel, x and y; (1/W, 1/H) for a whole panorama.
        offset: (..., 2) fractions of the panorama at the image's top left corner; (0, 0) for a whole panorama.
    """

    position: Tensor
    height: Tensor
    yaw: Tensor
    scale: Tensor
    offset: Tensor

    def per_object(self) -> "Camera":
        """The same cameras with batch shape (..., 1), to be used with objects or anchors of shape (..., N, ·)."""
        return Camera(
            self.position.unsqueeze(-2),
            self.height.unsqueeze(-1),
            self.yaw.unsqueeze(-1),
            self.scale.unsqueeze(-2),
            self.offset.unsqueeze(-2),
        )

    def view(self, index: int) -> "Camera":
        """Cameras (B,) of view ``index`` out of the cameras (B, 2) of a batch of pairs."""
        return Camera(*(field[:, index] for field in self))


def repeated(cameras: Sequence[Camera], counts: Sequence[int]) -> Camera:
    """Each camera () as often as its image has boxes: cameras (N,) of all boxes, in double precision on the CPU."""
    rows = torch.arange(len(cameras)).repeat_interleave(torch.tensor(counts))
    fields = (torch.stack(values).detach().to("cpu", torch.float64) for values in zip(*cameras, strict=True))
    return Camera(*(field[rows] for field in fields))


def panorama_camera(position: Tensor, height: Tensor, yaw: Tensor, image_width: int, image_height: int) -> Camera:
    """Camera of a whole panorama of ``image_width`` x ``image_height`` pixels.

    Args:
        position: (..., 2) metres east and north.
        height: (...) metres above the ground.
        yaw: (...) radians, bearing of the centre column.
        image_width: width in pixels, covering 360 degrees.
        image_height: height in pixels, covering 180 degrees.
    """
    scale = position.new_tensor([1.0 / image_width, 1.0 / image_height]).expand(position.shape)
    return Camera(position, height, yaw, scale, torch.zeros_like(position))


def period(camera: Camera) -> Tensor:
    """Pixels (...) in 360 degrees: x and x + period are the same direction."""
    return 1.0 / camera.scale[..., 0]


def seam(periods: Tensor, width: float) -> Tensor:
    """Pixels (...) after which an image of a width begins anew: the period of a whole panorama, infinity for the rest.

    Of a panorama that was cropped there is less than a turn. One on a larger canvas has a canvas behind its edges, not
    its other side.
    """
    return torch.where((periods - width).abs() < 1e-3 * width, periods, torch.inf)


def cut_gradient(value: Tensor, valid: Tensor) -> Tensor:
    """The same ``value`` (...), through whose entries that are not ``valid`` (...) no gradient flows."""
    return torch.where(valid, value, value.detach()) if value.requires_grad else value


def wrap_angle(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi]; rounding may reach either end, which are the same direction."""
    return torch.remainder(angle + math.pi, TAU) - math.pi


def bearing(camera: Camera, x: Tensor) -> Tensor:
    """Bearing in radians (not wrapped) of image columns x (...)."""
    return camera.yaw - math.pi + TAU * (camera.scale[..., 0] * x + camera.offset[..., 0])


def tilt(camera: Camera, y: Tensor) -> Tensor:
    """Tilt in radians of image rows y (...)."""
    return math.pi * (0.5 - (camera.scale[..., 1] * y + camera.offset[..., 1]))


def column(camera: Camera, bearing_rad: Tensor) -> Tensor:
    """Image column x (...) of a bearing, on the stretch between the panorama's seams; a crop may not contain it."""
    fraction = torch.remainder((bearing_rad - camera.yaw) / TAU + 0.5, 1.0)
    return (fraction - camera.offset[..., 0]) / camera.scale[..., 0]


def row(camera: Camera, tilt_rad: Tensor) -> Tensor:
    """Image row y (...) of a tilt."""
    return (0.5 - tilt_rad / math.pi - camera.offset[..., 1]) / camera.scale[..., 1]


def ground_distance(camera: Camera, y: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal distance in metres to the flat ground seen at image rows y (...), and where it exists.

    At or above the horizon, and past the nadir, there is no ground point. At the nadir the distance is zero.
    """
    angle = tilt(camera, y)
    valid = (angle < HORIZON_TILT) & (angle >= -math.pi / 2)
    angle = torch.where(valid, angle, torch.full_like(angle, -math.pi / 4))
    # The float32 next to pi / 2 lies above it, where the cosine is negative: distances are not.
    distance = camera.height * torch.cos(angle).clamp(min=0) / -torch.sin(angle)
    return cut_gradient(distance, valid), valid


def ground_point(camera: Camera, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Ground point (..., 2) in metres east and north that pixels (..., 2) show, and where (...) it exists."""
    distance, valid = ground_distance(camera, xy[..., 1])
    angle = bearing(camera, xy[..., 0])
    direction = torch.stack((torch.sin(angle), torch.cos(angle)), dim=-1)
    return cut_gradient(camera.position + distance.unsqueeze(-1) * direction, valid.unsqueeze(-1)), valid


def horizontal_offset(camera: Camera, east_north: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance (metres) and bearing (radians, in [-pi, pi]) of points (..., 2) from the camera, where they exist."""
    delta = east_north - camera.position
    square = (delta * delta).sum(dim=-1)
    valid = (square > MIN_DISTANCE**2) & (square < math.inf)
    away = torch.where(valid.unsqueeze(-1), delta, torch.ones_like(delta))
    return torch.linalg.vector_norm(away, dim=-1), torch.atan2(away[..., 0], away[..., 1]), valid


def project_point(camera: Camera, east_north: Tensor, up: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Pixel (..., 2) that shows the world point (..., 2) at ``up`` metres above the ground, and where (...) it exists.

    A point within a millimetre of the vertical through the camera has no bearing and is not valid. A cropped image may
    not contain the pixel: compare with its size.
    """
    distance, angle, valid = horizontal_offset(camera, east_north)
    elevation = torch.atan2(up - camera.height, distance)
    xy = torch.stack((column(camera, angle), row(camera, elevation)), dim=-1)
    return cut_gradient(xy, valid.unsqueeze(-1)), valid


def resized(camera: Camera, factor_x: Tensor | float, factor_y: Tensor | float) -> Camera:
    """Camera after resizing the image: new size = old size x factor."""
    scale = torch.stack((camera.scale[..., 0] / factor_x, camera.scale[..., 1] / factor_y), dim=-1)
    return camera._replace(scale=scale)


def cropped(camera: Camera, left: Tensor | float, top: Tensor | float) -> Camera:
    """Camera after cutting ``left`` columns and ``top`` rows of pixels off (negative values: expanding the canvas)."""
    shift = torch.stack((camera.scale[..., 0] * left, camera.scale[..., 1] * top), dim=-1)
    return camera._replace(offset=camera.offset + shift)


def rolled(camera: Camera, shift: Tensor | float) -> Camera:
    """Camera after rolling a whole panorama's columns to the right by ``shift`` pixels, an exact change of yaw."""
    return camera._replace(yaw=camera.yaw - TAU * camera.scale[..., 0] * shift)


def mirrored(camera: Camera, image_width: Tensor | float) -> Camera:
    """Camera after mirroring the image left to right, in the world mirrored east to west about the frame's origin.

    Mirroring the world too keeps bearings clockwise: every bearing changes its sign.
    """
    end = camera.scale[..., 0] * image_width + camera.offset[..., 0]
    return camera._replace(
        position=camera.position * camera.position.new_tensor([-1.0, 1.0]),
        yaw=-camera.yaw,
        offset=torch.stack((1.0 - end, camera.offset[..., 1]), dim=-1),
    )
