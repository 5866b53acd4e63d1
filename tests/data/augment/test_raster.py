"""The composed pixel geometry draws what the operations would draw one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossview.data.augment.raster import INTERPOLATIONS, Raster, fit, render
from tests.data.augment.scenes import loader

FILL = (1, 2, 3)


def draw(raster, image, width=None, height=None, interpolation="linear"):
    width, height = width or raster.width, height or raster.height
    out = np.empty((height, width, 3), dtype=np.uint8)
    render(fit(raster, width, height), loader(image), interpolation, FILL, None, out)
    return out


def window_of(image, left, top, width, height):
    """The same as a crop or an expansion, pixel by pixel."""
    out = np.empty((height, width, 3), dtype=np.uint8)
    out[:] = FILL
    for y in range(max(0, -top), min(height, image.shape[0] - top)):
        for x in range(max(0, -left), min(width, image.shape[1] - left)):
            out[y, x] = image[y + top, x + left]
    return out


@settings(max_examples=60)
@given(st.data())
def test_roll_windows_and_mirrors_in_one_go_equal_one_after_the_other(data):
    width, height = data.draw(st.sampled_from([(12, 8), (10, 6), (9, 7)]))
    image = np.random.default_rng(0).integers(10, 256, (height, width, 3), dtype=np.uint8)
    shift = data.draw(st.integers(0, 2 * width))
    raster, expected = Raster.whole(width, height).rolled(shift), np.roll(image, shift, axis=1)
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.booleans()):
            raster, expected = raster.flipped(), expected[:, ::-1]
        left, top = data.draw(st.integers(-5, raster.width - 1)), data.draw(st.integers(-5, raster.height - 1))
        size = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 14))
        # A window on a window does not bring back what the first one cut off: skip windows that reach out of a crop.
        inside = left >= 0 and left + size[0] <= raster.width and top >= 0 and top + size[1] <= raster.height
        if inside or raster.is_whole:
            raster, expected = raster.windowed(left, top, *size), window_of(expected, left, top, *size)
    np.testing.assert_array_equal(draw(raster, image), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_resize_keeps_a_ramp_where_pixel_centres_say(interpolation):
    # Brightness 2 x of 120 columns: a pixel of the result shows the brightness of its own centre.
    ramp = np.repeat((2 * np.arange(120) + 1).astype(np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
    small = draw(Raster.whole(120, 60), ramp, 40, 20, interpolation)
    expected = 2 * 3 * (np.arange(40) + 0.5)
    np.testing.assert_allclose(small[10, 2:-2, 0].astype(float), expected[2:-2], atol=1.01)


def test_a_file_is_reduced_only_as_far_as_it_need_not_be_enlarged_again():
    whole = Raster.whole(2048, 1024)
    assert fit(whole, 600, 300).reduction == 2
    assert fit(whole, 512, 256).reduction == 4
    assert fit(whole, 1100, 300).reduction == 1
    assert fit(whole.windowed(0, 0, 1024, 512), 600, 300).reduction == 1
    assert fit(whole.windowed(-1024, -512, 4096, 2048), 600, 300).reduction == 4
    assert fit(Raster.whole(2046, 1022), 300, 150).reduction == 2  # 4 does not divide its size
    assert fit(Raster.whole(2047, 1023), 300, 150).reduction == 1


def test_a_reduced_file_shows_the_same_picture():
    y, x = np.mgrid[0:256, 0:512] / 40
    image = np.stack((100 + 80 * np.sin(x), 120 + 70 * np.cos(y), 128 + 50 * np.sin(x + y)), axis=2).astype(np.uint8)
    raster = Raster.whole(512, 256).rolled(200).windowed(100, 40, 320, 160).flipped()
    plan = fit(raster, 80, 40)
    assert plan.reduction == 4
    reduced, whole = np.empty((2, 40, 80, 3), dtype=np.uint8)
    render(plan, loader(image), "area", FILL, None, reduced)
    render(fit(raster, 320, 160), loader(image), "area", FILL, None, big := np.empty((160, 320, 3), dtype=np.uint8))
    whole[:] = big.reshape(40, 4, 80, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced.astype(float), whole.astype(float), atol=2)


def test_a_window_without_panorama_is_all_fill():
    empty = Raster.whole(40, 20).windowed(-40, -20, 120, 60).windowed(0, 0, 30, 10)
    assert (draw(empty, np.full((20, 40, 3), 99, dtype=np.uint8), 60, 30) == FILL).all()


def test_a_sliver_of_panorama_keeps_at_least_a_pixel():
    sliver = Raster.whole(400, 200).windowed(-4000, -100, 4001, 400)  # one column at the right edge
    image = draw(sliver, np.full((200, 400, 3), 99, dtype=np.uint8), 60, 30)
    assert (image[10:20, -1] == 99).all()
    assert (image[:, :-1] == FILL).all()


def test_a_photo_has_edges_and_is_never_rolled():
    photo = Raster.whole(40, 20, is_panorama=False)
    assert not photo.is_whole
    with pytest.raises(ValueError, match="only a whole panorama can be rolled"):
        photo.rolled(4)
    image = np.random.default_rng(0).integers(10, 256, (20, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw(photo.windowed(-4, 0, 48, 20).flipped(), image)[:, 4:-4], image[:, ::-1])


def test_a_file_that_is_there_in_a_smaller_size_is_never_asked_for_in_a_larger_one():
    raster = Raster.whole(512, 256, least_reduction=2)
    assert fit(raster, 512, 256).reduction == 2
    assert fit(raster.windowed(0, 0, 64, 64), 64, 64).reduction == 2
    assert fit(raster, 100, 50).reduction == 4
    image = np.repeat(np.linspace(0, 255, 512).astype(np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    np.testing.assert_allclose(draw(raster, image)[:, 2:-2].astype(int), image[:, 2:-2].astype(int), atol=2)
