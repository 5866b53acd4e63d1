import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.vgg import VGG16
from crossview.detector.weight_files import subsample
from crossview.detector.weights import load_vgg_weights

CHANNELS = (4, 5, 6, 7, 8)
FC_CHANNELS = 4
# Written out, not derived from the code under test.
CAFFE_PORT = {
    "conv1_1": "0", "conv1_2": "2", "conv2_1": "5", "conv2_2": "7", "conv3_1": "10", "conv3_2": "12", "conv3_3": "14",
    "conv4_1": "17", "conv4_2": "19", "conv4_3": "21", "conv5_1": "24", "conv5_2": "26", "conv5_3": "28",
    "fc6": "31", "fc7": "33",
}  # fmt: skip
ORIGINAL_FIRST_TAP = (0.42947057, 0.55037946, 0.48001540)  # blue, green, red of the Caffe model

Values = dict[str, Tensor]


def narrow(**arguments) -> VGG16:
    return VGG16(channels=CHANNELS, fc_channels=FC_CHANNELS, **arguments)


@pytest.fixture
def values() -> Values:
    """Random values for every tensor of the narrow network, under backbone names."""
    generator = torch.Generator().manual_seed(7)
    return {
        f"{layer}.{kind}": torch.randn(parameter.shape, generator=generator)
        for layer, module in narrow().convolutions().items()
        for kind, parameter in module.named_parameters()
    }


def write_keras(path: Path, values: Values, names: tuple[str, str] = ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"), root="/"):
    """Writes kernels as HWIO; `names` are the data sets of kernel and bias within the root, {0} is the layer."""
    with h5py.File(path, "w") as file:
        for name, tensor in values.items():
            layer, kind = name.split(".")
            array = tensor.permute(2, 3, 1, 0).numpy() if kind == "weight" else tensor.numpy()
            file[root + names[kind == "bias"].format(layer)] = array


def write_caffe_port(path: Path, values: Values):
    torch.save({name.replace(layer, key): values[name] for layer, key in CAFFE_PORT.items()
                for name in (f"{layer}.weight", f"{layer}.bias")}, path)  # fmt: skip


def torchvision_state(values: Values) -> Values:
    """State dict of a narrow torchvision VGG16 whose sub-sampled fc6 and fc7 are those of `values`."""
    state = {f"features.{CAFFE_PORT[name.split('.')[0]]}.{name.split('.')[1]}": tensor
             for name, tensor in values.items() if name.startswith("conv")}  # fmt: skip
    fc6 = torch.full((4 * FC_CHANNELS, CHANNELS[-1], 7, 7), 99.0)
    fc6[::4, :, ::3, ::3] = values["fc6.weight"]
    fc7 = torch.full((4 * FC_CHANNELS, 4 * FC_CHANNELS), 99.0)
    fc7[::4, ::4] = values["fc7.weight"][:, :, 0, 0]
    biases = {kind: torch.full((4 * FC_CHANNELS,), 99.0) for kind in ("fc6", "fc7")}
    for kind, bias in biases.items():
        bias[::4] = values[f"{kind}.bias"]
    state |= {"classifier.0.weight": fc6.flatten(1), "classifier.0.bias": biases["fc6"]}
    state |= {"classifier.3.weight": fc7, "classifier.3.bias": biases["fc7"]}
    return state | {"classifier.6.weight": torch.zeros(10, 4 * FC_CHANNELS), "classifier.6.bias": torch.zeros(10)}


def write_torchvision(path: Path, values: Values):
    torch.save(torchvision_state(values), path)


IMAGENET = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb")
BGR = Preprocessing((104, 117, 123), (1, 1, 1), "bgr")
RGB = Preprocessing((123, 117, 104), (1, 1, 1), "rgb")


@pytest.mark.parametrize(
    ("write", "source", "preprocessing", "unused"),
    [
        (write_keras, "Keras", BGR, 0),  # ssd_keras swaps RGB to BGR after subtracting the mean
        (write_caffe_port, "Caffe port", RGB, 0),  # ssd.pytorch swaps OpenCV's BGR to RGB
        (write_torchvision, "torchvision", IMAGENET, 2),  # classifier.6 is not a part of the backbone
    ],
)
def test_every_format_arrives_complete(tmp_path, values, write, source, preprocessing, unused):
    path = tmp_path / "weights.bin"  # the name says nothing
    write(path, values)
    network = narrow()
    report = load_vgg_weights(network, path)
    state = network.state_dict()
    for name, tensor in values.items():
        assert torch.equal(state[name], tensor), name
    assert report.source.startswith(source)
    assert len(report.matched) == 15
    assert report.missing == ()
    assert len(report.unused) == unused
    for found in (report.preprocessing, network.preprocessing):
        assert found.channel_order == preprocessing.channel_order
        assert found.mean == pytest.approx(preprocessing.mean)
        assert found.std == pytest.approx(preprocessing.std)


@pytest.mark.parametrize(
    ("names", "root"),
    [
        (("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"), "/"),  # Keras 1, as VGG_ILSVRC_16_layers_fc_reduced.h5
        (("{0}/{0}_W", "{0}/{0}_b"), "/"),  # Keras 1 on Theano
        (("{0}/{0}/kernel:0", "{0}/{0}/bias:0"), "/"),  # Keras 2, save_weights
        (("{0}/{0}/kernel:0", "{0}/{0}/bias:0"), "/model_weights/"),  # Keras 2, a whole model
        (("{0}/kernel:0", "{0}/bias:0"), "/model_weights/vgg/"),  # Keras 2, the network nested in another
    ],
)
def test_keras_names(tmp_path, values, names, root):
    write_keras(tmp_path / "weights.h5", values, names, root)
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        file[f"{root}conv6_1/conv6_1/kernel:0"] = np.zeros((1, 1, 4, 2))  # a further layer of SSD
        if root != "/":
            file["optimizer_weights/conv1_1/kernel/m:0"] = np.zeros((3, 3, 3, 4))
    report = load_vgg_weights(narrow(), tmp_path / "weights.h5")
    assert len(report.matched) == 15
    assert [key.rpartition("conv6_1/")[2] for key in report.unused] == ["kernel:0"]


def test_keras_kernels_are_transposed(tmp_path, values):
    kernel = np.arange(3 * 3 * 3 * 4, dtype=np.float32).reshape(3, 3, 3, 4)  # height, width, input, output
    write_keras(tmp_path / "weights.h5", values)
    with h5py.File(tmp_path / "weights.h5", "a") as file:
        file["conv1_1/conv1_1_W_1:0"][...] = kernel
    network = narrow(weights=tmp_path / "weights.h5")
    layer = network.convolutions()["conv1_1"]
    # Row 2, column 0, input channel 1, output channel 3: ((2 * 3 + 0) * 3 + 1) * 4 + 3.
    assert layer.weight[3, 1, 2, 0] == 79

    # One output of the convolution, summed up by hand as Keras defines it.
    image = np.random.default_rng(0).random((5, 6, 3))
    expected = np.einsum("hwi,hwio->o", image[1:4, 2:5], kernel) + values["conv1_1.bias"].numpy()
    output = layer(torch.from_numpy(image).float().permute(2, 0, 1)[None])
    assert output[0, :, 2, 3].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("first_tap", "order"),
    [
        (ORIGINAL_FIRST_TAP, "bgr"),  # kernels as in Caffe
        (ORIGINAL_FIRST_TAP[::-1], "rgb"),  # a port that swapped them
    ],
)
@pytest.mark.parametrize("write", [write_keras, write_caffe_port])
def test_channel_order_is_seen_from_the_original_kernels(tmp_path, values, write, first_tap, order):
    values["conv1_1.weight"][0, :, 0, 0] = torch.tensor(first_tap)
    write(tmp_path / "weights", values)
    assert load_vgg_weights(narrow(), tmp_path / "weights").preprocessing == (BGR if order == "bgr" else RGB)


def test_explicit_preprocessing_wins_over_that_of_the_weights(tmp_path, values):
    write_keras(tmp_path / "weights.h5", values)
    network = narrow(weights=tmp_path / "weights.h5", mean=(1, 2, 3))
    assert network.preprocessing == Preprocessing((1, 2, 3), (1, 1, 1), "bgr")


@pytest.mark.parametrize(
    ("shape", "target", "kept"),
    [
        ((8,), (2,), [0, 4]),  # bias of fc6: 4096 -> 1024, every 4th
        ((7,), (3,), [0, 3, 6]),  # taps of fc6
        ((5,), (5,), [0, 1, 2, 3, 4]),  # inputs of fc6: all
    ],
)
def test_subsample_keeps_evenly_spaced_entries(shape, target, kept):
    assert subsample(torch.arange(*shape), target).tolist() == kept


def test_subsample_in_four_dimensions():
    tensor = torch.arange(8 * 2 * 7 * 7).reshape(8, 2, 7, 7)
    thinned = subsample(tensor, (2, 2, 3, 3))
    assert thinned[1, 1, 2, 1] == tensor[4, 1, 6, 3]


@pytest.mark.parametrize("target", [(4,), (6,), (2, 2)])  # uneven, larger, other rank
def test_subsample_refuses_what_does_not_fit(target):
    with pytest.raises(ValueError, match="thinned out"):
        subsample(torch.zeros(5), target)


def rename_layers(values: Values) -> Values:
    """Layer names with a suffix, as a two-tower network saves them."""
    return {name.replace(".", "__1."): tensor for name, tensor in values.items()}


def without(name: str) -> Callable[[Values], Values]:
    return lambda values: {key: tensor for key, tensor in values.items() if key != name}


def replaced(name: str, tensor: Tensor) -> Callable[[Values], Values]:
    return lambda values: values | {name: tensor}


def features_only(values: Values) -> Values:
    return {key: tensor for key, tensor in torchvision_state(values).items() if key.startswith("features")}


def with_fc6(weight: Tensor) -> Callable[[Values], Values]:
    return lambda values: {**torchvision_state(values), "classifier.0.weight": weight}


def nan_classifier(values: Values) -> Values:
    return {
        key: tensor * float("nan") if key.startswith("classifier") else tensor
        for key, tensor in torchvision_state(values).items()
    }


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (write_keras, rename_layers, r"found conv1_1__1.*expected groups conv1_1"),  # nothing fits: no silent success
        (write_keras, without("fc7.bias"), r"1 of the backbone's 30 tensors[^$]*missing   1  fc7\.bias"),
        (write_keras, replaced("conv3_1.weight", torch.zeros(9, 5, 3, 3)), r"\(9, 5, 3, 3\).*\(6, 5, 3, 3\)"),
        (write_keras, replaced("conv3_1.bias", torch.full((6,), float("inf"))), "conv3_1.bias: found NaN or infinity"),
        (write_caffe_port, replaced("fc6.weight", torch.zeros(4, 8, 7, 7)), r"fc6.weight.*\(4, 8, 7, 7\)"),
        (torch.save, features_only, "classifier.0"),  # torchvision without its linear layers
        (torch.save, nan_classifier, "IMAGENET1K_V1"),  # torchvision's IMAGENET1K_FEATURES
        (torch.save, with_fc6(torch.zeros(16, 8)), r"8 \* 7 \* 7"),  # not flattened from 7 x 7
        (torch.save, with_fc6(torch.zeros(16, 2 * 8 * 7 * 7)), r"8 \* 7 \* 7"),  # twice as many inputs
        (torch.save, with_fc6(torch.zeros(3, 8 * 7 * 7)), "multiple of the 4"),  # fewer outputs than fc6
        (torch.save, lambda values: {"backbone.body.0.weight": torch.zeros(1)}, "found backbone.body.0.weight"),
        (torch.save, lambda values: {"epoch": 3, "name": "x"}, "found epoch, name"),  # no tensors at all
        (torch.save, lambda values: torch.zeros(3), "found Tensor"),  # not a state dict
        (torch.save, lambda values: {}, "found nothing"),
    ],
)
def test_unfit_files_change_nothing(tmp_path, values, write, change, message):
    path = tmp_path / "weights"
    content = change(values)
    if write is torch.save:
        torch.save(content, path)
    else:
        write(path, content)
    network = narrow()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(DataError, match=message) as caught:
        load_vgg_weights(network, path)
    assert str(path) in str(caught.value)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_missing_layer_of_a_state_dict_is_named(tmp_path, values):
    state = torchvision_state(values)
    del state["features.21.weight"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"missing   1  conv4_3\.weight"):
        load_vgg_weights(narrow(), tmp_path / "weights.pth")


class Payload:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])  # both layouts that torch.save has written over the years
def test_code_in_a_file_is_refused_and_not_run(tmp_path, values, zipped):
    trace = tmp_path / "trace"
    torch.save({**values, "0.weight": Payload(trace)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match="code in weights files is not run"):
        load_vgg_weights(narrow(), tmp_path / "w.pth")
    assert not trace.exists()


def test_state_dicts_in_the_old_layout_are_read(tmp_path, values):
    state = {key.replace(layer, index): tensor for key, tensor in values.items()
             for layer, index in CAFFE_PORT.items() if key.startswith(layer)}  # fmt: skip
    torch.save(state, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert len(load_vgg_weights(narrow(), tmp_path / "weights.pth").matched) == 15


@pytest.mark.parametrize("write", [write_keras, write_caffe_port])
def test_truncated_file(tmp_path, values, write):
    path = tmp_path / "weights"
    write(path, values)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=str(path)):
        load_vgg_weights(narrow(), path)


@pytest.mark.parametrize("content", [b"", b"not weights\n", b"<html>not found</html>"])
def test_files_of_another_kind(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as"):
        load_vgg_weights(narrow(), tmp_path / "weights.pth")


def test_missing_file_says_where_to_get_one(tmp_path):
    with pytest.raises(DataError, match=r"absent\.pth: no such.*not downloaded.*torchvision"):
        narrow(weights=tmp_path / "absent.pth")


def test_report_is_a_short_table(tmp_path, values, caplog):
    write_torchvision(tmp_path / "weights.pth", values)
    with caplog.at_level("INFO", logger="crossview.detector"):
        report = load_vgg_weights(narrow(), tmp_path / "weights.pth")
    lines = str(report).splitlines()
    assert lines[0] == f"VGG16 weights, torchvision: {tmp_path / 'weights.pth'}"
    assert lines[1].startswith("  matched  15  conv1_1, conv1_2,")
    assert lines[2] == "  missing   0  nothing"
    assert lines[3] == "  unused    2  classifier.6.weight, classifier.6.bias"
    assert lines[4] == "  images  rgb, mean (123.675, 116.28, 103.53), std (58.395, 57.12, 57.375)"
    assert str(report) in caplog.text


def test_full_size_network_reads_a_keras_file(tmp_path):
    source = VGG16()
    write_keras(tmp_path / "weights.h5", {name: tensor for name, tensor in source.state_dict().items() if "." in name})
    network = VGG16(weights=tmp_path / "weights.h5")
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for loaded, original in zip(network(images), source(images), strict=True):
            assert torch.equal(loaded, original)
