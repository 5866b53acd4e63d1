"""The gradient of kernels is the exact one, for any size of map."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.grad import conv2d_weight
from torch.testing import assert_close

from crossview.detector.winograd_gradient import TILES_AT_ONCE, kernel_gradient


def exact(maps, gradient):
    """In double precision, by PyTorch."""
    shape = (gradient.shape[1], maps.shape[1], 3, 3)
    return conv2d_weight(maps.double(), shape, gradient.double(), padding=1)


def check(maps, gradient):
    expected = exact(maps, gradient)
    found = kernel_gradient(maps, gradient)
    assert found.shape == expected.shape
    assert_close(found.double(), expected, atol=5e-5 * float(expected.square().mean().sqrt()), rtol=0)


@given(st.integers(1, 3), st.integers(1, 23), st.integers(1, 23), st.integers(0, 100))
def test_it_is_exact_for_any_size(batch, height, width, seed):
    torch.manual_seed(seed)
    check(torch.randn(batch, 3, height, width), torch.randn(batch, 2, height, width))


@pytest.mark.parametrize("width", [4 * TILES_AT_ONCE + 3, 4 * TILES_AT_ONCE // 3])
def test_many_tiles_are_summed_in_parts(width):
    torch.manual_seed(0)
    check(torch.randn(2, 4, 30, width), torch.randn(2, 5, 30, width))


def test_it_is_the_correlation_of_map_and_gradient():
    # One pixel of the map at row 2, column 3 and one of the gradient at row 3, column 3: the map is above, by one row.
    maps, gradient = torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 5, 6)
    maps[0, 0, 2, 3], gradient[0, 0, 3, 3] = 7.0, 2.0
    expected = torch.zeros(1, 1, 3, 3)
    expected[0, 0, 0, 1] = 14.0
    assert_close(kernel_gradient(maps, gradient), expected, atol=1e-4, rtol=0)
