"""Two views of a made-up world point: panoramas that show it as a bright spot, with a box around it."""

import numpy as np
import torch
from hypothesis import strategies as st

from crossview.data.augment import Crop, Expand, Mirror, Roll, View
from crossview.data.augment.raster import Raster
from crossview.geometry.camera import panorama_camera, project_point

SPOT = 2.0  # standard deviation of the spot, source pixels
BLACK = (0, 0, 0)

# Widths whose grids are 4, 2 and 1.
SIZES = st.sampled_from([(192, 96), (190, 94), (181, 91), (256, 96)])
# Cameras on the left and on the right of all points: straight below a camera there is no bearing.
POSES = st.tuples(st.floats(16, 20).flatmap(lambda x: st.sampled_from([-x, x])), st.floats(-20, 20), st.floats(-7, 7))
POINTS = st.tuples(st.floats(-15, 15), st.floats(-15, 15), st.floats(0, 6))


def make_view(size, pose, points, half=(6.0, 5.0)):
    """A view of world points (east, north, up), each with a box of half sizes ``half`` around its pixel."""
    width, height = size
    east, north, yaw = pose
    camera = panorama_camera(
        torch.tensor([east, north], dtype=torch.float64),
        torch.tensor(3.0, dtype=torch.float64),
        torch.tensor(yaw, dtype=torch.float64),
        width,
        height,
    )
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    xy = pixels_of(camera, points[:, :2], points[:, 2])
    boxes = np.concatenate((xy - half, xy + half), axis=1)
    boxes[:, [0, 2]] += np.where(boxes[:, :1] < 0, width, 0)
    return View(Raster.whole(width, height), camera, boxes, points[:, :2], np.arange(len(points)))


def pixels_of(camera, east_north, up):
    """Pixels (N, 2) that show points (N, 2) at heights (N,)."""
    xy, _ = project_point(camera.per_object(), torch.from_numpy(np.ascontiguousarray(east_north)), torch.tensor(up))
    return xy.numpy()


def spot_image(size, xy):
    """A black panorama (h, w, 3) with a white spot around ``xy``, across the seam too."""
    width, height = size
    x, y = np.arange(width) + 0.5 - xy[0], np.arange(height) + 0.5 - xy[1]
    x = (x + width / 2) % width - width / 2
    spot = 255 * np.exp(-(x[None] ** 2 + y[:, None] ** 2) / (2 * SPOT**2))
    return np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, axis=2)


def loader(image):
    """What reads a file at a reduced size: the mean over blocks of pixels."""

    def load(reduction):
        h, w = (length // reduction for length in image.shape[:2])
        return image.reshape(h, reduction, w, reduction, 3).mean(axis=(1, 3)).round().astype(np.uint8)

    return load


def centroid(image):
    """Centre of brightness (x, y) of an image."""
    weight = image[..., 0].astype(np.float64)
    x, y = np.arange(weight.shape[1]) + 0.5, np.arange(weight.shape[0]) + 0.5
    return np.array([(weight * x).sum(), (weight * y[:, None]).sum()]) / weight.sum()


TRANSFORMS = {
    "roll": Roll(1.0),
    "expand": Expand(1.0, 2.0),
    "crop": Crop(1.0, (0.0,)),
    "mirror": Mirror(1.0),
}
