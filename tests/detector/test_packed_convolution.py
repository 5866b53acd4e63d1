import copy

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.testing import assert_close

from crossview.detector import packed_convolution
from crossview.detector.packed_convolution import (
    PackedConv2d,
    can_be_packed,
    is_available,
    with_packed_convolutions,
)

needs_onednn = pytest.mark.skipif(not is_available(), reason="this PyTorch or processor has no packed convolutions")


def maps(channels=4, size=(9, 14)):
    values = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
    return values.contiguous(memory_format=torch.channels_last)


def network():
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 6, 1), Conv2dSame(6, 6, 3, 2, groups=6)
    return nn.Sequential(first, nn.ReLU6(), second, nn.ReLU(), nn.Conv2d(6, 2, 3)).eval()


@pytest.fixture
def packed_sizes(monkeypatch):
    """The sizes of the maps for which kernels were packed."""
    seen = []
    pack = packed_convolution.pack

    def counted(layer, size):
        seen.append(tuple(size[2:]))
        return pack(layer, size)

    monkeypatch.setattr(packed_convolution, "pack", counted)
    return seen


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (14, 9), (7, 7)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_padding_of_tensorflow_needs_no_padded_map(kernel, stride, groups, size, packed_sizes):
    torch.manual_seed(1)
    layer = Conv2dSame(4, 8, kernel, stride, groups=groups)
    assert_close(PackedConv2d(layer)(maps(size=size)), layer(maps(size=size)), rtol=1e-4, atol=1e-5)
    assert packed_sizes == [size]


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": (0, 2), "stride": 2}, {"bias": False}, {"groups": 2}])
def test_other_paddings_strides_and_no_bias(options, packed_sizes):
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 8, 3, **options)
    assert_close(PackedConv2d(layer)(maps()), layer(maps()), rtol=1e-4, atol=1e-5)
    assert packed_sizes == [(9, 14)]


@needs_onednn
@torch.no_grad()
def test_kernels_are_packed_once_for_each_size(packed_sizes):
    layer = PackedConv2d(Conv2dSame(4, 4, 3, 2))
    for size in ((8, 8), (8, 8), (9, 9), (9, 9), (8, 8)):
        assert_close(layer(maps(size=size)), layer.layer(maps(size=size)), rtol=1e-4, atol=1e-5)
    assert packed_sizes == [(8, 8), (9, 9), (8, 8)]


@torch.no_grad()
def test_a_network_gives_the_same():
    plain = network()
    packed = with_packed_convolutions(copy.deepcopy(plain))
    kinds = [type(layer) for layer in packed.children()]
    assert kinds == [PackedConv2d, nn.ReLU6, PackedConv2d, nn.ReLU, PackedConv2d]
    assert_close(packed(maps()), plain(maps()), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_is_no_number_stays_so():
    images = maps()
    images[0, 0, 4, 4] = float("nan")
    plain = network()
    found = with_packed_convolutions(copy.deepcopy(plain))(images)
    assert found.isnan().any()
    assert torch.equal(found.isnan(), plain(images).isnan())


@torch.no_grad()
@pytest.mark.parametrize("where", ["double precision", "no oneDNN", "oneDNN switched off"])
def test_without_onednn_layers_are_as_they_are(where, packed_sizes, monkeypatch):
    plain, images = network(), maps()
    if where == "double precision":
        plain, images = plain.double(), images.double()
    if where == "no oneDNN":
        monkeypatch.setattr(packed_convolution, "is_available", lambda: False)
    with torch.backends.mkldnn.flags(enabled=where != "oneDNN switched off"):
        assert torch.equal(with_packed_convolutions(copy.deepcopy(plain))(images), plain(images))
    assert packed_sizes == []


@pytest.mark.parametrize("lacks", ["mkldnn", "processor", "operation"])
def test_it_is_not_available_where_something_is_missing(lacks, monkeypatch):
    def changed(layer, size):
        raise RuntimeError("expected at most 5 arguments")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: lacks != "mkldnn")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX" if lacks == "processor" else "AVX2")
    if lacks == "operation":
        monkeypatch.setattr(packed_convolution, "pack", changed)
    assert not is_available.__wrapped__()


def test_what_it_cannot_do_stays_as_it_is():
    watched = nn.Conv2d(4, 4, 3)
    watched.register_forward_hook(lambda *_: None)
    odd = [
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 3),
        nn.LazyConv2d(4, 3),
        watched,
    ]
    assert not any(can_be_packed(layer) for layer in odd)
    assert list(with_packed_convolutions(nn.Sequential(*odd)).children()) == odd
