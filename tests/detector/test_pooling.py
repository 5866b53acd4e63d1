"""Halving a map is PyTorch's pooling, with and without gradients."""

import pytest
import torch
from torch.nn import functional

from crossview.detector.pooling import Halving


@pytest.mark.parametrize("size", [(6, 8), (7, 8), (6, 9), (5, 5), (1, 3), (1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_pooling_of_pytorch(size, memory_format):
    maps = torch.randn(2, 3, *size).contiguous(memory_format=memory_format)
    expected = functional.max_pool2d(maps, 2, ceil_mode=True)
    assert torch.equal(Halving()(maps), expected)
    learned = maps.clone().requires_grad_()
    pooled = Halving()(learned)
    assert torch.equal(pooled, expected)
    (ours,) = torch.autograd.grad(pooled, learned, weights := torch.randn_like(pooled))
    (theirs,) = torch.autograd.grad(functional.max_pool2d(learned, 2, ceil_mode=True), learned, weights)
    assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(Halving()(learned), expected)


def test_gradients_are_those_of_differences():
    maps = torch.randn(2, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Halving(), (maps,))


def test_among_equal_values_one_gets_the_gradient():
    maps = torch.zeros(1, 1, 4, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(Halving()(maps).sum(), maps)
    blocks = gradient.unfold(2, 2, 2).unfold(3, 2, 2)
    assert (blocks.sum((-2, -1)) == 1).all()
    assert (blocks.amax((-2, -1)) == 1).all()


def test_what_is_no_number_stays():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = torch.nan
    assert Halving()(maps).isnan().tolist() == [[[[False, True], [False, False]]]]


def test_exported_it_is_an_ordinary_layer():
    maps = torch.randn(1, 2, 7, 6)
    exported = torch.export.export(Halving(), (maps,))
    assert any("max_pool2d" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(exported.module()(maps), Halving()(maps))
