import pytest
import torch
from torch import nn

from crossview.detector.anchors import AnchorGrid
from crossview.detector.efficientnet_lite import EfficientNetLite0
from crossview.detector.ssd import SSD

SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
RATIOS = ((1, 2, 1 / 2), *((1, 2, 1 / 2, 3, 1 / 3),) * 3, (1, 2, 1 / 2), (1, 2, 1 / 2))
STAGES = ((8, 16, 2, 1, 3), (8, 16, 1, 0, 3), (8, 16, 1, 0, 3))
NORMS = 48  # batch normalisation layers up to stride 32: 288 tensors, six for each and its convolution


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def statistics(network: nn.Module) -> torch.Tensor:
    return torch.cat([values for name, values in network.named_buffers() if "running" in name])


def gradient(network: nn.Module, name: str) -> torch.Tensor:
    values = network.get_parameter(name).grad
    assert values is not None
    return values


@pytest.mark.parametrize(
    ("pyramid_channels", "widths"),
    [(None, (40, 112, 320)), (24, (24, 24, 24))],  # 24 channels: normalised in 8 groups instead of 32
)
def test_feature_maps(pyramid_channels, widths):
    network = EfficientNetLite0(pyramid_channels=pyramid_channels)
    assert network.out_channels == widths
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 64, 96))
        assert [tuple(features.shape[1:]) for features in maps] == [
            (widths[0], 8, 12),
            (widths[1], 4, 6),
            (widths[2], 2, 3),
        ]


def test_pyramid_maps_have_one_scale_and_are_after_relu():
    network = EfficientNetLite0("imagenet", pyramid_channels=32).eval()
    images = torch.randint(0, 256, (1, 3, 128, 192), dtype=torch.uint8)
    with torch.no_grad():
        maps = network(network.preprocessing.apply(images))
    for features in maps:
        assert features.min() == 0
        assert 0.5 < features.square().mean().sqrt() < 0.9  # the positive half of a unit normal: 0.71


def test_deep_maps_reach_the_finest_map_of_the_pyramid():
    network = EfficientNetLite0(pyramid_channels=8)
    (network(torch.randn(1, 3, 64, 64))[0].sum()).backward()
    assert gradient(network, "features.blocks.6.0.conv_pwl.weight").any()


@pytest.mark.parametrize(("size", "count"), [((300, 600), 17292), ((300, 300), 8732)])
def test_ssd_has_the_anchors_of_ssd300(size, count):
    backbone = EfficientNetLite0(pyramid_channels=8)
    network = SSD(backbone, 2, size, AnchorGrid(SCALES, RATIOS), STAGES, normalize_first_map=False)
    with torch.no_grad():
        output = network(torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8))
    assert output.logits.shape == (1, count, 3)
    assert output.offsets.shape == (1, count, 4)
    assert network.anchors.shape == (count, 4)


@pytest.mark.parametrize("freeze_norms", [True, False])
def test_gradients_reach_every_parameter(freeze_norms):
    backbone = EfficientNetLite0("imagenet", pyramid_channels=8, freeze_norms=freeze_norms)
    grid = AnchorGrid(SCALES[:4], RATIOS[:3])
    network = SSD(backbone, 2, (64, 96), grid, (), normalize_first_map=False)
    output = network(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    (output.logits.square().sum() + output.offsets.square().sum()).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert silent == []
    assert gradient(backbone, "features.conv_stem.weight").any()
    assert gradient(backbone, "features.bn1.bias").any()


def test_frozen_norms_keep_their_statistics_in_training():
    network = EfficientNetLite0("imagenet", pyramid_channels=8)
    before = statistics(network)
    images = torch.randn(2, 3, 64, 64)
    trained = network.train()(images)
    assert len(norms(network)) == NORMS
    assert torch.equal(statistics(network), before)
    assert network.training
    # Training and evaluation see the same features.
    for one, other in zip(trained, network.eval()(images), strict=True):
        assert torch.equal(one, other)
    network.train()
    assert not any(norm.training for norm in norms(network))


def test_norms_that_are_not_frozen_learn_statistics_but_none_from_the_construction():
    backbone = EfficientNetLite0("imagenet", freeze_norms=False)
    before = statistics(backbone)
    SSD(backbone, 2, (64, 64), AnchorGrid(SCALES[:4], RATIOS[:3]), ())
    assert torch.equal(statistics(backbone), before)
    assert all(norm.training for norm in norms(backbone))
    backbone(torch.randn(2, 3, 64, 64))
    assert not torch.equal(statistics(backbone), before)


def test_state_dict_round_trip():
    source = EfficientNetLite0("imagenet", pyramid_channels=8, std=(100, 110, 120)).eval()
    restored = EfficientNetLite0(pyramid_channels=8).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = source(source.preprocessing.apply(images))
        assert not torch.allclose(restored(restored.preprocessing.apply(images))[0], expected[0])
        restored.load_state_dict(source.state_dict())
        for one, other in zip(restored(restored.preprocessing.apply(images)), expected, strict=True):
            assert torch.equal(one, other)


def test_only_random_layers_without_norm_are_to_be_calibrated():
    # All of this backbone's convolutions are normalised; the extra layers of SSD are not.
    backbone = EfficientNetLite0(pyramid_channels=8)
    assert backbone.plain_convolutions() == []
    network = SSD(backbone, 1, (300, 300), AnchorGrid(SCALES, RATIOS), STAGES, normalize_first_map=False)
    assert network.plain_convolutions() == [layer for layer in network.extras.modules() if isinstance(layer, nn.Conv2d)]
    assert len(network.plain_convolutions()) == 6


def test_images_that_are_not_standardised_are_refused():
    with pytest.raises(TypeError, match=r"preprocessing\.apply"):
        EfficientNetLite0()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
