import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from crossview.geometry.boxes import wrap_difference
from crossview.geometry.camera import (
    Camera,
    bearing,
    column,
    cropped,
    cut_gradient,
    ground_distance,
    ground_point,
    horizontal_offset,
    mirrored,
    panorama_camera,
    period,
    project_point,
    resized,
    rolled,
    row,
    seam,
    tilt,
    wrap_angle,
)

WIDTH, HEIGHT = 600, 300
quick = settings(max_examples=100)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def camera(position=(0.0, 0.0), yaw=0.0, height=3.0, dtype=torch.float64):
    fields = panorama_camera(double(*position), scalar(height), scalar(yaw), WIDTH, HEIGHT)
    return Camera(*(field.to(dtype) for field in fields))


def random_cameras(*shape, seed=0):
    """Cameras (*shape) of pieces of panoramas, all their fields different."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *size):
        return low + (high - low) * torch.rand(*shape, *size, generator=generator, dtype=torch.float64)

    return Camera(
        uniform(-10, 10, 2),
        uniform(2, 4),
        uniform(-3, 3),
        torch.stack((1 / uniform(400, 800), 1 / uniform(200, 400)), dim=-1),
        uniform(-0.1, 0.1, 2),
    )


# --- known values -----------------------------------------------------------------------------------------------------


def test_worked_number():
    view = camera(yaw=0.9073966781)
    xy = double(238.205, 166.88)
    assert math.degrees(bearing(view, xy[0])) == pytest.approx(14.9, abs=0.05)
    assert math.degrees(tilt(view, xy[1])) == pytest.approx(-10.13, abs=0.005)
    distance, valid = ground_distance(view, xy[1])
    assert valid
    assert distance.item() == pytest.approx(16.8, abs=0.05)
    # 16.79 m x (sin, cos) of 14.91 degrees
    assert_close(ground_point(view, xy)[0], double(4.32, 16.23), atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("yaw", "x", "expected"),  # degrees, pixels, degrees
    [
        (0, 300, 0),  # the centre column looks along the yaw: north
        (0, 450, 90),  # a quarter to the right: east, clockwise
        (0, 150, -90),  # west
        (0, 0, -180),  # both edges: south
        (0, 600, 180),
        (90, 300, 90),  # looking east
        (90, 150, 0),  # its left is north
        (90, 450, 180),  # its right is south
        (0, 300.5, 0.3),  # the centre of pixel 300: continuous coordinates
    ],
)
def test_bearing_and_column(yaw, x, expected):
    view = camera(yaw=math.radians(yaw))
    assert math.degrees(bearing(view, scalar(x))) == pytest.approx(expected, abs=1e-9)
    for turn in (-1, 0, 1):
        found = column(view, scalar(math.radians(expected + 360 * turn)))
        assert wrap_difference(found - x, 600).item() == pytest.approx(0, abs=1e-9)
        assert 0 <= found <= 600


@pytest.mark.parametrize(("y", "expected"), [(0, 90), (75, 45), (150, 0), (225, -45), (300, -90), (150.5, -0.3)])
def test_tilt_and_row(y, expected):
    assert math.degrees(tilt(camera(), scalar(y))) == pytest.approx(expected, abs=1e-9)
    assert row(camera(), scalar(math.radians(expected))).item() == pytest.approx(y, abs=1e-9)


@pytest.mark.parametrize(
    ("xy", "expected"),
    [
        ((300, 225), (10, 23)),  # 45 degrees down, camera 3 m up: 3 m north
        ((450, 225), (13, 20)),  # east
        ((150, 225), (7, 20)),  # west
        ((0, 225), (10, 17)),  # south, at the left edge
        ((600, 225), (10, 17)),  # and at the right one
        ((450, 200), (10 + 3 * math.sqrt(3), 20)),  # 30 degrees down
        ((450, 300), (10, 20)),  # the nadir
    ],
)
def test_ground_point(xy, expected):
    point, valid = ground_point(camera(position=(10.0, 20.0)), double(*xy))
    assert valid
    assert_close(point, double(*expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (-10.0, False),  # over the zenith
        (0.0, False),  # the sky
        (149.0, False),
        (150.0, False),  # the horizon
        (150.00001, False),  # nearer to it than flat ground means anything
        (150.01, True),
        (225.0, True),
        (300.0, True),  # the nadir
        (301.0, False),  # past it
        (float("inf"), False),
        (float("nan"), False),
    ],
)
def test_ground_exists_between_horizon_and_nadir(y, expected, dtype):
    view = camera(dtype=dtype)
    distance, valid = ground_distance(view, torch.tensor(y, dtype=dtype))
    assert valid.item() is expected
    assert distance.isfinite()
    assert distance >= 0
    point, valid = ground_point(view, torch.tensor([17.0, y], dtype=dtype))
    assert valid.item() is expected
    assert point.isfinite().all()


@pytest.mark.parametrize(
    ("point", "up", "expected"),
    [
        ((10, 23), 0.0, (300, 225)),  # 3 m north on the ground: 45 degrees down
        ((10, 23), 3.0, (300, 150)),  # at the camera's height: the horizon
        ((10, 23), 6.0, (300, 75)),  # 45 degrees up
        ((13, 20), 0.0, (450, 225)),  # east
        ((7, 20), 0.0, (150, 225)),  # west
        ((10 + 1e-9, 17), 0.0, (600, 225)),  # just east of south: the right edge
        ((10 - 1e-9, 17), 0.0, (0, 225)),  # just west of south: the left edge
    ],
)
def test_project_point(point, up, expected):
    view = camera(position=(10.0, 20.0))
    for height in (up, scalar(up)):
        xy, valid = project_point(view, double(*point), height)
        assert valid
        assert_close(xy, double(*expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("east", "expected"), [(0.0, False), (5e-4, False), (2e-3, True)])
def test_straight_below_there_is_no_bearing(east, expected):
    view = camera(position=(10.0, 20.0))
    xy, valid = project_point(view, double(10.0 + east, 20.0))
    distance, angle, exists = horizontal_offset(view, double(10.0 + east, 20.0))
    assert valid.item() is exists.item() is expected
    assert torch.stack((*xy, distance, angle)).isfinite().all()


@pytest.mark.parametrize("point", [(3e38, 3e38), (1e30, 0.0), (-3e38, 1.0)])
def test_a_distance_whose_square_overflows_does_not_exist(point):
    values = horizontal_offset(camera(dtype=torch.float32), torch.tensor(point))
    assert torch.stack(values[:2]).isfinite().all()
    assert not values[2]


@pytest.mark.parametrize(
    ("angle", "expected"), [(0, 0), (190, -170), (-190, 170), (360, 0), (725, 5), (180, -180), (-180, -180)]
)
def test_wrap_angle(angle, expected):
    assert math.degrees(wrap_angle(scalar(math.radians(angle)))) == pytest.approx(expected, abs=1e-9)


def test_period():
    view = camera()
    assert period(view).item() == pytest.approx(600)
    assert period(resized(view, 0.5, 2.0)).item() == pytest.approx(300)
    assert period(cropped(view, 100, 20)).item() == pytest.approx(600)  # a piece of the panorama still turns in 600
    assert period(random_cameras(2, 3)).shape == (2, 3)


# --- round trips ------------------------------------------------------------------------------------------------------


@quick
@given(st.floats(0.0, 599.999), st.floats(0, 300), st.floats(-7, 7))
def test_pixel_to_angles_and_back(x, y, yaw):
    view = camera(yaw=yaw)
    back = column(view, bearing(view, scalar(x)))
    assert wrap_difference(back - x, 600).item() == pytest.approx(0, abs=1e-9)
    assert row(view, tilt(view, scalar(y))).item() == pytest.approx(y, abs=1e-9)


def test_ground_to_pixel_and_back():
    views = random_cameras(200)
    points = views.position + 30 * torch.randn(200, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    xy, visible = project_point(views, points)
    back, valid = ground_point(views, xy)
    assert (visible & valid).all()
    assert_close(back, points)


# --- the camera follows the image ------------------------------------------------------------------------------------

# An operation changes the image: (camera, image width) -> (camera, image width), the pixel (x, y) and the world (east).
POINT = (4.0, 9.0)  # east, north; 1 m above the ground


def resize(factor_x, factor_y):
    return lambda view, width, x, y, side: (
        resized(view, factor_x, factor_y),
        width * factor_x,
        x * factor_x,
        y * factor_y,
        side,
    )


def crop(left, top, right=0.0):
    return lambda view, width, x, y, side: (cropped(view, left, top), width - left - right, x - left, y - top, side)


def roll(shift):
    return lambda view, width, x, y, side: (rolled(view, shift), width, x + shift, y, side)


def mirror():
    return lambda view, width, x, y, side: (mirrored(view, width), width, width - x, y, -side)


numbers = st.floats(-500, 500)
factors = st.floats(0.2, 4.0)
resizes, mirrors = st.builds(resize, factors, factors), st.builds(mirror)
crops = st.builds(crop, numbers, numbers, numbers)
# Rolling needs a whole panorama, so it comes before cropping.
chains = st.tuples(
    st.lists(st.one_of(resizes, mirrors, st.builds(roll, numbers)), max_size=4),
    st.lists(st.one_of(resizes, mirrors, crops), max_size=4),
).map(lambda parts: parts[0] + parts[1])


def assert_camera_follows(operations, yaw=0.4):
    """The changed camera sees the (mirrored) world point at the changed pixel of the original projection."""
    view, width, side = camera((1.5, -2.0), yaw), float(WIDTH), 1.0
    (x, y), _ = project_point(view, double(*POINT), 1.0)
    before = bearing(view, x)
    for operation in operations:
        view, width, x, y, side = operation(view, width, x, y, side)
    xy, valid = project_point(view, double(*POINT) * double(side, 1.0), 1.0)
    assert valid
    around = period(view)
    assert wrap_difference(xy[0] - x, around).item() == pytest.approx(0, abs=1e-6)
    assert xy[1].item() == pytest.approx(y.item(), abs=1e-6)
    fraction = view.scale[0] * xy[0] + view.offset[0]
    assert -1e-9 <= fraction.item() <= 1 + 1e-9  # given on the stretch between the seams
    assert wrap_angle(bearing(view, x) - side * before).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "operations",
    [
        [resize(0.5, 2.0)],
        [crop(30, 40)],
        [crop(-30, -40, -20)],  # expanding the canvas
        [roll(137)],
        [roll(-700)],
        [mirror()],
        [mirror(), mirror()],
        [crop(30, 40, 55), mirror()],  # a piece that is not in the middle
        [roll(100), mirror(), resize(0.5, 0.5), crop(-20, -10), resize(2.0, 3.0), mirror()],
    ],
)
@pytest.mark.parametrize("yaw", [0.0, 0.4, 3.0, -2.0])
def test_camera_follows_the_image(operations, yaw):
    assert_camera_follows(operations, yaw)


@quick
@given(chains, st.floats(-4, 4))
def test_camera_follows_any_chain(operations, yaw):
    assert_camera_follows(operations, yaw)


@pytest.mark.parametrize(
    ("operation", "pixel_before", "pixel_after"),
    [
        (lambda view: resized(view, 0.5, 0.25), (100, 80), (50, 20)),
        (lambda view: cropped(view, 30, 40), (100, 80), (70, 40)),
        (lambda view: cropped(view, -30, -40), (100, 80), (130, 120)),
        (lambda view: rolled(view, 20), (100, 80), (120, 80)),
        (lambda view: rolled(view, 520), (100, 80), (620, 80)),  # the same direction as 20
    ],
)
def test_changed_pixels_keep_their_direction(operation, pixel_before, pixel_after):
    view = camera(yaw=0.7)
    after = operation(view)
    difference = bearing(after, scalar(pixel_after[0])) - bearing(view, scalar(pixel_before[0]))
    assert wrap_angle(difference).item() == pytest.approx(0, abs=1e-12)
    assert tilt(after, scalar(pixel_after[1])).item() == pytest.approx(tilt(view, scalar(pixel_before[1])).item())


def test_mirroring_by_hand():
    # Looking north-east from 10 m east, the north-west is 150 pixels left of the centre.
    # Mirrored: looking north-west from 10 m west, the north-east is 150 pixels right of the centre.
    view = mirrored(camera((10.0, 5.0), math.radians(45)), WIDTH)
    assert_close(view.position, double(-10.0, 5.0))
    assert math.degrees(bearing(view, scalar(300))) == pytest.approx(-45)
    assert math.degrees(bearing(view, scalar(450))) == pytest.approx(45)
    assert (view.scale > 0).all()


def test_operations_leave_their_input_alone():
    view = random_cameras(3)
    before = [field.clone() for field in view]
    for operation in (
        lambda: resized(view, 2, 3),
        lambda: cropped(view, 4, 5),
        lambda: rolled(view, 6),
        lambda: mirrored(view, 7),
    ):
        operation()
    for field, copy in zip(view, before, strict=True):
        assert_close(field, copy, rtol=0, atol=0)


# --- shapes -----------------------------------------------------------------------------------------------------------


def single(view, *index):
    return Camera(*(field[index] for field in view))


def test_batched_equals_single():
    views = random_cameras(2, 3)
    xy = double(100, 260) + 50 * torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    points = 20 * torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    factor = 1 + torch.rand(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    ground, projected = ground_point(views, xy), project_point(views, points, factor)
    changed = mirrored(rolled(cropped(resized(views, factor, 2.0), factor, 1.0), 3.0 * factor), 100.0 * factor)
    for i in range(2):
        for j in range(3):
            one, f = single(views, i, j), factor[i, j]
            for batched, alone in zip(ground, ground_point(one, xy[i, j]), strict=True):
                assert_close(batched[i, j], alone)
            for batched, alone in zip(projected, project_point(one, points[i, j], f), strict=True):
                assert_close(batched[i, j], alone)
            other = mirrored(rolled(cropped(resized(one, f, 2.0), f, 1.0), 3.0 * f), 100.0 * f)
            for batched, field in zip(single(changed, i, j), other, strict=True):
                assert_close(batched, field)


def test_per_object_and_view():
    pairs = random_cameras(4, 2)
    second = pairs.view(1)
    assert [tuple(field.shape) for field in second] == [(4, 2), (4,), (4,), (4, 2), (4, 2)]
    assert_close(second.yaw, pairs.yaw[:, 1])
    xy = double(300, 220) + torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    points, valid = ground_point(second.per_object(), xy)
    assert valid.shape == (4, 5)
    for b in range(4):
        for n in range(5):
            assert_close(points[b, n], ground_point(single(pairs, b, 1), xy[b, n])[0])
    assert ground_point(second.per_object(), xy[:, :0])[0].shape == (4, 0, 2)


def test_precision_of_the_camera_is_kept():
    view = camera(dtype=torch.float32)
    for changed in (resized(view, 0.5, 0.3), cropped(view, 3, 4), rolled(view, 5), mirrored(view, WIDTH)):
        assert {field.dtype for field in changed} == {torch.float32}
    assert project_point(view, torch.tensor([3.0, 4.0]))[0].dtype == torch.float32


def test_precisions_agree(tolerance):
    views = random_cameras(100, seed=7)
    singles = Camera(*(field.float() for field in views))
    generator = torch.Generator().manual_seed(8)
    points = views.position + 20 * torch.randn(100, 2, generator=generator, dtype=torch.float64)
    xy, _ = project_point(views, points)
    allowed = tolerance[torch.float32]
    xy_single, valid = project_point(singles, points.float())
    across = wrap_difference(xy_single[:, 0].double() - xy[:, 0], period(views))
    assert_close(across, torch.zeros_like(across), **allowed)
    assert_close(xy_single[:, 1], xy[:, 1].float(), **allowed)
    ground, also_valid = ground_point(singles, xy.float())
    near = (points - views.position).norm(dim=-1) < 20  # at larger distances a rounded row is already centimetres
    assert (valid & also_valid).all()
    assert_close(ground[near], points.float()[near], **allowed)


# --- gradients and extremes -------------------------------------------------------------------------------------------


def flat(function):
    """The function with the camera's fields as its first five arguments, without its masks."""

    def of_fields(*arguments):
        found = function(Camera(*arguments[:5]), *arguments[5:])
        found = (found,) if isinstance(found, torch.Tensor) else tuple(found)
        return tuple(value for value in found if value.is_floating_point())

    return of_fields


XY = double(120, 180, 480, 200).reshape(2, 2)  # both show ground
POINTS = double(5, -20, -13, 2).reshape(2, 2)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (period, ()),
        (bearing, (XY[:, 0],)),
        (tilt, (XY[:, 1],)),
        (column, (double(0.5, -2),)),
        (row, (double(0.5, -1),)),
        (ground_distance, (XY[:, 1],)),
        (ground_point, (XY,)),
        (horizontal_offset, (POINTS,)),
        (project_point, (POINTS, double(0.0, 5.0))),
        (resized, (double(0.5, 2), double(3, 0.7))),
        (cropped, (double(30, -20), double(10, 40))),
        (rolled, (double(30, -20),)),
        (mirrored, (double(600, 500),)),
    ],
)
def test_gradients(function, inputs):
    leaves = [value.clone().requires_grad_() for value in (*random_cameras(2), *inputs)]
    torch.autograd.gradcheck(flat(function), tuple(leaves))


def test_gradient_of_wrap_angle():
    torch.autograd.gradcheck(wrap_angle, (double(0.5, 4, -9).requires_grad_(),))


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (ground_distance, (140.0, 150.0, 320.0)),
        (ground_point, ((100.0, 140.0), (100.0, 150.0), (100.0, 320.0))),
        (horizontal_offset, ((0.0, 0.0), (1e-4, 0.0), (0.0, -1e-4))),
        (project_point, ((0.0, 0.0), (1e-4, 0.0), (0.0, -1e-4))),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_from_what_is_not_valid(function, value, dtype):
    view = Camera(*(field.clone().requires_grad_() for field in camera(dtype=dtype)))
    inputs = torch.tensor(value, dtype=dtype, requires_grad=True)
    *values, valid = function(Camera(*(f.expand(3, *f.shape) for f in view)), inputs)
    assert not valid.any()
    total = torch.stack([value.sum() for value in values]).sum()
    if not total.requires_grad:
        return
    gradients = torch.autograd.grad(total, (*view, inputs), allow_unused=True)
    for gradient in gradients:
        assert gradient is None or (gradient == 0).all()


def test_invalid_neighbours_leave_gradients_alone():
    rows = double(225.0, 100.0, 150.0).requires_grad_()
    distance, _ = ground_distance(camera(), rows)
    (gradient,) = torch.autograd.grad(distance.sum(), rows)
    alone = rows.detach()[0].requires_grad_()
    (expected,) = torch.autograd.grad(ground_distance(camera(), alone)[0], alone)
    assert_close(gradient, torch.stack((expected, scalar(0.0), scalar(0.0))))


def test_cut_gradient():
    value = double(1, 2, 3).requires_grad_()
    kept = cut_gradient(value, torch.tensor([True, False, True]))
    assert_close(kept, value)
    (gradient,) = torch.autograd.grad(kept.sum(), value)
    assert_close(gradient, double(1, 0, 1))


anything = st.floats(allow_nan=False, allow_infinity=False, width=32)


@quick
@given(anything, anything, anything, st.sampled_from([torch.float32, torch.float64]))
def test_finite_input_gives_finite_output_and_gradients(first, second, up, dtype):
    view = camera((1.0, 2.0), 0.3, dtype=dtype)
    pair = torch.tensor([first, second], dtype=dtype, requires_grad=True)
    above = torch.tensor(up, dtype=dtype, requires_grad=True)
    ground, _ = ground_point(view, pair)
    xy, _ = project_point(view, pair, above)
    assert ground.isfinite().all()
    assert xy.isfinite().all()
    total = ground.sum() + xy.sum()
    if total.requires_grad:
        for gradient in torch.autograd.grad(total, (pair, above), allow_unused=True):
            assert gradient is None or not gradient.isnan().any()


def test_only_a_whole_panorama_begins_anew_at_its_edge():
    periods = double(
        WIDTH, WIDTH * (1 + 1e-7), WIDTH / 2, 2 * WIDTH, math.inf
    )  # whole, rounded, on a canvas, cropped, no panorama
    assert seam(periods, WIDTH).tolist() == [periods[0], periods[1], math.inf, math.inf, math.inf]
