import copy

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.testing import assert_close

from crossview.detector import fused_convolution
from crossview.detector.fused_convolution import FusedConv2d, can_be_fused, fuse, is_available

needs_onednn = pytest.mark.skipif(not is_available(), reason="this PyTorch or processor has no fused convolutions")


def maps(channels=4, size=(9, 14)):
    values = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
    return values.contiguous(memory_format=torch.channels_last)


def network():
    torch.manual_seed(0)
    first = nn.Conv2d(4, 6, 1)
    with torch.no_grad():
        first.weight.mul_(10)  # so that some values reach both bounds
    return nn.Sequential(first, nn.ReLU6(), Conv2dSame(6, 6, 3, 2, groups=6), nn.ReLU(), nn.Conv2d(6, 2, 3)).eval()


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the maps for which kernels were laid out."""
    seen = []
    in_one_pass = fused_convolution._in_one_pass

    def counted(layer, bounds, size):
        seen.append(tuple(size[2:]))
        return in_one_pass(layer, bounds, size)

    monkeypatch.setattr(fused_convolution, "_in_one_pass", counted)
    return seen


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (14, 9), (7, 7)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_padding_of_tensorflow_needs_no_padded_map(kernel, stride, groups, size, calls):
    torch.manual_seed(1)
    layer = Conv2dSame(4, 8, kernel, stride, groups=groups)
    assert_close(FusedConv2d(layer)(maps(size=size)), layer(maps(size=size)), rtol=1e-4, atol=1e-5)
    assert calls == [size]


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": (0, 2), "stride": 2}, {"bias": False}, {"groups": 2}])
def test_other_paddings_strides_and_no_bias(options):
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 8, 3, **options)
    bounded = FusedConv2d(layer, (-0.1, 0.2))(maps())
    assert_close(bounded, layer(maps()).clamp(-0.1, 0.2), rtol=1e-4, atol=1e-5)
    assert bounded.min() == pytest.approx(-0.1)
    assert bounded.max() == pytest.approx(0.2)


@needs_onednn
@torch.no_grad()
def test_kernels_are_laid_out_once_for_each_size(calls):
    layer = FusedConv2d(Conv2dSame(4, 4, 3, 2))
    for size in ((8, 8), (8, 8), (9, 9), (9, 9), (8, 8)):
        assert_close(layer(maps(size=size)), layer.layer(maps(size=size)), rtol=1e-4, atol=1e-5)
    assert calls == [(8, 8), (9, 9), (8, 8)]


@torch.no_grad()
def test_a_fused_network_gives_the_same():
    plain = network()
    fused = fuse(copy.deepcopy(plain))
    kinds = [type(layer) for layer in fused.children()]
    assert kinds == [FusedConv2d, nn.Identity, FusedConv2d, nn.ReLU, FusedConv2d]
    first = next(fused.children())(maps())
    assert first.min() == 0.0
    assert first.max() == 6.0
    assert_close(fused(maps()), plain(maps()), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("where", ["double precision", "no oneDNN"])
def test_without_onednn_it_is_one_after_the_other(where, calls, monkeypatch):
    plain, images = network(), maps()
    if where == "no oneDNN":
        monkeypatch.setattr(fused_convolution, "is_available", lambda: False)
    else:
        plain, images = plain.double(), images.double()
    assert torch.equal(fuse(copy.deepcopy(plain))(images), plain(images))
    assert calls == []


@pytest.mark.parametrize("lacks", ["mkldnn", "processor", "operation"])
def test_it_is_not_available_where_something_is_missing(lacks, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: lacks != "mkldnn")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NEON" if lacks == "processor" else "AVX2")
    monkeypatch.setattr(fused_convolution, "OPERATIONS", ("no_such_operation",) if lacks == "operation" else ())
    assert not is_available.__wrapped__()
    monkeypatch.undo()
    is_available.cache_clear()


def test_what_it_cannot_do_stays_as_it_is():
    odd = [
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 3),
        nn.LazyConv2d(4, 3),
    ]
    assert not any(can_be_fused(layer) for layer in odd)
    assert list(fuse(nn.Sequential(*odd)).children()) == odd
