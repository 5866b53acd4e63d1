"""Readers of trained SSD300 and SSD512 files; each gives the tensors under the names of our detector.

Nothing that a file contains is executed. The formats are told apart by what is in the file, not by its name:

* ssd_keras: HDF5 of ``save_weights`` or of a whole model, one group a layer, ``conv1_1`` ... ``fc7``, ``conv6_1`` ...
  ``conv9_2`` (``conv10_2`` in SSD512), ``conv4_3_norm``, and two heads a feature map, ``fc7_mbox_conf`` and
  ``fc7_mbox_loc``.
* ssd.pytorch: state dict ``vgg.0.weight`` ... ``vgg.33.bias``, ``L2Norm.weight``, ``extras.0.weight`` ...,
  ``loc.0.weight`` ..., ``conf.0.weight`` ...; its SSD512 forks have ten extras and seven heads.
* torchvision: state dict of ``ssd300_vgg16``, ``backbone.features.0.weight`` ...
* own checkpoints: see `crossview.detector.transfer.checkpoints`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.transfer.checkpoints import is_checkpoint, trained_file
from crossview.detector.transfer.files import AnchorFacts, Tower, TrainedFile
from crossview.detector.weight_files import (
    CAFFE_PORT_INDEX,
    SEQUENTIAL_INDEX,
    caffe_preprocessing,
    keras_tensors,
    load_plain_file,
    shortened,
)

MAX_STAGES = 5  # extra stages of the deepest network, SSD512
# The layers of ssd_keras whose output is a feature map, from the largest map on.
_KERAS_MAPS = ("conv4_3_norm", "fc7", *(f"conv{stage}_2" for stage in range(6, 6 + MAX_STAGES)))
# torchvision subtracts these from images in 0..1, which it scales back to 0..255 by its standard deviation.
_TORCHVISION = Preprocessing((0.48235 * 255, 0.45882 * 255, 0.40784 * 255), std=(1, 1, 1), channel_order="rgb")
_FORMATS = (
    "a checkpoint of a training run (RUN_FOLDER/checkpoints/best.ckpt), an SSD300 or SSD512 of ssd_keras (.h5), an SSD "
    "of ssd.pytorch (.pth with keys vgg.0.weight ... conf.0.weight), or the state dict of torchvision's ssd300_vgg16"
)


def read_trained_file(path: Path) -> TrainedFile:
    """Reads a trained detector in whichever of the known formats it is.

    Raises:
        DataError: If the file is missing, damaged, in none of the formats, or holds more than plain data.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; nothing is downloaded by this package. Expected {_FORMATS}")
    if h5py.is_hdf5(path):
        return _read_keras(path)
    content = load_plain_file(path, _FORMATS)
    if not isinstance(content, dict):
        raise _unknown_format(path, type(content).__name__)
    if is_checkpoint(content):
        return trained_file(path, content)
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if "vgg.0.weight" in state and "conf.0.weight" in state:
        tower, unused = _renamed(state, _ssd_pytorch_layers())
        usual = caffe_preprocessing({"conv1_1.weight": state["vgg.0.weight"]}, usual="rgb")
        return TrainedFile("ssd.pytorch", (Tower(*tower, usual),), unused)
    if "backbone.features.0.weight" in state and "head.classification_head.module_list.0.weight" in state:
        tower, unused = _renamed(state, _torchvision_layers())
        return TrainedFile("torchvision", (Tower(*tower, _TORCHVISION),), unused)
    raise _unknown_format(path, shortened(map(str, content)))


def keras_layers() -> dict[str, str]:
    """Layers of the detector by their names in ssd_keras; those of SSD300 are the first ones of SSD512."""
    layers = {layer: f"backbone.{layer}" for layer in CAFFE_PORT_INDEX} | {"conv4_3_norm": "normalization"}
    for stage in range(MAX_STAGES):
        layers[f"conv{6 + stage}_1"] = f"extras.stages.{stage}.0"
        layers[f"conv{6 + stage}_2"] = f"extras.stages.{stage}.2"
    for number, layer in enumerate(_KERAS_MAPS):
        layers[f"{layer}_mbox_conf"] = f"class_heads.{number}"
        layers[f"{layer}_mbox_loc"] = f"box_heads.{number}"
    return layers


def _ssd_pytorch_layers() -> dict[str, str]:
    """Layers of the detector by their names in ssd.pytorch."""
    layers = {f"vgg.{index}": f"backbone.{layer}" for layer, index in CAFFE_PORT_INDEX.items()}
    layers["L2Norm"] = "normalization"
    for number in range(2 * MAX_STAGES):  # without the ReLUs between them
        layers[f"extras.{number}"] = f"extras.stages.{number // 2}.{number % 2 * 2}"
    return layers | _heads("conf.{}", "loc.{}")


def _torchvision_layers() -> dict[str, str]:
    """Layers of the detector by their names in torchvision, which cuts VGG16 behind conv4_3."""
    layers = {"backbone.extra.0.7.1": "backbone.fc6", "backbone.extra.0.7.3": "backbone.fc7"}
    for layer, index in SEQUENTIAL_INDEX.items():
        place = f"features.{index}" if index < 23 else f"extra.0.{index - 23}"
        layers[f"backbone.{place}"] = f"backbone.{layer}"
    for stage in range(MAX_STAGES):
        for position in (0, 2):
            layers[f"backbone.extra.{1 + stage}.{position}"] = f"extras.stages.{stage}.{position}"
    return layers | _heads("head.classification_head.module_list.{}", "head.regression_head.module_list.{}")


def _heads(classes: str, boxes: str) -> dict[str, str]:
    numbers = range(2 + MAX_STAGES)
    return {classes.format(number): f"class_heads.{number}" for number in numbers} | {
        boxes.format(number): f"box_heads.{number}" for number in numbers
    }


def _renamed(
    state: Mapping[str, Tensor], layers: Mapping[str, str]
) -> tuple[tuple[dict[str, Tensor], dict[str, str]], tuple[str, ...]]:
    """Tensors and keys by the detector's names, and the keys that have none."""
    names = {f"{key}.{kind}": f"{layer}.{kind}" for key, layer in layers.items() for kind in ("weight", "bias")}
    names |= {"L2Norm.weight": "normalization.scale", "backbone.scale_weight": "normalization.scale"}
    keys = {names[key]: key for key in state if key in names}
    return ({name: state[key] for name, key in keys.items()}, keys), tuple(key for key in state if key not in names)


def _read_keras(path: Path) -> TrainedFile:
    """Reads an SSD300 or SSD512 of ssd_keras.

    Raises:
        DataError: If there are no class heads in it, or it was trained with other box coordinates.
    """
    layers = keras_layers()
    found, found_keys, unused = keras_tensors(path, layers)
    names = {
        name: "normalization.scale" if layer == "conv4_3_norm" else f"{layers[layer]}.{kind}"
        for name in found
        for layer, _, kind in [name.rpartition(".")]
    }
    tensors = {names[name]: tensor for name, tensor in found.items()}
    if "class_heads.0.weight" not in tensors:
        raise _unknown_format(path, shortened([*found_keys.values(), *unused]))
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    tower = Tower(
        tensors, {names[name]: key for name, key in found_keys.items()}, caffe_preprocessing(backbone, usual="bgr")
    )
    return TrainedFile("ssd_keras", (tower,), unused, anchors=_keras_anchors(path))


def _keras_anchors(path: Path) -> AnchorFacts:
    """What the description of a whole model tells about its anchors; nothing in a file of weights only."""
    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        return AnchorFacts()
    try:
        boxes: dict[str, Any] = {
            layer["config"]["name"].removesuffix("_mbox_priorbox"): layer["config"]
            for layer in json.loads(text)["config"]["layers"]
            if layer["class_name"] == "AnchorBoxes"
        }
        maps = [boxes[layer] for layer in _KERAS_MAPS if layer in boxes]
        coordinates = {str(settings["coords"]) for settings in maps}
        ratios = [_keras_ratios(settings["aspect_ratios"], settings["two_boxes_for_ar1"]) for settings in maps]
        scales = [float(settings["this_scale"]) for settings in maps] + [float(maps[-1]["next_scale"])]
        variances = [float(value) for value in maps[0]["variances"]]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: model_config: not as ssd_keras writes it ({error!r}); get the file anew") from error
    if coordinates != {"centroids"}:
        raise DataError(
            f"{path}: model_config: the boxes are coded as {shortened(sorted(coordinates))}; expected centroids, the "
            "only coding of this detector. The backbone alone can be used: model.backbone.weights"
        )
    return AnchorFacts(ratios, scales, variances)


def _keras_ratios(ratios: list[float], two_boxes: bool) -> list[float]:
    """Aspect ratios of a cell's anchors in ssd_keras: the order of its config, the larger square behind the smaller."""
    return [float(ratio) for ratio in ratios for _ in range(2 if two_boxes and ratio == 1 else 1)]


def _unknown_format(path: Path, found: str) -> DataError:
    return DataError(
        f"{path}: no trained detector of a known format: found {found}; expected {_FORMATS}. Weights of VGG16 alone go "
        "to model.backbone.weights"
    )
