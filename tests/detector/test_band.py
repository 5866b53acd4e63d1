import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from crossview.detector.band import Band, BandChoice
from crossview.detector.vgg import VGG16
from tests.detector.test_ssd import narrow

CHOICE = BandChoice(rows=160, height=300, stride=16)


def boxes_between(*spans):
    """Boxes of one image with these tops and bottoms, and which of them are there."""
    return torch.tensor([[0.0, top, 10.0, bottom] for top, bottom in spans]), torch.ones(len(spans), dtype=torch.bool)


@pytest.mark.parametrize(
    ("share", "height", "rows"), [(0.53, 300, 160), (0.53, 512, 272), (0.53, 200, 112), (0.01, 300, 16), (1, 300, 304)]
)
def test_a_share_of_the_rows_is_a_multiple_of_the_coarsest_stride(share, height, rows):
    assert BandChoice.of_share(share, height, (8, 16)) == BandChoice(rows, height, 16)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), True])
def test_a_share_is_part_of_the_whole(share):
    with pytest.raises(ValueError, match=rf"found {share}, expected null or a share of the rows"):
        BandChoice.of_share(share, 300, (8, 16))


def test_every_band_that_holds_all_objects_is_drawn_and_no_other():
    boxes, present = boxes_between((90.5, 130.0), (112.0, 208.25))
    torch.manual_seed(0)
    drawn = {CHOICE.draw(boxes, present) for _ in range(100)}
    # From the first multiple of 16 whose band reaches down to 208.25, to the last one above 90.5.
    assert drawn == {Band(64, 224), Band(80, 240)}


@pytest.mark.parametrize("span", [(60.0, 221.0), (79.9, 239.9), (0.0, 300.0), (299.0, 301.0)])
def test_objects_that_no_band_holds_want_the_whole_image(span):
    assert CHOICE.draw(*boxes_between(span)) is None


@pytest.mark.parametrize(
    ("span", "wanted"), [((0.0, 5.0), Band(0, 160)), ((290.0, 300.0), None), ((140.0, 288.0), Band(128, 288))]
)
def test_bands_lie_within_the_image(span, wanted):
    assert CHOICE.draw(*boxes_between(span)) == wanted


def test_what_is_no_object_does_not_matter():
    boxes, present = boxes_between((0.0, 300.0), (70.0, 210.0))
    present[0] = False
    assert CHOICE.draw(boxes, present) == Band(64, 224)
    assert CHOICE.draw(boxes, torch.zeros_like(present)) is None


def test_a_band_of_all_rows_is_the_whole_image():
    boxes, present = boxes_between((10.0, 20.0))
    assert BandChoice.of_share(1, 300, (8, 16)).draw(boxes, present) is None


@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=1, max_size=4),
    st.integers(1, 18),
    st.integers(0, 2**31),
)
def test_a_band_holds_all_objects(edges, multiple, seed):
    boxes, present = boxes_between(*(sorted(pair) for pair in edges))
    choice = BandChoice(16 * multiple, 300, 16)
    torch.manual_seed(seed)
    band = choice.draw(boxes, present)
    top, bottom = float(boxes[:, 1].min()), float(boxes[:, 3].max())
    fitting = [first for first in range(0, 300 - choice.rows + 1, 16) if first <= top and bottom <= first + choice.rows]
    assert fitting if band else not fitting
    if band:
        assert band.first in fitting
        assert band.last == band.first + choice.rows


def test_maps_are_put_back_where_they_belong():
    features = torch.arange(1.0, 5.0).view(1, 1, 4, 1)
    assert Band(32, 96).put_back(features, 16, 150).flatten().tolist() == [0, 0, 1, 2, 3, 4, 0, 0, 0, 0]
    assert torch.equal(Band(0, 64).put_back(features, 16, 50), features)


def test_anchors_belong_to_the_rows_of_their_centres():
    anchors = torch.tensor([[0.0, y, 5.0, 500.0] for y in (31.9, 32.0, 95.9, 96.0)])
    assert Band(32, 96).holds(anchors).tolist() == [False, True, True, False]


def test_maps_of_a_band_are_rows_of_the_maps_of_the_image():
    # Far enough from the edges of the band that nothing beyond them is seen.
    torch.manual_seed(0)
    backbone = VGG16(channels=(4, 4, 4, 4, 4), fc_channels=8, winograd=False).double()
    images, band = torch.randn(1, 3, 1003, 64, dtype=torch.float64), Band(208, 816)
    with torch.no_grad():
        whole, part = backbone(images), backbone(band.cut(images))
    for features, of_band, stride, margin in zip(whole, part, backbone.row_strides, (7, 15), strict=True):
        back = band.put_back(of_band, stride, 1003)
        assert back.shape == features.shape
        first, last = band.first // stride + margin, band.last // stride - margin
        assert first < last
        assert_close(back[:, :, first:last], features[:, :, first:last])
        assert not back[:, :, : band.first // stride].any()


def test_a_network_sees_nothing_outside_the_band():
    network, band = narrow(), Band(64, 224)
    images = torch.randint(0, 256, (2, 3, 300, 600), dtype=torch.uint8)
    others = torch.randint(0, 256, images.shape, dtype=torch.uint8)
    others[:, :, 64:224] = images[:, :, 64:224]
    for mode in (True, False):
        network.train(mode)
        with torch.no_grad():
            seen, same, whole = network(images, band), network(others, band), network(images)
        assert seen.logits.shape == (2, 17292, 3)
        assert torch.equal(seen.logits, same.logits)
        assert torch.equal(seen.offsets, same.offsets)
        assert [features.shape for features in seen.maps] == [features.shape for features in whole.maps]
        assert not torch.allclose(seen.logits, whole.logits)
