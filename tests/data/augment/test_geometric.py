"""Geometric transforms one by one: boxes at the seam, and the conditions of the crop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossview.data.augment import Crop, Expand, Roll
from tests.data.augment.scenes import POINTS, POSES, SIZES, make_view

SIZE = (100, 48)


def view_with(*boxes):
    """A view of a 100 x 48 panorama with these boxes."""
    points = [(5, 5, 0)] * len(boxes)
    view = make_view(SIZE, (0, 0, 0), points)
    view.boxes[:] = boxes
    return view


# box (x only), roll, expected x
@pytest.mark.parametrize(
    ("before", "shift", "after"),
    [
        ((10, 20), 0, (10, 20)),  # no roll
        ((10, 20), 30, (40, 50)),  # plain
        ((10, 20), 85, (95, 105)),  # rolled onto the seam: one box, beyond the right edge
        ((10, 20), 90, (0, 10)),  # rolled to just behind the seam
        ((95, 105), 3, (98, 108)),  # was on the seam, still is
        ((95, 105), 20, (15, 25)),  # was on the seam, rolled off it
        ((0, 100), 7, (7, 107)),  # all the way round
    ],
)
def test_a_roll_keeps_a_box_in_one_piece(before, shift, after):
    rolled = view_with((before[0], 5, before[1], 9)).roll(shift)
    assert rolled.boxes.tolist() == [[after[0], 5, after[1], 9]]


# box (x only), expected x in the mirror image of a whole panorama
@pytest.mark.parametrize(("before", "after"), [((10, 20), (80, 90)), ((95, 105), (95, 105)), ((98, 120), (80, 102))])
def test_a_mirrored_panorama_keeps_boxes_in_one_piece(before, after):
    assert view_with((before[0], 5, before[1], 9)).mirror().boxes.tolist() == [[after[0], 5, after[1], 9]]


# box (x only), window left and width, expected x or None if dropped
@pytest.mark.parametrize(
    ("box", "left", "width", "after"),
    [
        ((10, 20), 0, 50, (10, 20)),  # inside
        ((10, 20), 12, 50, (0, 8)),  # centre inside, clipped at the left
        ((10, 20), 16, 50, None),  # centre outside
        ((10, 20), 15, 50, (0, 5)),  # centre on the left edge belongs to the window
        ((40, 60), 0, 50, None),  # centre on the right edge does not
        ((90, 108), 60, 40, (30, 40)),  # on the seam, centre at the right: the piece at the right
        ((90, 108), 0, 40, None),  # ... and no piece at the left
        ((92, 120), 0, 40, (0, 20)),  # on the seam, centre at the left: the piece at the left
        ((92, 120), 60, 40, None),  # ... and no piece at the right
        ((92, 120), -10, 120, (10, 30)),  # on the seam of an expanded image: the piece with the centre, in place
        ((90, 108), -10, 120, (100, 110)),  # ... which ends where the panorama ends
    ],
)
def test_a_window_shows_the_piece_with_the_centre(box, left, width, after):
    view = view_with((box[0], 5, box[1], 9)).window(left, 0, width, 48)
    assert view.boxes.tolist() == ([] if after is None else [[after[0], 5, after[1], 9]])
    assert view.rows.tolist() == ([] if after is None else [0])


@settings(max_examples=60)
@given(
    size=SIZES,
    poses=st.tuples(POSES, POSES),
    points=st.lists(POINTS, max_size=5),
    half=st.tuples(st.floats(2, 40), st.floats(2, 20)),
    min_iou=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    roll=st.floats(0, 0.999),
    seed=st.integers(0, 1000),
)
def test_a_crop_overlaps_an_object_of_each_view_that_has_any(size, poses, points, half, min_iou, roll, seed):
    views = [Roll().apply(make_view(size, pose, points, half), roll) for pose in poses]
    views.append(make_view(size, poses[0], []))  # a view without objects asks for nothing
    crop = Crop(1.0, (min_iou,))
    window = crop.draw(np.random.default_rng(seed), views)
    if window is None:
        return
    for view in views:
        after = crop.apply(view, window)
        raster, limit = after.raster, np.array(size)
        assert (raster.left, raster.top) >= (0, 0)
        assert raster.left + raster.width <= limit[0]
        assert raster.top + raster.height <= limit[1]
        if len(view.boxes):
            assert len(after.rows) >= 1
            assert max(overlap(raster, box, size[0]) for box in view.boxes) >= min_iou - 1e-9


def overlap(raster, box, turn):
    """IoU of a window with a box, whose centre may lie a turn further to the right."""
    if (box[0] + box[2]) / 2 >= turn:
        box = box - [turn, 0, turn, 0]
    low = np.maximum(box[:2], (raster.left, raster.top))
    high = np.minimum(box[2:], (raster.left + raster.width, raster.top + raster.height))
    shared = np.prod((high - low).clip(min=0))
    return shared / (raster.width * raster.height + np.prod(box[2:] - box[:2]) - shared)


def test_a_crop_that_no_window_can_satisfy_is_left_out():
    tiny = view_with((50, 20, 51, 21))
    for seed in range(20):
        assert Crop(1.0, (0.9,)).draw(np.random.default_rng(seed), [tiny]) is None


def test_crops_have_the_configured_sizes():
    crop, view = Crop(1.0, (0.0,), scale=(0.5, 0.8), aspect=(0.5, 2.0)), make_view((2000, 1000), (0, 0, 0), [])
    sizes = []
    for seed in range(200):
        raster = crop.apply(view, crop.draw(np.random.default_rng(seed), [view])).raster
        sizes.append((raster.width / 2000, raster.height / 1000))
    scale, aspect = np.sqrt(np.prod(sizes, axis=1)), np.divide(*np.transpose(sizes))
    assert 0.49 < scale.min() < 0.55
    assert 0.75 < scale.max() < 0.81
    assert 0.48 < aspect.min() < 0.6
    assert 1.7 < aspect.max() < 2.05


@pytest.mark.parametrize("transform", [Roll(0.0), Expand(0.0), Crop(0.0)])
def test_probability_zero_changes_nothing(transform):
    view = view_with((10, 5, 20, 9))
    for seed in range(10):
        assert transform.apply(view, transform.draw(np.random.default_rng(seed), [view])).raster == view.raster


def test_expansions_reach_the_configured_ratio_and_not_more():
    view, expand = make_view((2000, 1000), (0, 0, 0), []), Expand(1.0, 3.0)
    ratios = [
        expand.apply(view, expand.draw(np.random.default_rng(seed), [view])).raster.width / 2000 for seed in range(99)
    ]
    assert 1.0 <= min(ratios) < 1.1
    assert 2.9 < max(ratios) <= 3.0


def test_only_a_whole_panorama_can_be_rolled():
    with pytest.raises(ValueError, match="only a whole panorama can be rolled"):
        view_with((10, 5, 20, 9)).window(0, 0, 50, 48).roll(4)
