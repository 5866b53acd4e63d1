"""NNPACK's convolutions are the same however its work is shared out."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from crossview.detector import nnpack
from crossview.detector.apart import for_each_image
from crossview.detector.nnpack import convolve

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


def test_a_task_may_share_out_convolutions_of_its_own(threads):
    maps, weight, bias = torch.randn(4, 16, 40, 50), torch.randn(16, 16, 3, 3), torch.randn(16)

    def twice(image):
        return convolve(convolve(image, weight, bias), weight, bias)

    with torch.no_grad():
        assert_close(torch.cat(for_each_image(twice, maps)), twice(maps), rtol=0, atol=0)
