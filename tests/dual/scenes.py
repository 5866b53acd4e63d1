"""Pairs of panoramas above a street of standing objects, and a narrow network that looks at them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from crossview.data.batch import Objects
from crossview.detector.anchors import AnchorGrid
from crossview.detector.ssd import SSD
from crossview.detector.vgg import VGG16
from crossview.dual.dual_ssd import DualSSD
from crossview.dual.head import ProjectionHead, ResidualHead
from crossview.geometry.camera import Camera, panorama_camera
from crossview.geometry.projection import Standing, view_boxes

SIZE = (75, 150)  # height, width: quick, and the stride of the first map still divides neither
VARIANCES = (0.1, 0.1, 0.2, 0.2)


def cameras(
    poses: list[list[tuple[float, float, float]]], size: tuple[int, int] = SIZE, dtype: torch.dtype = torch.float32
) -> Camera:
    """Cameras (B, 2), 3 m above the ground, from (east, north, yaw) of each view."""
    values = torch.tensor(poses, dtype=dtype)
    height = torch.full(values.shape[:2], 3.0, dtype=dtype)
    return panorama_camera(values[..., :2], height, values[..., 2], size[1], size[0])


def random_cameras(seed: int, pairs: int, size: tuple[int, int] = SIZE, dtype: torch.dtype = torch.float32) -> Camera:
    """Cameras (B, 2): view 1 at the origin, view 2 some 5 to 15 metres away, with any heading."""
    draw = torch.rand(pairs, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    turn = 2 * math.pi
    poses = [
        [(0.0, 0.0, turn * a), ((5 + 10 * b) * math.sin(turn * c), (5 + 10 * b) * math.cos(turn * c), turn * d)]
        for a, b, c, d in draw
    ]
    return cameras(poses, size, dtype)


def street(seed: int, camera: Camera, count: int = 5, unshared: int = 1, anonymous: int = 0) -> Objects:
    """Objects (B, 2, count) of the pairs: the same ones in both views, seen by exact geometry.

    Args:
        seed: of their places and sizes.
        camera: cameras (B, 2).
        count: objects a pair.
        unshared: how many of them, the first ones, have an identity in each view that the other view does not have.
        anonymous: how many of them, the last ones, have no identity in either view.
    """
    generator = torch.Generator().manual_seed(seed)
    dtype = camera.yaw.dtype
    pairs = len(camera.yaw)
    draw = torch.rand(pairs, 1, count, 5, generator=generator, dtype=torch.float64).to(dtype)
    middle = camera.position.mean(dim=1)[:, None, None]
    # Around both cameras, spread over all directions, so that anchors find them apart from each other.
    angle = 2 * math.pi * (torch.arange(count) + 0.7 * draw[..., 0]) / count
    reach = 6 + 6 * draw[..., 1]
    foot = middle + reach[..., None] * torch.stack((torch.sin(angle), torch.cos(angle)), dim=-1)
    width, height = 2 + 2 * draw[..., 2], 3 + 3 * draw[..., 3]
    boxes, _, valid = view_boxes(camera.per_object(), Standing(foot, width, height, reach))
    if not bool(valid.all()):
        raise ValueError("an object stands under a camera: take another seed")
    ids = torch.arange(100, 100 + count).expand(pairs, 2, count).clone()
    ids[..., :unshared] += torch.tensor([1000, 2000])[:, None]
    has_id = torch.ones_like(ids).bool()
    has_id[..., count - anonymous :] = False
    present = torch.ones_like(has_id)
    labels = 1 + (ids % 2)
    location = foot.expand(-1, 2, -1, -1)
    return Objects(boxes, labels, ids, has_id, ~present, present, location, present)


def narrow_detector(classes: int = 2, size: tuple[int, int] = SIZE, seed: int = 0, winograd: bool = True) -> SSD:
    """A detector with four maps of the shape of SSD300's first ones and a handful of channels."""
    torch.manual_seed(seed)
    ratios = [[1, 2, 0.5], [1, 2, 0.5, 3, 1 / 3], [1, 2, 0.5, 3, 1 / 3], [1, 2, 0.5]]
    backbone = VGG16(channels=(4, 4, 8, 8, 8), fc_channels=16, winograd=winograd)
    stages = [[8, 16, 2, 1, 3], [8, 16, 2, 1, 3]]
    return SSD(backbone, classes, size, AnchorGrid((0.1, 0.2, 0.37, 0.54, 0.71), ratios), stages)


def narrow_network(
    share_weights: bool = True, head: Callable[..., ProjectionHead] = ResidualHead, seed: int = 0
) -> DualSSD:
    """The dual network with the narrow detector."""
    detector = narrow_detector(seed=seed)
    return DualSSD(detector, head(SIZE, VARIANCES, hidden=16), share_weights)


def random_images(seed: int, pairs: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Images (B, 2, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (pairs, 2, 3, *size), generator=generator, dtype=torch.uint8)


def train_head(head: ProjectionHead, seed: int = 0, size: float = 0.3) -> None:
    """Gives the last layer, which starts at zero, some values, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.output.parameters():
        parameter.data = size * torch.randn(parameter.shape, generator=generator).to(parameter)
