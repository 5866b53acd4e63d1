"""The calibrated start: every layer centred and scaled on real images, nothing else changed."""

import pytest
import torch
from torch import nn

from crossview.detector.calibration import MIN_DEVIATION, calibrate_start
from crossview.detector.vgg import VGG16


def outputs_by_layer(network, images):
    seen = {}
    handles = [
        layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.detach().clone()}))
        for name, layer in network.convolutions().items()
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return seen


def test_every_channel_of_every_layer_is_centred_and_scaled():
    torch.manual_seed(0)
    network = VGG16(channels=(4, 4, 8, 8, 8), fc_channels=16)
    images = 3.0 + 2.0 * torch.randn(4, 3, 64, 96)
    assert calibrate_start(network, network.convolutions().values(), images) == 15
    for name, output in outputs_by_layer(network, images).items():
        assert output.mean(dim=(0, 2, 3)).abs().max() < 1e-3, name
        assert (output.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3, name


def test_places_are_told_apart_after_calibration():
    """The reason for it: random deep ReLU features of different places are almost parallel."""
    torch.manual_seed(0)
    network = VGG16(channels=(16, 16, 32, 32, 32), fc_channels=16)
    images = torch.randn(2, 3, 64, 96)

    def mean_cosine():
        with torch.no_grad():
            features = network(images).conv4_3.movedim(1, -1).flatten(0, 2)
        unit = nn.functional.normalize(features, dim=1)
        return float((unit @ unit.T).mean())

    before = mean_cosine()
    calibrate_start(network, network.convolutions().values(), images)
    assert mean_cosine() < 0.6 * before


def test_a_channel_without_variation_stays_finite():
    layer = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        layer.weight[0] = 0.0
    calibrate_start(layer, [layer], torch.randn(2, 3, 8, 8))
    output = layer(torch.randn(2, 3, 8, 8))
    assert torch.isfinite(output).all()
    assert layer.weight[0].abs().max() == 0.0
    assert layer.bias is not None
    assert layer.bias[0].abs() <= 1.0 / MIN_DEVIATION


def test_hooks_are_gone_afterwards_also_after_an_error():
    layer = nn.Conv2d(3, 2, 1)
    with pytest.raises(RuntimeError):
        calibrate_start(layer, [layer], torch.randn(2, 4, 8, 8))
    weight = layer.weight.detach().clone()
    layer(torch.randn(2, 3, 8, 8))
    assert torch.equal(layer.weight, weight)


def test_a_network_in_evaluation_is_refused():
    network = VGG16(channels=(4, 4, 8, 8, 8), fc_channels=16).eval()
    with pytest.raises(ValueError, match=r"call train\(\) first"):
        calibrate_start(network, network.convolutions().values(), torch.randn(2, 3, 64, 96))
