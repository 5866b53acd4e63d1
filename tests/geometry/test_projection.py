import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from crossview.geometry.boxes import to_centers, wrap_difference
from crossview.geometry.camera import Camera, cropped, mirrored, panorama_camera, period, resized, rolled
from crossview.geometry.frames import to_local
from crossview.geometry.projection import PLACEHOLDER, Standing, locate_boxes, project_boxes, view_boxes

WIDTH, HEIGHT = 600, 300
quick = settings(max_examples=150)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def camera(position=(0.0, 0.0), yaw=0.0, height=3.0, dtype=torch.float64):
    fields = panorama_camera(double(*position), scalar(height), scalar(yaw), WIDTH, HEIGHT)
    return Camera(*(field.to(dtype) for field in fields))


def batch(*cameras):
    return Camera(*(torch.stack(fields) for fields in zip(*cameras, strict=True)))


def assert_same_boxes(found, expected, around=WIDTH, **allowed):
    """Equal up to whole turns of the panorama."""
    turned = wrap_difference(found[..., 0] - expected[..., 0], around)
    assert_close(turned, torch.zeros_like(turned), **allowed)
    assert_close(found[..., 2] - found[..., 0], expected[..., 2] - expected[..., 0], **allowed)
    assert_close(found[..., 1::2], expected[..., 1::2], **allowed)


# --- a real pair of panoramas of Pasadena, with the detections of a trained network on 600x300 pixels -----------------

LATLNG_1, YAW_1 = (34.156992, -118.165118), 0.9073966781118519
LATLNG_2, YAW_2 = (34.156939, -118.165203), 0.9061749476354559
DETECTIONS_1 = [
    # xmin, ymin, xmax, ymax; foot placed in view 2 (x, y); metres from camera 1
    ((193.93, 70.34, 282.49, 166.88), (261.4, 161.3), 16.8),
    ((5.22, 44.23, 131.57, 168.61), (134.0, 178.0), 15.2),
    ((306.27, 89.75, 357.05, 159.22), (324.6, 157.1), 31.0),
    ((455.02, 54.31, 552.03, 165.84), (448.5, 168.4), 17.9),
    ((370.48, 93.3, 413.79, 166.49), (360.4, 161.7), 17.2),
    ((130.17, 87.03, 186.76, 162.76), (196.9, 161.4), 22.3),
    ((250.61, 117.73, 285.26, 162.72), (278.3, 159.0), 22.4),
]
SAME_TREES = [
    # number in view 1, its box in view 2, error in x of the placed foot
    (0, (243.33, 107.17, 295.4, 160.22), -8.0),
    (1, (18.14, 26.39, 188.01, 174.34), 30.9),
    (3, (409.25, 51.1, 521.39, 168.15), -16.8),
    (5, (162.97, 94.47, 224.81, 159.96), 3.0),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_real_pair(dtype):
    east_north = to_local([LATLNG_1, LATLNG_2], LATLNG_1)
    camera_1, camera_2 = (
        camera(position, yaw, dtype=dtype) for position, yaw in zip(east_north, (YAW_1, YAW_2), strict=True)
    )
    boxes = torch.tensor([box for box, _, _ in DETECTIONS_1], dtype=dtype)
    feet = torch.tensor([foot for _, foot, _ in DETECTIONS_1], dtype=dtype)
    distances = torch.tensor([distance for _, _, distance in DETECTIONS_1], dtype=dtype)
    standing, seen = locate_boxes(camera_1, boxes)
    placed, valid = project_boxes(camera_1, camera_2, boxes)
    assert (seen & valid).all()
    assert_close(standing.distance, distances, atol=0.1, rtol=0)
    assert_close(to_centers(placed)[:, 0], feet[:, 0], atol=0.1, rtol=0)
    assert_close(placed[:, 3], feet[:, 1], atol=0.1, rtol=0)
    for number, box, error in SAME_TREES:
        middle = (box[0] + box[2]) / 2
        assert to_centers(placed)[number, 0].item() - middle == pytest.approx(error, abs=0.1)


# --- by hand ----------------------------------------------------------------------------------------------------------

# Seen by a camera 3 m above the origin that looks north: foot 45 degrees down, so 3 m away; top 45 degrees up, so 3 m
# above the camera; 90 degrees wide at 3 m, so 2 x 3 m x tan 45 degrees.
BOX = (225.0, 75.0, 375.0, 225.0)
THIRD = math.degrees(math.atan(1 / 3)) / 0.6  # pixels of the angle 18.43 degrees


def test_locate_by_hand():
    standing, valid = locate_boxes(camera((10.0, 20.0)), double(*BOX))
    assert valid
    assert_close(standing.foot, double(10.0, 23.0))
    assert_close(torch.stack(standing[1:]), double(6.0, 6.0, 3.0))  # width, height, distance


@pytest.mark.parametrize(
    ("position", "yaw", "expected"),
    [
        ((0, 0), 0, BOX),  # the same camera
        ((0, -6), 0, (300 - THIRD, 150 - THIRD, 300 + THIRD, 150 + THIRD)),  # 9 m away: shrinks
        ((9, 3), 0, (150 - THIRD, 150 - THIRD, 150 + THIRD, 150 + THIRD)),  # 9 m east of it, sees it in the west
        ((-9, 3), 0, (450 - THIRD, 150 - THIRD, 450 + THIRD, 150 + THIRD)),  # and from the west
        ((9, 3), -90, (300 - THIRD, 150 - THIRD, 300 + THIRD, 150 + THIRD)),  # looking west: in the middle
        ((0, 12), 0, (-THIRD, 150 - THIRD, THIRD, 150 + THIRD)),  # behind: around the seam
        # 1 m away: grows to twice atan 3 = 71.565 degrees
        (
            (0, 2),
            0,
            (300 - 71.56505118 / 0.6, 150 - 71.56505118 / 0.6, 300 + 71.56505118 / 0.6, 150 + 71.56505118 / 0.6),
        ),
    ],
)
def test_project_by_hand(position, yaw, expected):
    placed, valid = project_boxes(camera(), camera(position, math.radians(yaw)), double(*BOX))
    assert valid
    assert_same_boxes(placed, double(*expected), atol=1e-4, rtol=0)


def test_height_of_the_other_camera():
    # From 1 m above the ground, 9 m away: foot atan 1/9 down, top atan 5/9 up.
    placed, _ = project_boxes(camera(), camera((0, -6), height=1.0), double(*BOX))
    rows = [150 + math.degrees(math.atan(-5 / 9)) / 0.6, 150 + math.degrees(math.atan(1 / 9)) / 0.6]
    assert_close(placed[1::2], double(*rows))


def test_view_by_hand():
    standing = Standing(double(4.0, 9.0), scalar(6.0), scalar(6.0), scalar(17.0))
    boxes, distance, valid = view_boxes(camera((4.0, 0.0)), standing)
    assert valid
    assert distance.item() == pytest.approx(9.0)  # from this camera, whatever the other one measured
    assert_close(boxes, double(300 - THIRD, 150 - THIRD, 300 + THIRD, 150 + THIRD))


def test_boxes_grow_when_the_object_is_nearer():
    views = batch(*(camera((0.0, -step)) for step in (-1.0, 0.0, 1.0, 5.0, 25.0)))
    placed, valid = project_boxes(camera(), views, double(*BOX))
    size = to_centers(placed)[:, 2:]
    assert valid.all()
    assert (size[1:] < size[:-1]).all()


# --- there and back ---------------------------------------------------------------------------------------------------


@quick
@given(
    middle=st.floats(0, 600),
    width=st.floats(1, 200),
    top=st.floats(10, 149),  # above the horizon
    bottom=st.floats(155, 290),
    move=st.tuples(st.floats(-15, 15), st.floats(-15, 15)),
    yaws=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    heights=st.tuples(st.floats(1, 5), st.floats(1, 5)),
    changed=st.booleans(),
)
def test_there_and_back_is_the_identity(middle, width, top, bottom, move, yaws, heights, changed):
    view_1, view_2 = camera((1.0, 2.0), yaws[0], heights[0]), camera(move, yaws[1], heights[1])
    if changed:  # any image of the other view will do
        view_2 = mirrored(cropped(resized(rolled(view_2, 77.0), 0.5, 2.0), 20.0, -30.0), 250.0)
    box = double(middle - width / 2, top, middle + width / 2, bottom)
    placed, valid = project_boxes(view_1, view_2, box)
    around = period(view_2)
    angular = (placed[2] - placed[0]) / around * 360
    zenith = (0.5 - (placed[1] * view_2.scale[1] + view_2.offset[1])) * 180
    assume(valid.item() and angular < 174 and zenith < 88.9)  # else the other view cannot measure it
    back, valid = project_boxes(view_2, view_1, placed)
    assert valid
    assert_same_boxes(back, box, rtol=1e-6, atol=1e-6)


def test_most_boxes_make_it_there_and_back():
    """The assumption of the test above is rarely in the way."""
    generator = torch.Generator().manual_seed(0)
    low = double(0.0, 20.0) + torch.rand(500, 2, generator=generator, dtype=torch.float64) * double(600.0, 100.0)
    high = torch.stack((low[:, 0] + 60, 155 + 60 * torch.rand(500, generator=generator, dtype=torch.float64)), dim=-1)
    boxes = torch.cat((low, high), dim=-1)
    there, valid = project_boxes(camera(), camera((6.0, 7.0), 1.0), boxes)
    back, also_valid = project_boxes(camera((6.0, 7.0), 1.0), camera(), there)
    both = valid & also_valid
    assert both.double().mean() > 0.95
    assert_same_boxes(back[both], boxes[both], rtol=1e-6, atol=1e-6)


# --- the seam and the image operations --------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [-600.0, 600.0])
def test_a_box_across_the_seam_may_be_written_from_either_side(turn):
    box = double(580.0, 75.0, 640.0, 225.0)
    placed, valid = project_boxes(camera(), camera((4.0, 1.0), 0.5), box)
    other, also_valid = project_boxes(camera(), camera((4.0, 1.0), 0.5), box + turn * double(1, 0, 1, 0))
    assert valid
    assert also_valid
    assert_same_boxes(other, placed)
    foot = locate_boxes(camera(), box)[0].foot
    assert_close(foot, 3 * double(math.sin(math.radians(186)), math.cos(math.radians(186))))  # x 610 is 10 past south


def test_placed_boxes_may_cross_the_seam():
    placed, valid = project_boxes(camera(), camera((0.1, 12.0)), double(*BOX))
    assert valid
    assert 0 <= to_centers(placed)[0] <= WIDTH  # the centre lies between the seams
    assert placed[0] < 0 or placed[2] > WIDTH


@pytest.mark.parametrize(
    ("change", "to_pixels"),
    [
        (lambda view: resized(view, 0.5, 2.0), lambda x, y: (0.5 * x, 2.0 * y)),
        (lambda view: cropped(view, 25.0, -40.0), lambda x, y: (x - 25.0, y + 40.0)),
        (lambda view: rolled(view, 431.0), lambda x, y: (x + 431.0, y)),
    ],
    ids=["resized", "cropped", "rolled"],
)
def test_projection_follows_the_images(change, to_pixels):
    def moved(boxes):
        left, top, right, bottom = boxes.unbind(-1)
        (left, top), (right, bottom) = to_pixels(left, top), to_pixels(right, bottom)
        return torch.stack((left, top, right, bottom), dim=-1)

    view_1, view_2, boxes = camera((1.0, 0.0), 0.3), camera((-5.0, 4.0), 1.3), double(*BOX).expand(2, 4)
    expected, _ = project_boxes(view_1, view_2, boxes)
    placed, valid = project_boxes(change(view_1), change(view_2), moved(boxes))
    assert valid.all()
    assert_same_boxes(placed, moved(expected), period(change(view_2)), rtol=1e-9, atol=1e-9)


def test_projection_follows_mirrored_images():
    def flipped(boxes):
        left, top, right, bottom = boxes.unbind(-1)
        return torch.stack((WIDTH - right, top, WIDTH - left, bottom), dim=-1)

    view_1, view_2, box = camera((1.0, 0.0), 0.3), camera((-5.0, 4.0), 1.3), double(200.0, 90.0, 230.0, 190.0)
    expected, _ = project_boxes(view_1, view_2, box)
    placed, _ = project_boxes(mirrored(view_1, WIDTH), mirrored(view_2, WIDTH), flipped(box))
    assert_same_boxes(placed, flipped(expected))


# --- what has no place ------------------------------------------------------------------------------------------------

NOWHERE = {
    "foot at the horizon": (225, 75, 375, 150),
    "foot above the horizon": (225, 75, 375, 140),
    "foot past the nadir": (225, 75, 375, 301),
    "foot at the nadir: straight below its own camera": (225, 75, 375, 300),
    "upside down": (225, 226, 375, 225),
    "no height": (225, 225, 375, 225),
    "inside out": (375, 75, 225, 225),
    "no width": (225, 75, 225, 225),
    "wider than 175 degrees": (150, 75, 442, 225),
    "top at the zenith": (225, 0, 375, 225),
    "top past 89 degrees": (225, 1, 375, 225),
    "far out, where the middle overflows": (3e38, 75, 3.1e38, 225),
    "all over, where the width overflows": (-3e38, -3e38, 3e38, 225),
}
INVALID = list(NOWHERE.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("box", INVALID, ids=list(NOWHERE))
def test_boxes_without_a_place(box, dtype):
    boxes = torch.tensor(box, dtype=dtype)
    standing, located = locate_boxes(camera(dtype=dtype), boxes)
    placed, valid = project_boxes(camera(dtype=dtype), camera((5.0, 5.0), dtype=dtype), boxes)
    assert not located
    assert not valid
    assert all((value.abs() < 1e6).all() for value in standing)  # nothing that overflows later on
    assert_close(placed, torch.tensor(PLACEHOLDER, dtype=dtype))


@pytest.mark.parametrize("box", [(150, 75, 441, 225), (225, 2, 375, 225), (225, 75, 375, 299), (225, 75, 375, 150.01)])
def test_boxes_just_within_the_limits(box):
    assert locate_boxes(camera(), double(*box))[1]


def test_object_straight_below_the_other_camera():
    placed, valid = project_boxes(camera(), camera((0.0, 3.0)), double(*BOX))
    assert not valid
    assert_close(placed, double(*PLACEHOLDER))
    assert project_boxes(camera(), camera((0.0, 3.01)), double(*BOX))[1]


@pytest.mark.parametrize(("width", "height"), [(1e-4, 2.0), (0.5, 1e-5)], ids=["thin", "flat"])
def test_valid_boxes_have_a_size_even_after_rounding(width, height):
    # Seen from a kilometre they are smaller than a step of float32 at x = 300, y = 150.
    foot = torch.tensor([0.0, 1000.0], requires_grad=True)
    view, unused = camera(dtype=torch.float32), torch.tensor(1.0)
    boxes, distance, valid = view_boxes(view, Standing(foot, torch.tensor(width), torch.tensor(height), unused))
    assert not valid
    assert_close(boxes, torch.tensor(PLACEHOLDER))
    (gradient,) = torch.autograd.grad(boxes.sum() + distance, foot)
    assert (gradient == 0).all()
    assert view_boxes(view, Standing(foot, torch.tensor(0.5), torch.tensor(2.0), unused))[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_from_what_is_not_valid(dtype):
    boxes = torch.tensor([*INVALID, BOX], dtype=dtype, requires_grad=True)  # the last: straight below the other camera
    views = [
        Camera(*(field.expand(len(boxes), *field.shape).clone().requires_grad_() for field in view))
        for view in (camera(dtype=dtype), camera((0.0, 3.0), dtype=dtype))
    ]
    placed, valid = project_boxes(views[0], views[1], boxes)
    seen, distance, visible = view_boxes(views[1], locate_boxes(views[0], boxes)[0])
    assert not valid.any()
    assert not visible[-1]
    standing, located = locate_boxes(views[0], boxes)
    lost = ~located
    values = [value[lost].sum() for value in standing]
    total = placed.sum() + seen[-1].sum() + distance[-1] + sum(values)
    leaves = (boxes, *views[0], *views[1])
    for gradient in torch.autograd.grad(total, leaves, allow_unused=True):
        assert gradient is None or (gradient == 0).all()


def test_invalid_neighbours_leave_gradients_alone():
    boxes = double(*BOX, *INVALID[0], *INVALID[3]).reshape(3, 4).requires_grad_()
    view_1, view_2 = camera(), camera((4.0, 1.0), 0.5)
    (gradient,) = torch.autograd.grad(project_boxes(view_1, view_2, boxes)[0].square().sum(), boxes)
    alone = double(*BOX).requires_grad_()
    (expected,) = torch.autograd.grad(project_boxes(view_1, view_2, alone)[0].square().sum(), alone)
    assert expected.abs().sum() > 0
    assert_close(gradient, torch.stack((expected, torch.zeros_like(expected), torch.zeros_like(expected))))


anything = st.floats(allow_nan=False, allow_infinity=False, width=32)
near = st.floats(-50, 650, width=32)
number = st.one_of(near, near, anything)


@settings(quick, max_examples=300)
@given(st.tuples(number, number, number, number), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_finite_boxes_give_finite_boxes_and_gradients(corners, dtype, below):
    boxes = torch.tensor(corners, dtype=dtype, requires_grad=True)
    view_1, view_2 = camera((1.0, 2.0), 0.3, dtype=dtype), camera((4.0, -6.0) if below else (1.0, 2.0), dtype=dtype)
    standing, located = locate_boxes(view_1, boxes)
    placed, valid = project_boxes(view_1, view_2, boxes)
    assert all(value.isfinite().all() for value in (*standing, placed))
    assert valid <= located
    assert (placed[2:] > placed[:2]).all()  # so that its logarithm and its inverse exist
    total = placed.sum() + torch.stack([value.sum() for value in standing]).sum()
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, boxes)
        assert gradient.isfinite().all()
        assert located or (gradient == 0).all()


@quick
@given(st.tuples(*[anything] * 5), st.sampled_from([torch.float32, torch.float64]))
def test_any_standing_object_gives_finite_boxes(values, dtype):
    east, north, *rest = (torch.tensor(value, dtype=dtype) for value in values)
    boxes, distance, _ = view_boxes(camera((1.0, 2.0), dtype=dtype), Standing(torch.stack((east, north)), *rest))
    assert boxes.isfinite().all()
    assert distance.isfinite()


# --- gradients, shapes, precision -------------------------------------------------------------------------------------


def scene(count):
    """Cameras (count,) of two views and boxes (count, 4) with a place in both."""
    generator = torch.Generator().manual_seed(count)

    def uniform(low, high, *size):
        return low + (high - low) * torch.rand(count, *size, generator=generator, dtype=torch.float64)

    def view():
        return panorama_camera(uniform(-4, 4, 2), uniform(2.5, 3.5), uniform(-3, 3), WIDTH, HEIGHT)

    low = torch.stack((uniform(0, 600), uniform(60, 140)), dim=-1)
    high = torch.stack((low[:, 0] + uniform(10, 80), uniform(165, 185)), dim=-1)
    return view(), view(), torch.cat((low, high), dim=-1)


def test_gradients():
    view_1, view_2, boxes = scene(3)
    assert project_boxes(view_1, view_2, boxes)[1].all()
    leaves = tuple(value.clone().requires_grad_() for value in (*view_1, *view_2, boxes))

    def locate(*values):
        return tuple(locate_boxes(Camera(*values[:5]), values[5])[0])

    def view(*values):
        return view_boxes(Camera(*values[:5]), Standing(*values[5:]))[:2]

    def project(*values):
        return project_boxes(Camera(*values[:5]), Camera(*values[5:10]), values[10])[0]

    standing = tuple(value.detach().requires_grad_() for value in locate_boxes(view_1, boxes)[0])
    torch.autograd.gradcheck(locate, (*leaves[:5], leaves[10]))
    torch.autograd.gradcheck(view, (*leaves[5:10], *standing))
    torch.autograd.gradcheck(project, leaves)


def test_batched_equals_single():
    view_1, view_2, boxes = scene(4)
    boxes = torch.stack((boxes, boxes.roll(1, 0), boxes + 7), dim=1)  # (4, 3, 4)
    boxes[1, 2, 3] = 100.0  # one without a place
    placed, valid = project_boxes(view_1.per_object(), view_2.per_object(), boxes)
    standing, _ = locate_boxes(view_1.per_object(), boxes)
    assert valid.sum() == 11
    for b in range(4):
        one_1, one_2 = (Camera(*(field[b] for field in view)) for view in (view_1, view_2))
        for n in range(3):
            alone, alone_valid = project_boxes(one_1, one_2, boxes[b, n])
            assert_close(placed[b, n], alone)
            assert valid[b, n] == alone_valid
            for batched, value in zip(standing, locate_boxes(one_1, boxes[b, n])[0], strict=True):
                assert_close(batched[b, n], value)


def test_no_boxes():
    view_1, view_2, _ = scene(4)
    placed, valid = project_boxes(view_1.per_object(), view_2.per_object(), torch.zeros(4, 0, 4, dtype=torch.float64))
    assert placed.shape == (4, 0, 4)
    assert valid.shape == (4, 0)


def test_inputs_stay_as_they_were():
    view_1, view_2, boxes = scene(4)
    before = [value.clone() for value in (*view_1, *view_2, boxes)]
    project_boxes(view_1, view_2, boxes)
    for value, copy in zip((*view_1, *view_2, boxes), before, strict=True):
        assert_close(value, copy, rtol=0, atol=0)


def test_precisions_agree(tolerance):
    view_1, view_2, boxes = scene(200)
    expected, valid = project_boxes(view_1, view_2, boxes)
    single_1, single_2 = (Camera(*(field.float() for field in view)) for view in (view_1, view_2))
    placed, valid_single = project_boxes(single_1, single_2, boxes.float())
    assert (valid == valid_single).all()
    assert placed.dtype == torch.float32
    assert_same_boxes(placed.double(), expected, **tolerance[torch.float32])
