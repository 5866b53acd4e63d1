"""A pair of panoramas of 600x300 pixels above standing objects, exact in float64."""

import math

import numpy as np
import torch

from crossview.geometry.camera import Camera, panorama_camera
from crossview.geometry.projection import Standing, view_boxes

WIDTH, HEIGHT = 600, 300


def camera(east=0.0, north=0.0, yaw=0.0, height=3.0) -> Camera:
    values = torch.tensor([[east, north]], dtype=torch.float64)
    fields = panorama_camera(values[0], values.new_tensor(height), values.new_tensor(yaw), WIDTH, HEIGHT)
    return Camera(*fields)


def objects(seed: int, count: int, reach: float = 25.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feet (G, 2) at least 3 m from each other and from the street's middle, widths and heights (G,) in metres."""
    rng = np.random.default_rng(seed)
    feet: list[np.ndarray] = []
    while len(feet) < count:
        foot = rng.uniform(-reach, reach, 2)
        if abs(foot[0]) > 3 and all(math.dist(foot, other) > 3 for other in feet):
            feet.append(foot)
    return np.array(feet).reshape(-1, 2), rng.uniform(2, 6, count), rng.uniform(4, 9, count)


def boxes(seen_by: Camera, feet: np.ndarray, widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Boxes (G, 4) in which a camera sees the objects."""
    distance = torch.ones(len(feet), dtype=torch.float64)
    standing = Standing(torch.from_numpy(feet), torch.from_numpy(widths), torch.from_numpy(heights), distance)
    seen, _, valid = view_boxes(seen_by.per_object(), standing)
    assert valid.all()
    return seen.numpy()


def off(true: Camera, east: float, north: float, turn: float) -> Camera:
    """The camera as it would be stated with an error of its pose."""
    return true._replace(position=true.position + true.position.new_tensor([east, north]), yaw=true.yaw + turn)
