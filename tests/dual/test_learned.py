"""The head that places without geometry: where it starts, what it can say, and what it does not look at."""

import math

import pytest
import torch
from torch import Tensor

from crossview.dual.learned import GROWTH_LIMIT, LIFT_LIMIT, Change, LearnedHead, changed_boxes, turn_of
from crossview.geometry.boxes import to_centers, wrap_difference
from crossview.geometry.camera import TAU, Camera, bearing, horizontal_offset, wrap_angle
from crossview.geometry.projection import PLACEHOLDER, project_boxes
from tests.dual.scenes import SIZE, VARIANCES, cameras, random_cameras, train_head
from tests.dual.test_head import random_boxes, scores, turned

H, W = SIZE


def poses(seed: int, pairs: int) -> tuple[Camera, Camera]:
    camera = random_cameras(seed, pairs, dtype=torch.float64)
    return camera.view(0), camera.view(1)


def trained_head(dtype: torch.dtype = torch.float64) -> LearnedHead:
    torch.manual_seed(1)
    head = LearnedHead(SIZE, VARIANCES, hidden=16)
    train_head(head)
    return head.to(dtype)


def change(turn: float = 0.0, lift: float = 0.0, growth: tuple[float, float] = (0.0, 0.0)) -> Change:
    return Change(*(torch.tensor(value, dtype=torch.float64) for value in (turn, lift, growth)))


# The start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_untrained_head_sees_every_box_infinitely_far_away(dtype):
    camera, boxes = random_cameras(0, 3, dtype=dtype), random_boxes(0, 3, dtype=dtype)
    placement = LearnedHead(SIZE, VARIANCES).to(dtype)(camera.view(0), camera.view(1), boxes, scores(boxes))
    source, target = camera.view(0).per_object(), camera.view(1).per_object()
    zero = torch.zeros_like(boxes)
    far = changed_boxes(source, target, boxes, Change(zero[..., 0], zero[..., 0], zero[..., :2]))
    assert torch.equal(placement.boxes, far)
    # The same direction and the same angular size.
    before, after = to_centers(boxes), to_centers(placement.boxes)
    around = wrap_angle(bearing(target, after[..., 0]) - bearing(source, before[..., 0]))
    torch.testing.assert_close(around, torch.zeros_like(around), rtol=0, atol=1e-5)
    torch.testing.assert_close(after[..., 1:], before[..., 1:], rtol=1e-4, atol=1e-4)
    assert bool(((after[..., 0] >= 0) & (after[..., 0] <= W)).all())
    assert bool(placement.valid.all())
    assert not placement.covisibility.any()


def test_geometry_is_told_beside_it():
    (first, second), boxes = poses(0, 3), random_boxes(0, 3, dtype=torch.float64)
    placement = trained_head()(first, second, boxes, scores(boxes))
    geometry, valid = project_boxes(first.per_object(), second.per_object(), boxes)
    assert torch.equal(placement.geometry_boxes, geometry)
    assert torch.equal(placement.geometry_valid, valid)
    assert 0 < int(valid.sum()) < valid.numel()
    assert placement.boxes.shape == boxes.shape
    assert placement.valid.shape == placement.covisibility.shape == boxes.shape[:-1]


# Changes


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (change(), (75.0, 37.5, 30.0, 15.0)),
        (change(turn=TAU / 15), (85.0, 37.5, 30.0, 15.0)),  # clockwise: to the right
        (change(turn=-TAU / 15), (65.0, 37.5, 30.0, 15.0)),
        (change(turn=TAU * 0.6), (15.0, 37.5, 30.0, 15.0)),  # across the seam
        (change(lift=math.pi / 15), (75.0, 32.5, 30.0, 15.0)),  # up
        (change(growth=(math.log(2), -math.log(3))), (75.0, 37.5, 60.0, 5.0)),
    ],
)
def test_changes_by_hand(said, expected):
    # Two views with the same heading; a box in the middle of the first.
    camera = cameras([[(0.0, 0.0, 0.0), (3.0, 4.0, 0.0)]], dtype=torch.float64)
    box = torch.tensor([[[60.0, 30.0, 90.0, 45.0]]], dtype=torch.float64)
    found = to_centers(changed_boxes(camera.view(0).per_object(), camera.view(1).per_object(), box, said))
    torch.testing.assert_close(found, torch.tensor([[expected]], dtype=torch.float64))


def test_the_headings_of_both_views_and_their_pixels_count():
    camera = cameras([[(0.0, 0.0, 0.0), (3.0, 4.0, math.pi / 2)]], dtype=torch.float64)
    target = camera.view(1)
    target = target._replace(scale=target.scale / 2)  # twice the pixels
    box = torch.tensor([[[60.0, 30.0, 90.0, 45.0]]], dtype=torch.float64)
    found = to_centers(changed_boxes(camera.view(0).per_object(), target.per_object(), box, change()))
    # Straight north, which is a quarter left of the middle for who looks east.
    torch.testing.assert_close(found, torch.tensor([[[75.0, 75.0, 60.0, 30.0]]], dtype=torch.float64))


def test_the_right_vector_turns_to_the_object():
    generator = torch.Generator().manual_seed(0)
    first, second = poses(3, 50)
    foot = 30 * torch.rand(50, 2, generator=generator, dtype=torch.float64) - 15
    distance, seen, _ = horizontal_offset(first, foot)
    _, wanted, _ = horizontal_offset(second, foot)
    baseline, toward, _ = horizontal_offset(first, second.position)
    share, angle = baseline / distance, seen - toward
    found = seen + turn_of(torch.stack((1 - share * torch.cos(angle), share * torch.sin(angle)), dim=-1))
    torch.testing.assert_close(wrap_angle(found - wanted), torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(wrap_angle(seen - wanted).abs().max()) > 2  # some stand between the cameras


def test_a_vector_without_length_turns_nowhere():
    vectors = torch.tensor([[0.0, 0.0], [1e-3, -1e-3], [0.0, 1.0], [-1.0, 1e-9]], requires_grad=True)
    turn = turn_of(vectors)
    assert turn.tolist() == pytest.approx([0.0, 0.0, math.pi / 2, math.pi], abs=1e-6)
    turn.sum().backward()
    assert vectors.grad is not None
    assert not vectors.grad[:2].any()
    assert bool(vectors.grad.isfinite().all())
    assert bool(vectors.grad[2:].any(dim=-1).all())


def test_no_output_throws_a_box_out_of_the_world():
    (first, second), boxes = poses(1, 2), random_boxes(1, 2, dtype=torch.float64)
    head = LearnedHead(SIZE, VARIANCES, hidden=4).double()
    start = to_centers(head(first, second, boxes, scores(boxes)).boxes)
    head.output.bias.data = torch.tensor([1e6, -1e6, 1e6, -1e6, 1e6, 0.0]).double()
    end = to_centers(head(first, second, boxes, scores(boxes)).boxes)
    torch.testing.assert_close(end[..., 1], start[..., 1] - H * LIFT_LIMIT / math.pi)
    across = wrap_difference(end[..., 0] - start[..., 0], W)
    torch.testing.assert_close(across, torch.full_like(across, -W / 8), rtol=0, atol=1e-4)
    factor = torch.tensor([-GROWTH_LIMIT, GROWTH_LIMIT], dtype=torch.float64).exp().expand_as(end[..., 2:])
    torch.testing.assert_close(end[..., 2:] / start[..., 2:], factor)


# What it looks at


def test_the_ground_is_not_looked_at():
    (first, second), boxes = poses(2, 3), random_boxes(2, 3, dtype=torch.float64)
    head = trained_head()
    before = head(first, second, boxes, scores(boxes))
    raised = [camera._replace(height=2 * camera.height) for camera in (first, second)]
    after = head(*raised, boxes, scores(boxes))
    assert not torch.equal(after.geometry_boxes, before.geometry_boxes)
    for name in ("boxes", "valid", "covisibility"):
        assert torch.equal(getattr(after, name), getattr(before, name))


def test_box_pose_and_score_are_looked_at():
    (first, second), boxes = poses(2, 3), random_boxes(2, 3, dtype=torch.float64)
    head = trained_head()
    before = head(first, second, boxes, scores(boxes)).covisibility
    further = second._replace(position=first.position + 2 * (second.position - first.position))
    for said in (
        head(first, further, boxes, scores(boxes)),
        head(first, second, boxes + 1, scores(boxes)),
        head(first, second, boxes, 1 - scores(boxes)),
    ):
        assert bool((said.covisibility != before).all(dim=-1).any())


@pytest.mark.parametrize("angle", [0.3, -2.9])
def test_turning_the_world_changes_nothing(angle):
    (first, second), boxes = poses(3, 4), random_boxes(3, 4, dtype=torch.float64)
    head = trained_head()
    before = head(first, second, boxes, scores(boxes))
    after = head(turned(first, angle), turned(second, angle), boxes, scores(boxes))
    torch.testing.assert_close(after.boxes, before.boxes, rtol=0, atol=1e-8)
    torch.testing.assert_close(after.covisibility, before.covisibility, rtol=0, atol=1e-8)


# Gradients and edges


def test_gradients_are_those_of_the_values():
    (first, second), boxes = poses(4, 1), random_boxes(4, 1, dtype=torch.float64)[:, :6].requires_grad_()
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(1, 6, 5, generator=generator, dtype=torch.float64).requires_grad_()

    def placed(boxes: Tensor, draw: Tensor) -> Tensor:
        said = Change(turn_of(draw[..., :2] + 0.1), draw[..., 2], draw[..., 3:])
        return changed_boxes(first.per_object(), second.per_object(), boxes, said)

    assert torch.autograd.gradcheck(placed, (boxes, draw))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_box_of_positive_size_has_a_place_and_no_gradient_comes_from_the_others(dtype):
    camera = cameras([[(0.0, 0.0, 0.3), (4.0, 9.0, 1.0)], [(0.0, 0.0, 0.3), (0.0, 0.0, -2.0)]], dtype=dtype)
    good = [(60.0, 20.0, 70.0, 50.0), (60.0, 5.0, 70.0, 20.0), (140.0, 10.0, 160.0, 60.0)]  # the second in the sky
    bad = [(70.0, 20.0, 60.0, 50.0), (60.0, 20.0, 70.0, 20.0), (60.0, 20.0, math.inf, 50.0)]
    boxes = torch.tensor([good + bad] * 2, dtype=dtype, requires_grad=True)
    head = trained_head(dtype)
    placement = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    assert placement.valid.tolist() == [[True] * 3 + [False] * 3] * 2
    assert all(bool(field.isfinite().all()) for field in placement)
    lost = placement.boxes[~placement.valid]
    assert torch.equal(lost, torch.tensor(PLACEHOLDER, dtype=dtype).expand_as(lost))
    (placement.boxes[:, :3].sum() + placement.covisibility.sum()).backward()
    assert boxes.grad is not None
    assert bool(boxes.grad.isfinite().all())
    assert bool((boxes.grad[:, :3] != 0).any(dim=-1).all())
    assert not boxes.grad[:, 3:].any()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
        assert bool(parameter.grad.any())
