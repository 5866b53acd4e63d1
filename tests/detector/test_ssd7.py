import pytest
import torch
from torch import nn

from crossview.detector.anchors import AnchorGrid
from crossview.detector.ssd import SSD
from crossview.detector.ssd7 import SSD7Features

GRID = AnchorGrid((0.08, 0.16, 0.32, 0.64, 0.96), [[0.5, 1, 2]] * 4)
NARROW = (4, 4, 8, 8, 8, 8, 4)


def narrow(size=(96, 128), **arguments) -> SSD:
    torch.manual_seed(0)
    return SSD(SSD7Features(channels=NARROW, **arguments), 2, size, GRID, (), normalize_first_map=False)


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        ((300, 480), [(37, 60), (18, 30), (9, 15), (4, 7)]),  # of the tutorial of ssd_keras
        ((300, 600), [(37, 75), (18, 37), (9, 18), (4, 9)]),
    ],
)
def test_shapes(size, maps):
    network = narrow(size)
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        output = network(images)
        features = network.feature_maps(network.backbone.preprocessing.apply(images))
    count = 4 * sum(rows * columns for rows, columns in maps)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (width, *size) for width, size in zip(NARROW[3:], maps, strict=True)
    ]
    assert output.logits.shape == (1, count, 3)
    assert network.anchors.shape == (count, 4)


def test_layers_have_the_shapes_of_ssd_keras():
    layers = dict(SSD7Features().named_children())
    kernels = {name: tuple(layer.weight.shape) for name, layer in layers.items() if isinstance(layer, nn.Conv2d)}
    assert kernels == {
        "conv1": (32, 3, 5, 5),
        "conv2": (48, 32, 3, 3),
        "conv3": (64, 48, 3, 3),
        "conv4": (64, 64, 3, 3),
        "conv5": (48, 64, 3, 3),
        "conv6": (48, 48, 3, 3),
        "conv7": (32, 48, 3, 3),
    }
    assert {f"bn{number}" for number in range(1, 8)} == set(layers) - set(kernels)
    assert layers["bn1"].eps == 1e-3


def test_a_layer_by_hand():
    # The first convolution passes red on; the norm is that of an untrained network in evaluation: 1 / sqrt(1 + eps).
    network = SSD7Features(channels=(1, 1, 1, 1, 1, 1, 1)).eval()
    for number in range(1, 8):
        kernel = network.get_parameter(f"conv{number}.weight")
        nn.init.zeros_(kernel)
        kernel.data[0, 0, kernel.shape[2] // 2, kernel.shape[3] // 2] = 1.0
    scale = 1 / 1.001**0.5
    with torch.no_grad():
        positive = network(torch.full((1, 3, 64, 64), 2.0))
        negative = network(torch.full((1, 3, 64, 64), -2.0))
    assert positive[0].unique().item() == pytest.approx(2 * scale**4)
    assert positive[3].unique().item() == pytest.approx(2 * scale**7)
    value = torch.tensor(-2.0)
    for _ in range(4):
        value = torch.expm1(value * scale)
    assert negative[0].unique().item() == pytest.approx(value.item())


def test_gradients_reach_every_parameter_and_building_leaves_no_trace_in_the_statistics():
    network = narrow()
    statistics = network.get_buffer("backbone.bn1.running_mean")
    assert not statistics.any()
    assert network.training
    output = network(torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8))
    (output.logits.square().sum() + output.offsets.square().sum()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    gradient = network.get_parameter("backbone.conv1.weight").grad
    assert gradient is not None
    assert gradient.any()
    assert statistics.any()


def test_running_statistics_follow_at_the_given_rate():
    network = narrow(norm_momentum=0.25)
    network.get_parameter("backbone.conv1.bias").data[:] = 100.0
    network.backbone(torch.zeros(2, 3, 96, 128))
    torch.testing.assert_close(network.get_buffer("backbone.bn1.running_mean"), torch.full((4,), 25.0))


def test_nothing_is_calibrated():
    assert narrow().plain_convolutions() == []


def test_state_dict_round_trip():
    source = narrow(mean=(1, 2, 3)).train()
    source(torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8))
    restored = SSD(SSD7Features(channels=NARROW), 2, (96, 128), GRID, (), normalize_first_map=False)
    restored.load_state_dict(source.state_dict())
    images = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(restored.eval()(images).logits, source.eval()(images).logits)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="channels: expected 7 numbers"):
        SSD7Features(channels=(4, 4))
    with pytest.raises(TypeError, match=r"preprocessing\.apply"):
        SSD7Features()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
