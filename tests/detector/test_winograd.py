"""The fast convolution computes what the direct one does."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from crossview.detector import nnpack, winograd
from crossview.detector.vgg import VGG16
from crossview.detector.winograd import (
    FEWEST_CHANNELS,
    FEWEST_GRADIENT_CHANNELS,
    SMALLEST_GRADIENT_MAP,
    WinogradConv2d,
    is_fast_for,
)
from tests.threads import pytorch_threads

needs_nnpack = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this PyTorch has no NNPACK here")
WIDE = FEWEST_GRADIENT_CHANNELS


@pytest.fixture
def count(monkeypatch):
    """How many times the fast way was taken, as a list of the maps' shapes."""
    taken: list[torch.Size] = []
    convolve = winograd._convolve

    def counted(maps, *others):
        taken.append(maps.shape)
        return convolve(maps, *others)

    monkeypatch.setattr(winograd, "_convolve", counted)
    return taken


def layer(in_channels=FEWEST_CHANNELS, out_channels=7) -> WinogradConv2d:
    torch.manual_seed(0)
    return WinogradConv2d(in_channels, out_channels)


def plain(layer: WinogradConv2d) -> nn.Conv2d:
    ordinary = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    ordinary.load_state_dict(layer.state_dict())
    return ordinary


def direct(layer: WinogradConv2d, maps: torch.Tensor) -> torch.Tensor:
    """In double precision."""
    assert layer.bias is not None
    return functional.conv2d(maps.double(), layer.weight.double(), layer.bias.double(), padding=1)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1024), (64, 19)])
@pytest.mark.parametrize("batch", [1, 3])
def test_results_are_those_of_the_direct_convolution(size, batch, count):
    convolution, maps = layer().requires_grad_(False), torch.randn(batch, FEWEST_CHANNELS, *size)
    result = convolution(maps)
    assert count == [maps.shape]
    expected = direct(convolution, maps)
    assert_close(result.double(), expected, atol=1e-4 * float(expected.std()), rtol=0)


@pytest.mark.parametrize("channels", [(5, 7), (WIDE, WIDE + 1)])
@pytest.mark.parametrize("size", [(40, 37), (16, 16)])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_are_those_of_the_direct_convolution(batch, size, channels, count):
    convolution, maps = layer(*channels), torch.randn(batch, channels[0], *size, requires_grad=True)
    upstream = torch.randn(batch, channels[1], *size)
    ours = torch.autograd.grad(convolution(maps), [maps, *convolution.parameters()], upstream)
    assert len(count) == 2
    exact = torch.autograd.grad(direct(convolution, maps), [maps, *convolution.parameters()], upstream.double())
    for gradient, expected in zip(ours, exact, strict=True):
        assert gradient.is_contiguous()
        assert_close(gradient, expected, atol=1e-4 * float(expected.std()), rtol=1e-4)


@pytest.mark.parametrize(("channels", "fast"), [((WIDE, WIDE), True), ((WIDE - 1, WIDE), False), ((WIDE, 3), False)])
def test_the_fast_gradient_of_weights_is_for_wide_layers(channels, fast, monkeypatch):
    calls = []
    monkeypatch.setattr(winograd, "kernel_gradient", lambda *_: calls.append(1))
    layer(*channels)(torch.randn(1, channels[0], 16, 16)).sum().backward()
    assert bool(calls) == fast


def test_only_the_gradients_that_are_wanted_are_computed(count):
    convolution = layer()
    convolution.weight.requires_grad_(False)
    convolution(torch.randn(1, FEWEST_CHANNELS, 32, 32)).sum().backward()
    assert len(count) == 1
    assert convolution.weight.grad is None
    assert convolution.bias is not None
    assert convolution.bias.grad is not None


@needs_nnpack
def test_the_number_of_threads_changes_nothing():
    convolution, maps = layer(16, 16), torch.randn(2, 16, 50, 60)
    with pytorch_threads(1):
        alone = convolution(maps)
    with pytorch_threads(2):
        assert torch.equal(convolution(maps), alone)


def test_it_is_for_large_maps_in_single_precision_in_the_ordinary_order():
    maps = torch.zeros(2, 5, 16, 16)
    assert maps.shape[-1] * maps.shape[-2] == SMALLEST_GRADIENT_MAP
    assert is_fast_for(maps)
    assert not is_fast_for(maps[..., :-1].contiguous())
    assert not is_fast_for(maps.double())
    assert not is_fast_for(maps.bfloat16())
    assert not is_fast_for(maps.contiguous(memory_format=torch.channels_last))
    assert not is_fast_for(maps[:0])
    assert not is_fast_for(maps.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fast_for(maps)


def test_where_it_is_not_wanted_the_layer_is_an_ordinary_one(count):
    convolution, maps = layer(), torch.randn(1, FEWEST_CHANNELS, 32, 32)
    convolution.winograd = False
    assert torch.equal(convolution(maps), plain(convolution)(maps))
    assert not count


@pytest.mark.parametrize(
    ("size", "channels", "has_nnpack"),
    [(32, FEWEST_CHANNELS, False), (31, FEWEST_CHANNELS, True), (32, FEWEST_CHANNELS - 1, True)],
)
def test_results_without_nnpack_and_of_small_maps_are_those_of_an_ordinary_one(size, channels, has_nnpack, monkeypatch):
    convolution, maps = layer(channels), torch.randn(1, channels, size, size)
    monkeypatch.setattr(nnpack, "is_available", lambda: has_nnpack)
    assert torch.equal(convolution(maps), plain(convolution)(maps))


def test_exported_layers_are_ordinary_ones(count):
    maps = torch.randn(1, FEWEST_CHANNELS, 32, 32)
    exported = torch.export.export(layer(), (maps,))
    assert not count
    assert_close(exported.module()(maps), layer()(maps), atol=1e-4, rtol=1e-4)


def test_vgg_takes_it_where_maps_are_large_and_can_do_without(count):
    torch.manual_seed(0)
    network = VGG16(channels=(4, 4, 6, 6, 6), fc_channels=8)
    images = torch.randn(2, 3, 96, 128)
    features = network(images)
    assert {tuple(shape[-2:]) for shape in count} == {(96, 128), (48, 64), (24, 32)}
    assert len(count) == 7
    count.clear()
    ordinary = VGG16(channels=(4, 4, 6, 6, 6), fc_channels=8, winograd=False)
    ordinary.load_state_dict(network.state_dict())
    expected = ordinary(images)
    assert not count
    for ours, theirs in zip(features, expected, strict=True):
        assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_vgg_computes_the_same_in_evaluation():
    torch.manual_seed(0)
    network = VGG16(channels=(16, 16, 16, 16, 16), fc_channels=8)
    images = torch.randn(3, 3, 70, 90)
    expected = network(images)
    network.eval()
    with torch.no_grad():
        features = network(images)
    for ours, theirs in zip(features, expected, strict=True):
        assert_close(ours, theirs.detach(), atol=1e-4, rtol=1e-3)
