"""Projection heads of checkpoints that were saved before there were several."""

import pytest
import torch

from crossview.dual.earlier_heads import with_target
from crossview.dual.head import GeometryHead, ResidualHead
from tests.dual.scenes import SIZE, VARIANCES, random_cameras, train_head
from tests.dual.test_head import random_boxes, scores


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"hidden": 8, "learned": True}, {"_target_": "crossview.dual.head.ResidualHead", "hidden": 8}),
        ({"hidden": 8, "learned": False}, {"_target_": "crossview.dual.head.GeometryHead", "hidden": 8}),
        ({"hidden": 8}, {"_target_": "crossview.dual.head.ResidualHead", "hidden": 8}),
        ({"_target_": "x.Y", "hidden": 8}, {"_target_": "x.Y", "hidden": 8}),  # of now
    ],
)
def test_the_class_follows_from_what_was_learned(saved, expected):
    before = dict(saved)
    assert with_target(saved) == expected
    assert saved == before


def test_geometry_takes_co_visibility_from_a_head_with_corrections():
    torch.manual_seed(0)
    whole, part = ResidualHead(SIZE, VARIANCES, hidden=8), GeometryHead(SIZE, VARIANCES, hidden=8)
    train_head(whole)
    state = whole.state_dict()
    part.load_state_dict(state)
    camera, boxes = random_cameras(0, 2), random_boxes(0, 2)
    one, other = (head(camera.view(0), camera.view(1), boxes, scores(boxes)) for head in (whole, part))
    assert bool(one.covisibility.any())
    torch.testing.assert_close(other.covisibility, one.covisibility)
    assert torch.equal(other.boxes, one.geometry_boxes)
    assert state["output.bias"].shape == (5,)  # the state itself is left as it is


def test_a_correction_is_not_made_up():
    with pytest.raises(RuntimeError, match=r"size mismatch for output\.weight"):
        ResidualHead(SIZE, VARIANCES).load_state_dict(GeometryHead(SIZE, VARIANCES).state_dict())
