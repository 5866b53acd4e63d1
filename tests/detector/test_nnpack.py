"""NNPACK's convolutions are the same however its work is shared out."""

import threading

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from crossview.detector import nnpack
from crossview.detector.nnpack import convolve, for_each_image

pytestmark = pytest.mark.skipif(not nnpack.is_available(), reason="this PyTorch has no NNPACK here")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """The number of PyTorch's threads: one, as many as work apart, more."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 7, 32])
def test_results_are_those_of_the_direct_convolution(images, channels, threads):
    maps, weight, bias = torch.randn(images, 16, 40, 50), torch.randn(channels, 16, 3, 3), torch.randn(channels)
    expected = functional.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    assert_close(convolve(maps, weight, bias).double(), expected, rtol=0, atol=3e-4 * float(expected.std()))


def test_the_number_of_threads_does_not_matter():
    maps, weight, bias = torch.randn(3, 16, 40, 50), torch.randn(9, 16, 3, 3), torch.randn(9)
    before, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found += [
                convolve(maps, weight, bias),
                torch.cat([convolve(image, weight, bias) for image in maps.split(1)]),
            ]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)


def test_images_come_back_in_order_and_without_gradients(threads):
    images = torch.arange(5.0, requires_grad=True)[:, None, None, None].expand(5, 3, 8, 8)
    with torch.no_grad():
        found = for_each_image(lambda image: image + 1, images)
    assert [float(image.mean()) for image in found] == [1, 2, 3, 4, 5]
    assert not any(image.requires_grad for image in found)


def test_two_threads_work_apart_with_one_each(threads):
    def who(image):
        return threading.current_thread().name, torch.get_num_threads()

    found = for_each_image(who, torch.zeros(4, 1, 2, 2))
    main = threading.current_thread().name
    if threads == nnpack.APART:
        assert {name for name, _ in found}.isdisjoint({main})
        assert {number for _, number in found} == {1}
    else:
        assert set(found) == {(main, threads)}
    assert torch.get_num_threads() == threads


def test_a_task_may_share_out_convolutions_of_its_own(threads):
    maps, weight, bias = torch.randn(4, 16, 40, 50), torch.randn(16, 16, 3, 3), torch.randn(16)

    def twice(image):
        return convolve(convolve(image, weight, bias), weight, bias)

    with torch.no_grad():
        assert_close(torch.cat(for_each_image(twice, maps)), twice(maps), rtol=0, atol=0)


def test_an_error_in_a_thread_arrives(threads):
    def refuse(image):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        for_each_image(refuse, torch.zeros(2, 1, 2, 2))
