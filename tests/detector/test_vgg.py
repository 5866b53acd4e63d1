import dataclasses

import pytest
import torch

from crossview.detector.preprocessing import SCRATCH, Preprocessing
from crossview.detector.vgg import RANDOM_SHARE, VGG16


def narrow(**arguments) -> VGG16:
    return VGG16(channels=(4, 4, 4, 4, 4), fc_channels=8, **arguments)


@pytest.mark.parametrize(
    ("size", "conv4_3", "fc7"),
    [
        ((300, 600), (38, 75), (19, 38)),  # the panorama: two edges that do not halve evenly, 75 and 37.5
        ((300, 300), (38, 38), (19, 19)),  # SSD300
        ((512, 512), (64, 64), (32, 32)),  # SSD512
    ],
)
def test_feature_map_sizes(size, conv4_3, fc7):
    features = narrow()(torch.zeros(2, 3, *size))
    assert features.conv4_3.shape == (2, 4, *conv4_3)
    assert features.fc7.shape == (2, 8, *fc7)


def test_layers_have_the_shapes_of_the_published_network():
    layers = VGG16().convolutions()
    assert list(layers) == [
        *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
        *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3", "fc6", "fc7"),
    ]
    assert layers["conv4_1"].weight.shape == (512, 256, 3, 3)
    assert layers["fc6"].weight.shape == (1024, 512, 3, 3)
    assert (layers["fc6"].dilation, layers["fc6"].padding) == ((6, 6), (6, 6))
    assert layers["fc7"].weight.shape == (1024, 1024, 1, 1)
    # The 20,483,904 parameters of SSD's base network.
    assert sum(parameter.numel() for layer in layers.values() for parameter in layer.parameters()) == 20_483_904


def test_random_start_keeps_the_size_of_the_activations():
    torch.manual_seed(0)
    network = VGG16(channels=(32, 32, 64, 64, 64), fc_channels=128)
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        features = network(network.preprocessing.apply(images))
    # A gain off by sqrt(2) a layer would give a factor of 2 ** 15 in the mean square.
    for feature_map in features:
        assert 0.3 < feature_map.square().mean().item() < 30
    biases = [parameter for name, parameter in network.named_parameters() if name.endswith("bias")]
    assert len(biases) == 15
    assert not any(bias.any() for bias in biases)


def test_random_start_lets_maps_through_where_channels_agree():
    torch.manual_seed(0)
    layers = VGG16(channels=(32, 64, 64, 64, 96), fc_channels=96).convolutions()
    middles = {
        name: layer.weight[:, :, 1, 1].diagonal().mean().item() for name, layer in layers.items() if name != "fc7"
    }
    letting = {name for name, middle in middles.items() if middle > 0.5}
    assert letting == {"conv1_2", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2", "conv4_3"} | {
        "conv5_2",
        "conv5_3",
    }
    others = layers["conv3_2"].weight.flatten(2)[:, :, [0, 1, 2, 3, 5, 6, 7, 8]]
    assert others.std().item() == pytest.approx(RANDOM_SHARE * (2 / (9 * 64)) ** 0.5, rel=0.02)


def test_maps_are_after_relu_and_gradients_reach_the_first_layer():
    torch.manual_seed(0)
    network = narrow()
    features = network(torch.randn(1, 3, 64, 64))
    assert features.conv4_3.min() == 0
    assert features.fc7.min() == 0
    (features.conv4_3.sum() + features.fc7.sum()).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name in ("conv1_1.weight", "fc7.weight"):
        gradient = gradients[name]
        assert gradient is not None
        assert gradient.any()


def test_forward_refuses_images_that_are_not_standardised():
    with pytest.raises(TypeError, match=r"preprocessing\.apply"):
        narrow()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_wrong_number_of_blocks_is_an_error():
    with pytest.raises(ValueError, match="expected 5 numbers"):
        VGG16(channels=(4, 4))


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (SCRATCH, (0.0, 1.0, -2.0)),  # (123 - 123) / 58, (174 - 117) / 57, (-10 - 104) / 57
        (Preprocessing((104, 117, 123), (1, 1, 1), "bgr"), (-114.0, 57.0, 0.0)),  # blue comes first
        (Preprocessing((123, 117, 104), (1, 1, 1), "rgb"), (0.0, 57.0, -114.0)),
    ],
)
def test_preprocessing_by_hand(preprocessing, expected):
    # Red 123, green 174, blue -10: floats may leave 0..255, as after augmentation.
    images = torch.tensor([123.0, 174.0, -10.0])[:, None, None].expand(3, 2, 4)
    standardised = preprocessing.apply(images)
    assert standardised.shape == (3, 2, 4)
    assert standardised[:, 1, 3].tolist() == pytest.approx(expected)


def test_preprocessing_takes_bytes_and_leaves_them_alone():
    images = torch.full((2, 5, 3, 4, 6), 181, dtype=torch.uint8)  # pairs of views have five dimensions
    standardised = SCRATCH.apply(images)
    assert standardised.dtype == torch.float32
    assert standardised[1, 4, 0, 3, 5] == 1  # (181 - 123) / 58
    assert images.unique().tolist() == [181]


@pytest.mark.parametrize("channel_order", ["rgb", "bgr"])
def test_preprocessing_keeps_channels_last(channel_order):
    images = torch.zeros(2, 3, 8, 10, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    standardised = SCRATCH.reordered(channel_order).apply(images)
    assert standardised.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, 2), (1, 1, 1), "rgb"), "three numbers"),  # a mean for two channels
        (((1, 2, 3), (1, 0, 1), "rgb"), "positive"),  # division by zero
        (((1, 2, 3), (1, 1, 1), "hsv"), "channel_order"),  # unknown order
    ],
)
def test_malformed_preprocessing_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(*arguments)


def test_preprocessing_refuses_images_in_height_width_channel_order():
    with pytest.raises(ValueError, match=r"\(8, 10, 3\)"):
        SCRATCH.apply(torch.zeros(8, 10, 3))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, SCRATCH),  # what belongs to the weights
        ({"mean": (1, 2, 3)}, dataclasses.replace(SCRATCH, mean=(1, 2, 3))),
        ({"std": [1, 1, 1]}, dataclasses.replace(SCRATCH, std=(1, 1, 1))),  # configs give lists
        ({"channel_order": "bgr"}, Preprocessing((104, 117, 123), (57, 57, 58), "bgr")),  # mean moves with its channel
        ({"mean": (1, 2, 3), "channel_order": "bgr"}, Preprocessing((1, 2, 3), (57, 57, 58), "bgr")),  # as given
    ],
)
def test_overrides(overrides, expected):
    assert narrow(**overrides).preprocessing == expected


def test_state_dict_carries_the_preprocessing():
    trained = narrow(mean=(1.5, 2, 3), std=(4, 5, 6), channel_order="bgr")
    state = trained.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    restored = narrow()
    restored.load_state_dict(state)
    assert restored.preprocessing == trained.preprocessing
