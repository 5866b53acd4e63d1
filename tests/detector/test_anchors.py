from pathlib import Path

import numpy as np
import pytest
import torch

from crossview.detector.anchors import AnchorGrid
from crossview.geometry.boxes import to_corners

GOLDEN = Path(__file__).parents[1] / "golden"
SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
RATIOS = ((1, 2, 1 / 2), *((1, 2, 1 / 2, 3, 1 / 3),) * 3, (1, 2, 1 / 2), (1, 2, 1 / 2))
SSD300_STEPS = (8, 16, 32, 64, 100, 300)
# Feature maps of a VGG-SSD300 by image size.
MAPS = {
    (300, 300): [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)],
    (300, 600): [(38, 75), (19, 38), (10, 19), (5, 10), (3, 8), (1, 6)],
    (512, 1024): [(64, 128), (32, 64), (16, 32), (8, 16), (6, 14), (4, 12)],
}


@pytest.mark.parametrize("name", ["ssd300_h300_w600", "ssd300_h300_w300", "ssd512_h512_w512"])
@pytest.mark.parametrize("scalar_steps", [True, False])  # one number a map, or (vertical, horizontal)
def test_anchors_of_the_reference(name, scalar_steps):
    with np.load(GOLDEN / f"anchors_{name}.npz") as golden:
        height, width = golden["img_hw"].tolist()
        steps = golden["steps_hw"].tolist()
        grid = AnchorGrid(
            scales=golden["scales"].tolist(),
            aspect_ratios=[[ratio for ratio in row if ratio > 0] for row in golden["aspect_ratios"].tolist()],
            steps=[step[0] for step in steps] if scalar_steps else steps,
            offsets=golden["offsets"].tolist(),
        )
        boxes = grid.boxes((height, width), [(rows, columns) for rows, columns in golden["feature_hw"].tolist()])
        relative = boxes.numpy() / np.array([width, height, width, height])
        np.testing.assert_allclose(relative, golden["centroids"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "steps", "count", "outside"),
    [
        ((300, 600), None, 17292, 0),
        ((300, 300), None, 8732, 0),
        ((512, 1024), None, 49424, 0),
        ((300, 600), SSD300_STEPS, 17292, 184),  # the original's strides, made for 300x300
        ((300, 300), SSD300_STEPS, 8732, 114),
    ],
)
def test_steps_per_axis_keep_all_centres_inside_the_image(size, steps, count, outside):
    boxes = AnchorGrid(SCALES, RATIOS, steps=steps).boxes(size, MAPS[size])
    assert boxes.shape == (count, 4)
    assert boxes.dtype == torch.float64
    height, width = size
    x, y = boxes[:, 0], boxes[:, 1]
    assert int(((x < 0) | (x > width) | (y < 0) | (y > height)).sum()) == outside


def test_centres_are_spread_evenly_on_each_axis_in_the_order_of_rows():
    # 2 rows and 3 columns on 20 x 60 pixels: strides of 10 and 20; the next layer's one cell in the middle.
    grid = AnchorGrid([0.5, 0.8, 1.0], [[1], [1]], two_boxes_for_ratio_1=False)
    boxes = grid.boxes((20, 60), [(2, 3), (1, 1)])
    assert boxes[:, :2].tolist() == [[10, 5], [30, 5], [50, 5], [10, 15], [30, 15], [50, 15], [30, 10]]
    # Sizes are fractions of the shorter side.
    torch.testing.assert_close(boxes[:, 2:], torch.tensor([[10.0, 10.0]] * 6 + [[16.0, 16.0]], dtype=torch.float64))


def test_steps_and_offsets_of_a_layer():
    grid = AnchorGrid([0.5, 0.5, 0.5], [[1], [1]], two_boxes_for_ratio_1=False, steps=[8, (4, 6)], offsets=[0.5, 1.0])
    assert grid.boxes((20, 60), [(1, 2), (2, 1)])[:, :2].tolist() == [[4, 4], [12, 4], [6, 4], [6, 8]]


def test_offsets_of_each_axis():
    grid = AnchorGrid([0.5, 0.5], [[1]], two_boxes_for_ratio_1=False, steps=[8], offsets=[(0.25, 0.75)])
    assert grid.boxes((20, 60), [(1, 2)])[:, :2].tolist() == [[6, 2], [14, 2]]


@pytest.mark.parametrize(
    ("ratios", "two", "per_cell", "shapes"),
    [
        # ratio 1 twice: scale 0.25 of 100 pixels, and sqrt(0.25 * 1.0)
        ([1, 4, 0.25], True, 4, [(25, 25), (50, 50), (50, 12.5), (12.5, 50)]),
        ([1, 4], False, 2, [(25, 25), (50, 12.5)]),
        # in the order of the list, as SSD7 has them; the second square only with ratio 1, after it
        ([0.25, 1, 4], True, 4, [(12.5, 50), (25, 25), (50, 50), (50, 12.5)]),
        ([4], True, 1, [(50, 12.5)]),
    ],
)
def test_shapes_of_a_cell(ratios, two, per_cell, shapes):
    grid = AnchorGrid([0.25, 1.0], [ratios], two_boxes_for_ratio_1=two)
    assert grid.boxes_per_cell == [per_cell]
    boxes = grid.boxes((100, 200), [(1, 1)])
    torch.testing.assert_close(boxes[:, 2:], torch.tensor(shapes, dtype=torch.float64))


def test_clipped_anchors_end_at_the_image_border():
    grid = AnchorGrid(SCALES, RATIOS, clip=True)
    unclipped = to_corners(AnchorGrid(SCALES, RATIOS).boxes((300, 600), MAPS[300, 600]))
    corners = to_corners(grid.boxes((300, 600), MAPS[300, 600]))
    limits = torch.tensor([600.0, 300.0, 600.0, 300.0], dtype=torch.float64)
    torch.testing.assert_close(corners, torch.minimum(unclipped.clamp(min=0), limits), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": SCALES[:-1]}, "anchors.scales: found 6 values, need 7"),
        ({"steps": SSD300_STEPS[:-1]}, "anchors.steps: found 5 values, need 6"),
        ({"offsets": (0.5,)}, "anchors.offsets: found 1 values, need 6"),
        ({"scales": (0.0, *SCALES[1:])}, "must be positive"),
        ({"aspect_ratios": ((1, -2), *RATIOS[1:])}, "must be positive"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AnchorGrid(**{"scales": SCALES, "aspect_ratios": RATIOS, **settings})


def test_wrong_number_of_feature_maps_is_refused():
    with pytest.raises(ValueError, match="settings for 6 feature maps, the network has 5"):
        AnchorGrid(SCALES, RATIOS).boxes((300, 600), MAPS[300, 600][:-1])
