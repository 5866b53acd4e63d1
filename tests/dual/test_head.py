import math

import pytest
import torch
from torch import Tensor

from crossview.dual.head import CORRECTION_LIMIT, GeometryHead, ProjectionHead, ResidualHead, sight
from crossview.geometry.boxes import encode, to_centers, wrap_difference
from crossview.geometry.camera import Camera, mirrored
from crossview.geometry.projection import PLACEHOLDER, project_boxes
from tests.dual.scenes import SIZE, VARIANCES, cameras, random_cameras, train_head

H, W = SIZE


def random_boxes(seed: int, pairs: int, count: int = 200, dtype: torch.dtype = torch.float32) -> Tensor:
    """Boxes (B, N, 4), most of them with their foot below the horizon, some across the seam."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(pairs, count, 4, generator=generator, dtype=torch.float64)
    x, bottom = W * draw[..., 0], H * (0.45 + 0.5 * draw[..., 1])
    width, height = 1 + 20 * draw[..., 2], 2 + 40 * draw[..., 3]
    return torch.stack((x - width / 2, bottom - height, x + width / 2, bottom), dim=-1).to(dtype)


def scores(boxes: Tensor) -> Tensor:
    return torch.linspace(0.01, 0.99, boxes.shape[1], dtype=boxes.dtype).expand(boxes.shape[:2])


def trained_head(dtype: torch.dtype = torch.float64, kind: type[ProjectionHead] = ResidualHead) -> ProjectionHead:
    torch.manual_seed(1)
    head = kind(SIZE, VARIANCES, hidden=16)
    train_head(head)
    return head.to(dtype)


# The start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_an_untrained_head_is_pure_geometry_to_the_last_bit(seed, dtype):
    torch.manual_seed(seed)
    head = ResidualHead(SIZE, VARIANCES).to(dtype)
    camera = random_cameras(seed, 3, dtype=dtype)
    boxes = random_boxes(seed, 3, dtype=dtype)
    placement = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    geometry, valid = project_boxes(camera.view(0).per_object(), camera.view(1).per_object(), boxes)
    assert torch.equal(placement.boxes, placement.geometry_boxes)
    assert torch.equal(placement.geometry_boxes, geometry)
    assert torch.equal(placement.valid, valid)
    assert 300 < int(valid.sum()) < 600
    assert placement.covisibility.shape == (3, 200)
    assert not placement.covisibility.any()


def test_cameras_at_one_place_have_no_distance_and_no_direction_of_their_own():
    for yaw in (0.0, 0.5):
        camera = cameras([[(3.0, 4.0, yaw), (3.0, 4.0, 1.0)]], dtype=torch.float64)
        seen = sight(camera.view(0), camera.view(1), random_boxes(0, 1, dtype=torch.float64))
        assert seen.baseline.tolist() == [[0.0]]
        assert seen.toward.tolist() == [[yaw]]
        placement = trained_head()(camera.view(0), camera.view(1), seen.boxes, scores(seen.boxes))
        assert bool(placement.boxes.isfinite().all())


def test_a_box_that_is_no_box_says_nothing_of_its_presence():
    camera, boxes = random_cameras(0, 1, dtype=torch.float64), random_boxes(0, 1, dtype=torch.float64)
    boxes[0, 0] = torch.inf
    placement = trained_head()(camera.view(0), camera.view(1), boxes, scores(boxes))
    assert not bool(placement.valid[0, 0])
    assert bool(placement.covisibility.isfinite().all())


def test_the_geometry_head_learns_co_visibility_and_leaves_the_boxes():
    camera, boxes = random_cameras(0, 2, dtype=torch.float64), random_boxes(0, 2, dtype=torch.float64)
    placement = trained_head(kind=GeometryHead)(camera.view(0), camera.view(1), boxes, scores(boxes))
    assert torch.equal(placement.boxes, placement.geometry_boxes)
    assert placement.covisibility.std().item() > 0.01


def test_a_correction_is_read_in_ssd_offsets_of_the_placed_box():
    head = ResidualHead(SIZE, VARIANCES, hidden=4)
    wanted = torch.tensor([1.0, -0.5, 0.7, -1.2])
    head.output.bias.data = torch.cat((CORRECTION_LIMIT * torch.atanh(wanted / CORRECTION_LIMIT), torch.tensor([3.0])))
    camera, boxes = random_cameras(1, 2), random_boxes(1, 2)
    placement = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    offsets = encode(to_centers(placement.boxes), to_centers(placement.geometry_boxes), VARIANCES)
    large = (placement.geometry_boxes[..., 2:] - placement.geometry_boxes[..., :2]).amin(dim=-1) > 1
    assert int((placement.valid & large).sum()) > 100
    torch.testing.assert_close(
        offsets[placement.valid & large], wanted.expand(int((placement.valid & large).sum()), 4), atol=1e-3, rtol=1e-3
    )
    assert placement.covisibility.unique().tolist() == [3.0]


def test_no_correction_throws_a_box_away():
    head = ResidualHead(SIZE, VARIANCES, hidden=4).double()
    head.output.bias.data = torch.tensor([1e6, -1e6, 1e6, -1e6, 0.0]).double()
    camera, boxes = random_cameras(1, 2, dtype=torch.float64), random_boxes(1, 2, dtype=torch.float64)
    placement = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    before, after = to_centers(placement.geometry_boxes), to_centers(placement.boxes)
    # Half of the box's size of shift, a factor e of size.
    torch.testing.assert_close(after[..., :2] - before[..., :2], before[..., 2:] * torch.tensor([0.5, -0.5]).double())
    factor = torch.tensor([math.e, 1 / math.e], dtype=torch.float64).expand_as(after[..., 2:])
    torch.testing.assert_close(after[..., 2:] / before[..., 2:], factor)


# What the head sees


def features_of(camera_from: Camera, camera_to: Camera, boxes: Tensor, score: Tensor) -> Tensor:
    head = ResidualHead(SIZE, VARIANCES, hidden=4).to(boxes.dtype)
    seen: list[Tensor] = []
    head.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(camera_from, camera_to, boxes, score)
    return seen[0]


def test_features_by_hand():
    # Two cameras 10 m apart on a line to the north, the second looks east. An object 4 m north and 3 m east of the
    # first: 5 m from it, 36.87 degrees right of the line; sqrt(45) m from the second, behind it.
    camera = cameras([[(0.0, 0.0, 0.0), (0.0, 10.0, math.pi / 2)]], dtype=torch.float64)
    bearing, distance = math.atan2(3, 4), math.hypot(3, 6)
    width_angle, foot, top = 0.2, -math.atan2(3, 5), math.atan2(1, 5)  # 4 m tall
    x = W * (bearing + math.pi) / (2 * math.pi)
    half = W * width_angle / 2 / (2 * math.pi)
    box = [x - half, H * (0.5 - top / math.pi), x + half, H * (0.5 - foot / math.pi)]
    boxes = torch.tensor([[box]], dtype=torch.float64)
    found = features_of(camera.view(0), camera.view(1), boxes, torch.full((1, 1), 0.25, dtype=torch.float64))
    width = 2 * 5 * math.tan(width_angle / 2)
    bearing_2 = math.atan2(3, -6)
    foot_2, top_2 = -math.atan2(3, distance), math.atan2(1, distance)
    center_x = (bearing_2 - math.pi / 2 + math.pi) / (2 * math.pi)
    expected = [
        *(math.sin(bearing), math.cos(bearing), top, foot, width_angle),
        *(math.sin(bearing_2), math.cos(bearing_2), top_2, foot_2, 2 * math.atan2(width / 2, distance)),
        *(math.log(value / 10) for value in (5, distance, width, 4, 10)),
        2 * center_x - 1,
        -(top_2 + foot_2) / math.pi,  # the middle of the box, in half images from the horizon
        math.log(4 * (top_2 - foot_2) / math.pi),
        0.25,
        1.0,
    ]
    assert len(expected) == ResidualHead.features
    torch.testing.assert_close(found, torch.tensor([[expected]], dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_features_of_boxes_without_a_place_are_zero_and_all_are_finite_and_small():
    for dtype in (torch.float32, torch.float64):
        camera = random_cameras(2, 4, dtype=dtype)
        boxes = 3 * random_boxes(2, 4, dtype=dtype) - 50  # far out of the image as well
        found = features_of(camera.view(0), camera.view(1), boxes, scores(boxes))
        _, valid = project_boxes(camera.view(0).per_object(), camera.view(1).per_object(), boxes)
        assert bool(valid.any())
        assert not bool(valid.all())
        assert not found[~valid].any()
        assert torch.equal(found[..., -1].bool(), valid)
        assert float(found.abs().max()) < 15


# Symmetries


def turned(camera: Camera, angle: float) -> Camera:
    """The camera in the world turned clockwise about the frame's origin."""
    c, s = math.cos(angle), math.sin(angle)
    turn = camera.position.new_tensor([[c, s], [-s, c]])
    return camera._replace(position=camera.position @ turn.T, yaw=camera.yaw + angle)


@pytest.mark.parametrize("angle", [0.3, 2.0, -2.9])
def test_turning_the_world_changes_nothing(angle):
    camera, boxes = random_cameras(3, 4, dtype=torch.float64), random_boxes(3, 4, dtype=torch.float64)
    head, world = trained_head(), turned(camera, angle)
    before = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    after = head(world.view(0), world.view(1), boxes, scores(boxes))
    assert not torch.equal(before.boxes, before.geometry_boxes)
    torch.testing.assert_close(after.boxes, before.boxes, rtol=0, atol=1e-8)
    torch.testing.assert_close(after.covisibility, before.covisibility, rtol=0, atol=1e-8)
    assert torch.equal(after.valid, before.valid)


def test_moving_the_world_changes_nothing():
    camera, boxes = random_cameras(3, 4, dtype=torch.float64), random_boxes(3, 4, dtype=torch.float64)
    head, world = trained_head(), camera._replace(position=camera.position + camera.position.new_tensor([30.0, -70.0]))
    before = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    after = head(world.view(0), world.view(1), boxes, scores(boxes))
    torch.testing.assert_close(after.boxes, before.boxes, rtol=0, atol=1e-8)
    torch.testing.assert_close(after.covisibility, before.covisibility, rtol=0, atol=1e-8)


def test_a_mirrored_world_mirrors_the_placed_boxes():
    camera, boxes = random_cameras(4, 4, dtype=torch.float64), random_boxes(4, 4, dtype=torch.float64)
    head = ResidualHead(SIZE, VARIANCES).double()
    world = mirrored(camera, W)
    flipped = torch.stack((W - boxes[..., 2], boxes[..., 1], W - boxes[..., 0], boxes[..., 3]), dim=-1)
    before = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    after = head(world.view(0), world.view(1), flipped, scores(boxes))
    assert torch.equal(after.valid, before.valid)
    one, other = to_centers(before.boxes)[before.valid], to_centers(after.boxes)[before.valid]
    across = wrap_difference(W - one[:, 0] - other[:, 0], W)
    torch.testing.assert_close(across, torch.zeros_like(across), rtol=0, atol=1e-8)
    torch.testing.assert_close(other[:, 1:], one[:, 1:], rtol=0, atol=1e-8)


def test_geometry_there_and_back_is_the_identity():
    camera, boxes = random_cameras(5, 4, dtype=torch.float64), random_boxes(5, 4, dtype=torch.float64)
    head = ResidualHead(SIZE, VARIANCES).double()
    there = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    back = head(camera.view(1), camera.view(0), there.boxes, scores(boxes))
    valid = there.valid & back.valid
    assert int(valid.sum()) > 400
    one, other = to_centers(boxes)[valid], to_centers(back.boxes)[valid]
    across = wrap_difference(one[:, 0] - other[:, 0], W)
    torch.testing.assert_close(across, torch.zeros_like(across), rtol=0, atol=1e-6)
    torch.testing.assert_close(other[:, 1:], one[:, 1:], rtol=0, atol=1e-6)


def test_every_pair_of_a_batch_has_its_own_pose():
    camera, boxes = random_cameras(6, 3, dtype=torch.float64), random_boxes(6, 3, dtype=torch.float64)
    head = trained_head()
    together = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    for i in range(3):
        one = Camera(*(field[i : i + 1] for field in camera))
        alone = head(one.view(0), one.view(1), boxes[i : i + 1], scores(boxes)[i : i + 1])
        for field, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(field[0], whole[i], rtol=0, atol=1e-10)


# Gradients and edges


@pytest.mark.parametrize(
    ("poses", "rows"),
    [
        # feet at the horizon, above it, and straight below the camera; a box past the zenith; one too wide
        (
            [(0.0, 0.0, 0.3), (4.0, 9.0, 1.0)],
            [(60, 20, 70, 37.5), (60, 5, 70, 20), (60, 40, 70, 75), (60, -3, 70, 60), (10, 30, 100, 60)],
        ),
        # both cameras at the same place
        ([(0.0, 0.0, 0.3), (0.0, 0.0, -2.0)], [(60, 20, 70, 50), (0, 10, 30, 60), (140, 10, 160, 60)]),
        # the object straight below the other camera: foot 3 m away at a tilt of -45 degrees, on its bearing
        ([(0.0, 0.0, 0.0), (0.0, 3.0, 0.0)], [(70, 20, 80, 56.25), (70, 20, 80, 56.2501), (60, 20, 80, 56.25)]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_finite_at_the_edges(poses, rows, dtype):
    camera = cameras([poses], dtype=dtype)
    good = (20.0, 20.0, 35.0, 55.0)
    boxes = torch.tensor([[*rows, good]], dtype=dtype, requires_grad=True)
    head = trained_head(dtype)
    placement = head(camera.view(0), camera.view(1), boxes, scores(boxes))
    assert all(bool(field.isfinite().all()) for field in placement)
    assert bool(placement.valid[0, -1])
    (placement.boxes.sum() + placement.covisibility.sum()).backward()
    assert boxes.grad is not None
    assert bool(boxes.grad.isfinite().all())
    assert bool((boxes.grad[0, -1] != 0).any())
    assert not boxes.grad[~placement.valid].any()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
    lost = placement.geometry_boxes[~placement.valid]
    assert torch.equal(lost, torch.tensor(PLACEHOLDER, dtype=dtype).expand_as(lost))


def test_boxes_at_the_horizon_and_below_the_camera_have_no_place():
    camera = cameras([[(0.0, 0.0, 0.3), (4.0, 9.0, 1.0)]])
    boxes = torch.tensor([[(60, 20, 70, 37.5), (60, 5, 70, 20), (60, 40, 70, 75), (60, 20, 70, 38.0)]])
    placement = ResidualHead(SIZE, VARIANCES)(camera.view(0), camera.view(1), boxes, scores(boxes))
    assert placement.valid.tolist() == [[False, False, False, True]]


def test_the_head_moves_no_box_to_please_itself():
    camera, boxes = random_cameras(7, 2), random_boxes(7, 2).requires_grad_()
    score = scores(boxes).clone().requires_grad_()
    placement = trained_head(torch.float32)(camera.view(0), camera.view(1), boxes, score)
    (slope,) = torch.autograd.grad(placement.covisibility.sum(), boxes, retain_graph=True, allow_unused=True)
    assert slope is None or not slope.any()
    slopes = torch.autograd.grad(placement.boxes.sum(), (boxes, score), allow_unused=True)
    assert bool(slopes[0].any())
    assert slopes[1] is None or not slopes[1].any()


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_share_of_the_gradient_reaches_the_boxes_and_no_value_changes(share):
    poses = random_cameras(3, 2, dtype=torch.float64)
    boxes = random_boxes(3, 2, dtype=torch.float64)

    def placed_and_gradient(factor: float) -> tuple[Tensor, Tensor]:
        head = ResidualHead(SIZE, VARIANCES, box_gradient=factor).double()
        leaf = boxes.clone().requires_grad_()
        placement = head(poses.view(0), poses.view(1), leaf, scores(boxes))
        (gradient,) = torch.autograd.grad(placement.boxes.sum(), leaf)
        return placement.boxes.detach(), gradient

    full, full_gradient = placed_and_gradient(1.0)
    part, part_gradient = placed_and_gradient(share)
    assert torch.equal(part, full)
    assert full_gradient.abs().max() > 0
    torch.testing.assert_close(part_gradient, share * full_gradient)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_of_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="box_gradient"):
        ResidualHead(SIZE, VARIANCES, box_gradient=share)
