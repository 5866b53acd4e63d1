import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from crossview.geometry.boxes import (
    MAX_LOG_SCALE,
    area,
    decode,
    encode,
    iou,
    pairwise_iou,
    to_centers,
    to_corners,
    wrap_difference,
)

PERIOD = 600.0
VARIANCES = (0.1, 0.1, 0.2, 0.2)
quick = settings(max_examples=150)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def box(left, top, width, height):
    return double(left, top, left + width, top + height)


def random_boxes(count, seed=0, dtype=torch.float64):
    """Boxes (count, 4) ``xyxy`` of 5 to 125 pixels, some of them across the seam of a 600 pixel panorama."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator, dtype=torch.float64) * double(PERIOD, 250.0)
    size = 5 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 120
    return torch.cat((low, low + size), dim=-1).to(dtype)


def test_formats_by_hand():
    corners, centers = double(10, 20, 40, 100), double(25, 60, 30, 80)
    assert_close(to_centers(corners), centers)
    assert_close(to_corners(centers), corners)
    assert_close(to_corners(to_centers(random_boxes(20))), random_boxes(20))


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((0, 0, 4, 5), 20.0),  # no "+1"
        ((590, 0, 610, 10), 200.0),  # across the seam
        ((3, 3, 3, 9), 0.0),  # no width
        ((4, 0, 0, 5), 0.0),  # inside out in x
        ((4, 5, 0, 0), 0.0),  # inside out in both: not 20
    ],
)
def test_area(corners, expected):
    assert area(double(*corners)).item() == expected


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (0, 0),
        (299, 299),
        (301, -299),
        (-299, -299),
        (-301, 299),
        (599, -1),
        (600, 0),
        (-600, 0),
        (1201, 1),
        (300, -300),
    ],
)
def test_wrap_difference(difference, expected):
    assert wrap_difference(double(difference), PERIOD).item() == expected
    assert wrap_difference(double(difference), double(PERIOD)).item() == expected
    assert wrap_difference(double(difference), None).item() == difference


@quick
@given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(1.0, 4096.0, width=32))
def test_wrap_difference_stays_in_range(difference, period):
    wrapped = wrap_difference(torch.tensor(difference, dtype=torch.float32), period).item()
    assert -0.5 * period <= wrapped <= 0.5 * period


@quick
@given(st.floats(-1e6, 1e6), st.floats(1.0, 4096.0))
def test_wrap_difference_is_off_by_whole_turns(difference, period):
    turns = (difference - wrap_difference(double(difference), period).item()) / period
    assert turns == pytest.approx(round(turns), abs=1e-7)


IOU_CASES = [
    # box 1, box 2 (left, top, width, height), period, expected
    ((0, 0, 10, 10), (0, 0, 10, 10), None, 1.0),  # the same box
    ((0, 0, 10, 10), (5, 0, 10, 10), None, 1 / 3),  # half of each
    ((0, 0, 10, 10), (5, 5, 10, 10), None, 25 / 175),  # a quarter of each
    ((0, 0, 10, 10), (2, 2, 4, 5), None, 0.2),  # one inside the other
    ((0, 0, 10, 10), (10, 0, 10, 10), None, 0.0),  # touching
    ((0, 0, 10, 10), (30, 0, 10, 10), None, 0.0),  # apart in x
    ((0, 0, 10, 10), (0, 30, 10, 10), None, 0.0),  # apart in y
    ((0, 0, 10, 10), (30, 30, 10, 10), None, 0.0),  # apart in both: two negative overlaps do not make a positive one
    ((0, 0, 10, 10), (5, 5, 10, 10), PERIOD, 25 / 175),  # far from the seam
    ((0, 0, 10, 10), (2, 2, 4, 5), PERIOD, 0.2),
    ((0, 0, 10, 10), (30, 30, 10, 10), PERIOD, 0.0),
    ((590, 0, 20, 10), (590, 0, 20, 10), PERIOD, 1.0),  # across the seam
    ((590, 0, 20, 10), (-10, 0, 20, 10), PERIOD, 1.0),  # the same box, written from the other side
    ((590, 0, 20, 10), (0, 0, 20, 10), PERIOD, 1 / 3),  # right half against the left edge of the panorama
    ((590, 0, 20, 10), (580, 0, 20, 10), PERIOD, 1 / 3),  # left half against the right edge
    ((590, 0, 20, 10), (0, 0, 20, 10), None, 0.0),  # an ordinary image has no seam
    ((590, 0, 10, 10), (0, 0, 10, 10), PERIOD, 0.0),  # touching at the seam
    ((0, 0, 360, 10), (300, 0, 360, 10), PERIOD, 0.2),  # 60 pixels on each of the two sides where they meet
    ((0, 0, 600, 10), (450, 0, 300, 10), PERIOD, 0.5),  # a box all around holds every box
    ((0, 0, 0, 0), (0, 0, 0, 0), None, 0.0),  # both empty
    ((0, 0, 0, 0), (0, 0, 0, 0), PERIOD, 0.0),
    ((10, 0, -10, 10), (0, 0, 10, 10), None, 0.0),  # inside out
    ((10, 10, -10, -10), (0, 0, 10, 10), PERIOD, 0.0),
]


@pytest.mark.parametrize(("first", "second", "period", "expected"), IOU_CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iou_by_hand(first, second, period, expected, dtype):
    box_1, box_2 = box(*first).to(dtype), box(*second).to(dtype)
    assert iou(box_1, box_2, period).item() == pytest.approx(expected, abs=1e-6)
    assert iou(box_2, box_1, period).item() == pytest.approx(expected, abs=1e-6)


side = st.floats(0.5, 250.0)


@quick
@given(
    st.tuples(st.floats(0, 300), st.floats(0, 200), side, side),
    st.tuples(st.floats(0, 300), st.floats(0, 200), side, side),
    st.floats(-2000, 2000),
    st.integers(-3, 3),
)
def test_iou_does_not_know_where_the_seam_is(first, second, roll, turns):
    plain = iou(box(*first), box(*second))  # both on the stretch between the seams
    shift = double(1, 0, 1, 0)
    rolled_1, rolled_2 = box(*first) + roll * shift, box(*second) + (roll + turns * PERIOD) * shift
    assert_close(iou(rolled_1, rolled_2, PERIOD), plain, rtol=1e-8, atol=1e-8)
    assert_close(iou(rolled_1, rolled_2, double(PERIOD)[0]), plain, rtol=1e-8, atol=1e-8)


wide_box = st.tuples(st.floats(-600, 600), st.floats(0, 50), st.floats(1, 600), st.floats(1, 100))


@quick
@given(wide_box, wide_box)
def test_iou_around_is_the_sum_over_all_turns(first, second):
    box_1, box_2 = box(*first), box(*second)
    shared = 0.0
    for turn in range(-4, 5):  # boxes on a line, one of them repeated at every turn
        moved = box_2 + turn * PERIOD * double(1, 0, 1, 0)
        size = (torch.minimum(box_1[2:], moved[2:]) - torch.maximum(box_1[:2], moved[:2])).clamp(min=0)
        shared += (size[0] * size[1]).item()
    expected = shared / (area(box_1) + area(box_2) - shared).item()
    found = iou(box_1, box_2, PERIOD).item()
    assert found == pytest.approx(expected, abs=1e-9)
    assert 0 <= found <= 1 + 1e-12


@pytest.mark.parametrize("period", [None, PERIOD, torch.tensor([600.0, 300.0, 450.0], dtype=torch.float64)])
def test_pairwise_equals_elementwise(period):
    first, second = random_boxes(15, 1).reshape(3, 5, 4), random_boxes(21, 2).reshape(3, 7, 4)
    table = pairwise_iou(first, second, period)
    assert table.shape == (3, 5, 7)
    assert (table > 0).any()
    for b in range(3):
        around = period[b] if isinstance(period, torch.Tensor) else period
        for m in range(5):
            for n in range(7):
                assert_close(table[b, m, n], iou(first[b, m], second[b, n], around))


@pytest.mark.parametrize(("count_1", "count_2"), [(0, 3), (3, 0), (0, 0)])
def test_pairwise_of_no_boxes(count_1, count_2):
    assert pairwise_iou(random_boxes(count_1), random_boxes(count_2), PERIOD).shape == (count_1, count_2)


def test_encode_by_hand():
    # 3 right of a reference 20 wide: 3 / 20 / 0.1; 8 up at 40 high: -8 / 40 / 0.1; twice and half its size
    found = encode(double(103, 92, 40, 20), double(100, 100, 20, 40), VARIANCES)
    assert_close(found, double(1.5, -2.0, math.log(2) / 0.2, -math.log(2) / 0.2))


@pytest.mark.parametrize(
    ("center", "reference", "expected"),
    [
        (5.0, 595.0, 10.0),  # over the seam to the right
        (595.0, 5.0, -10.0),  # and to the left
        (605.0, 595.0, 10.0),  # a box that crosses the seam
        (310.0, 300.0, 10.0),  # far from it
    ],
)
def test_encode_goes_the_short_way_around(center, reference, expected):
    boxes, references = double(center, 100, 20, 40), double(reference, 100, 20, 40)
    across = expected / 20 / 0.1
    assert_close(encode(boxes, references, VARIANCES, PERIOD), double(across, 0, 0, 0))
    assert_close(encode(boxes, references, VARIANCES, double(PERIOD)[0]), double(across, 0, 0, 0))
    assert encode(boxes, references, VARIANCES)[0].item() == pytest.approx((center - reference) / 20 / 0.1)


def test_encode_with_a_period_for_every_box():
    boxes, references = double(5, 100, 20, 40).expand(2, 4), double(295, 100, 20, 40).expand(2, 4)
    found = encode(boxes, references, VARIANCES, double(600, 300))
    assert_close(found[:, 0], double(-290 / 2, 10 / 2))


@pytest.mark.parametrize("period", [None, PERIOD])
def test_decode_is_the_inverse_of_encode(period):
    boxes, references = to_centers(random_boxes(50, 3)), to_centers(random_boxes(50, 4))
    back = decode(encode(boxes, references, VARIANCES, period), references, VARIANCES)
    assert_close(wrap_difference(back[:, 0] - boxes[:, 0], period), torch.zeros(50, dtype=torch.float64))
    assert_close(back[:, 1:], boxes[:, 1:])
    offsets = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(encode(decode(offsets, references, VARIANCES), references, VARIANCES, period), offsets)


def test_decode_of_zero_is_the_reference():
    references = to_centers(random_boxes(10))
    assert_close(decode(torch.zeros_like(references), references, VARIANCES), references, rtol=0, atol=0)


@pytest.mark.parametrize("value", [50.0, 1e3, 1e30, -1e3, -1e30])
def test_decode_of_huge_offsets_is_finite(value):
    references = random_boxes(3, 5, torch.float32)
    offsets = torch.full((3, 4), value, requires_grad=True)
    boxes = decode(offsets, to_centers(references), VARIANCES)
    assert boxes.isfinite().all()
    assert (boxes[:, 2:] <= 62.6 * to_centers(references)[:, 2:]).all()
    (gradient,) = torch.autograd.grad(boxes.sum(), offsets)
    assert gradient.isfinite().all()
    assert (gradient[:, 2:] == 0).all() or 0.2 * value < MAX_LOG_SCALE


coordinate = st.floats(-(2.0**60), 2.0**60, width=32)  # squares of these are finite in float32
any_box = st.tuples(coordinate, coordinate, coordinate, coordinate)


@quick
@given(any_box, any_box, st.sampled_from([None, PERIOD]))
def test_iou_is_finite_with_finite_gradients(first, second, period):
    box_1 = torch.tensor(first, dtype=torch.float32, requires_grad=True)
    box_2 = torch.tensor(second, dtype=torch.float32, requires_grad=True)
    overlap = iou(box_1, box_2, period)
    gradients = torch.autograd.grad(overlap, (box_1, box_2))
    assert 0 <= overlap.item() <= 1 + 1e-6
    assert not any(gradient.isnan().any() for gradient in gradients)


@pytest.mark.parametrize("period", [None, PERIOD])
@pytest.mark.parametrize("width", [1e-30, 1e-38, 1.4e-45])
def test_iou_of_boxes_next_to_nothing_has_finite_gradients(width, period):
    boxes = torch.tensor([-width, 0.0, 0.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(iou(boxes, boxes.detach(), period), boxes)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("period", [None, PERIOD])
@pytest.mark.parametrize("second", [(300, 0, 10, 10), (50, 0, 0, 0), (40, 10, -10, -10)], ids=["apart", "empty", "out"])
def test_iou_of_boxes_without_overlap_has_zero_gradients(second, period):
    box_1, box_2 = box(30, 0, 20, 20).requires_grad_(), box(*second).requires_grad_()
    for gradient in torch.autograd.grad(iou(box_1, box_2, period), (box_1, box_2)):
        assert (gradient == 0).all()


def leaf(tensor):
    return tensor.clone().requires_grad_()


FIRST, SECOND = box(590, 20, 40, 50), box(3, 40, 25, 60)  # they overlap across the seam


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (to_centers, (FIRST,)),
        (to_corners, (FIRST,)),
        (area, (FIRST,)),
        (wrap_difference, (double(700, -20), double(600, 500))),
        (lambda a, b: iou(a, b), (FIRST, box(600, 40, 55, 60))),
        (iou, (FIRST, SECOND, double(600)[0])),
        (iou, (box(0, 0, 400, 10), box(320, 3, 380, 11), double(600)[0])),  # they meet on both sides
        (pairwise_iou, (FIRST.expand(2, 1, 4), random_boxes(6).reshape(2, 3, 4), double(600, 450))),
        (lambda a, b: encode(a, b, VARIANCES), (to_centers(FIRST), to_centers(SECOND))),
        (lambda a, b, p: encode(a, b, VARIANCES, p), (to_centers(FIRST), to_centers(SECOND), double(600)[0])),
        (lambda a, b: decode(a, b, VARIANCES), (double(0.3, -2, 1.5, -1), to_centers(SECOND))),
        (lambda a, b: decode(a, b, VARIANCES), (double(0.3, -2, 30, 40), to_centers(SECOND))),  # beyond the limit
    ],
)
def test_gradients(function, inputs):
    torch.autograd.gradcheck(function, tuple(leaf(value) for value in inputs))


def test_precisions_agree(tolerance):
    first, second = random_boxes(40, 6), random_boxes(40, 7)
    single_1, single_2 = first.float(), second.float()
    allowed = tolerance[torch.float32]
    assert_close(to_centers(single_1), to_centers(first).float(), **allowed)
    assert_close(to_corners(to_centers(single_1)), first.float(), **allowed)
    assert_close(pairwise_iou(single_1, single_2, PERIOD), pairwise_iou(first, second, PERIOD).float(), **allowed)
    offsets = encode(to_centers(first), to_centers(second), VARIANCES, PERIOD)
    assert_close(encode(to_centers(single_1), to_centers(single_2), VARIANCES, PERIOD), offsets.float(), **allowed)
    offsets = offsets.clamp(-5, 5)
    decoded = decode(offsets, to_centers(second), VARIANCES)
    assert_close(decode(offsets.float(), to_centers(single_2), VARIANCES), decoded.float(), **allowed)


@pytest.mark.parametrize("function", [to_centers, to_corners, area])
def test_batched_equals_single(function):
    boxes = random_boxes(6).reshape(2, 3, 4)
    assert_close(function(boxes), torch.stack([torch.stack([function(one) for one in row]) for row in boxes]))


def test_encode_and_decode_batched_equal_single():
    boxes, references = to_centers(random_boxes(6, 1)).reshape(2, 3, 4), to_centers(random_boxes(6, 2)).reshape(2, 3, 4)
    period = double(600, 400)
    offsets = encode(boxes, references, VARIANCES, period[:, None])
    decoded = decode(offsets, references, VARIANCES)
    for i in range(2):
        for j in range(3):
            assert_close(encode(boxes[i, j], references[i, j], VARIANCES, period[i]), offsets[i, j])
            assert_close(decode(offsets[i, j], references[i, j], VARIANCES), decoded[i, j])


@pytest.mark.parametrize("period", [math.inf, torch.tensor(math.inf)], ids=["number", "tensor"])
def test_an_infinite_period_is_an_ordinary_image(period):
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [590.0, 0.0, 600.0, 10.0]])
    shifted = boxes + torch.tensor([5.0, 0.0, 5.0, 0.0])
    assert torch.equal(pairwise_iou(boxes, shifted, period), pairwise_iou(boxes, shifted))
    assert torch.equal(wrap_difference(torch.tensor([-590.0, 3.5]), period), torch.tensor([-590.0, 3.5]))
    references = to_centers(shifted)
    assert torch.equal(
        encode(to_centers(boxes), references, VARIANCES, period), encode(to_centers(boxes), references, VARIANCES)
    )
