"""Pairs of views that no file has."""

import torch

from crossview.data.batch import Objects, PairBatch
from crossview.geometry.camera import panorama_camera
from crossview.geometry.projection import Standing, view_boxes


def pair_batch(pairs: int, image_size: tuple[int, int], objects: int = 15, seed: int = 0) -> PairBatch:
    """A batch of pairs above a street: noise for pixels, boxes by exact geometry, everything seen in both views.

    Args:
        pairs: B.
        image_size: height and width.
        objects: in each view.
        seed: of everything random.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (pairs, 2, *image_size, 3), generator=generator, dtype=torch.uint8)
    position = torch.zeros(pairs, 2, 2)
    position[:, 1] = 5 + 5 * torch.rand(pairs, 2, generator=generator)
    yaw = 6.28 * torch.rand(pairs, 2, generator=generator)
    cameras = panorama_camera(position, torch.full((pairs, 2), 3.0), yaw, image_size[1], image_size[0])
    draw = torch.rand(pairs, 1, objects, 4, generator=generator)
    angle = 6.28 * (torch.arange(objects) + 0.7 * draw[..., 0]) / objects
    reach = 10 + 12 * draw[..., 1]
    foot = position.mean(dim=1)[:, None, None] + reach[..., None] * torch.stack((angle.sin(), angle.cos()), dim=-1)
    boxes, _, _ = view_boxes(cameras.per_object(), Standing(foot, 3 + 2 * draw[..., 2], 4 + 4 * draw[..., 3], reach))
    ids = torch.arange(objects).expand(pairs, 2, -1).clone()
    yes = torch.ones_like(ids).bool()
    known = Objects(boxes, torch.ones_like(ids), ids, yes, ~yes, yes, foot.expand(-1, 2, -1, -1), yes)
    numbers = torch.arange(2 * pairs).reshape(pairs, 2)
    size = torch.tensor([image_size[1], image_size[0]]).expand(pairs, 2, 2)
    names = [(f"{2 * number}", f"{2 * number + 1}") for number in range(pairs)]
    return PairBatch(pixels.permute(0, 1, 4, 2, 3), known, cameras, size, numbers, torch.arange(pairs), names)
