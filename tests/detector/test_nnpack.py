"""NNPACK's convolutions are the same however its work is shared out."""

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from crossview.detector import nnpack
from crossview.detector.apart import for_each_image
from crossview.detector.nnpack import convolve
from tests.threads import pytorch_threads

pytestmark = pytest.mark.skipif(not nnpack.is_available(), reason="this PyTorch has no NNPACK here")


@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 7, 32])
def test_results_are_those_of_the_direct_convolution(images, channels, threads):
    maps, weight, bias = torch.randn(images, 16, 40, 50), torch.randn(channels, 16, 3, 3), torch.randn(channels)
    expected = functional.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    assert_close(convolve(maps, weight, bias).double(), expected, rtol=0, atol=3e-4 * float(expected.std()))


def test_the_number_of_threads_does_not_matter():
    maps, weight, bias = torch.randn(3, 16, 40, 50), torch.randn(9, 16, 3, 3), torch.randn(9)
    found = []
    for number in (1, 2):
        with pytorch_threads(number):
            found += [
                convolve(maps, weight, bias),
                torch.cat([convolve(image, weight, bias) for image in maps.split(1)]),
            ]
    assert all(torch.equal(one, found[0]) for one in found)


def test_a_task_may_share_out_convolutions_of_its_own(threads):
    maps, weight, bias = torch.randn(4, 16, 40, 50), torch.randn(16, 16, 3, 3), torch.randn(16)

    def twice(image):
        return convolve(convolve(image, weight, bias), weight, bias)

    with torch.no_grad():
        assert_close(torch.cat(for_each_image(twice, maps)), twice(maps), rtol=0, atol=0)
