"""Readers of the weights files that exist for VGG16; each gives the tensors under the names and shapes of the backbone.

Conventions:
    A backbone tensor is named ``<layer>.weight`` or ``<layer>.bias``; weights are OIHW. Nothing that a file contains is
    executed: pickles are read with ``weights_only=True``.

Three formats are told apart by what is in the file, not by its name:

* Keras: HDF5, one group a layer (``VGG_ILSVRC_16_layers_fc_reduced.h5`` of ssd_keras); kernels are HWIO.
* Caffe port: state dict of an ``nn.Sequential``, ``0.weight`` ... ``33.bias`` (``vgg16_reducedfc.pth`` of ssd.pytorch).
* torchvision: state dict of ``torchvision.models.vgg16``; fc6 and fc7 are sub-sampled as the SSD paper does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import torch
from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.preprocessing import ChannelOrder, Preprocessing

Shapes = Mapping[str, torch.Size]

# The Caffe model is a sub-sampled VGG16 of Simonyan and Zisserman, made for BGR images minus this mean, not scaled.
_CAFFE = Preprocessing(mean=(104, 117, 123), std=(1, 1, 1), channel_order="bgr")
# The original kernels' first tap (filter 0, top left) for blue, green and red.
_CAFFE_FIRST_TAP = (0.42947057, 0.55037946, 0.48001540)
# ImageNet statistics of torchvision's reference training, there written for 0..1.
_TORCHVISION = Preprocessing(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255), channel_order="rgb"
)

# Position in the nn.Sequential of the .pth formats, where ReLUs and pools count too.
SEQUENTIAL_INDEX = {
    "conv1_1": 0, "conv1_2": 2,
    "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14,
    "conv4_1": 17, "conv4_2": 19, "conv4_3": 21,
    "conv5_1": 24, "conv5_2": 26, "conv5_3": 28,
}  # fmt: skip
CAFFE_PORT_INDEX = SEQUENTIAL_INDEX | {"fc6": 31, "fc7": 33}
_CAFFE_PORT_KEYS = {layer: str(index) for layer, index in CAFFE_PORT_INDEX.items()}
_TORCHVISION_KEYS = {layer: f"features.{index}" for layer, index in SEQUENTIAL_INDEX.items()} | {
    "fc6": "classifier.0",
    "fc7": "classifier.3",
}


class WeightsFile(NamedTuple):
    """What a reader found.

    Attributes:
        source: Name of the format.
        tensors: Tensors by backbone name; shapes are not yet checked.
        unused: Keys of the file that the backbone has no use for.
        preprocessing: Standardisation that the weights were trained with.
    """

    source: str
    tensors: dict[str, Tensor]
    unused: tuple[str, ...]
    preprocessing: Preprocessing


def read_weights_file(path: Path, shapes: Shapes) -> WeightsFile:
    """Reads a VGG16 weights file in whichever of the known formats it is.

    Args:
        path: The file.
        shapes: Shapes of the backbone's tensors by name, e.g. ``conv1_1.weight``.

    Raises:
        DataError: If the file is missing, damaged, in none of the formats, or holds more than tensors.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such weights file. Weights are not downloaded by this package; get one of: "
            "vgg16_reducedfc.pth (linked in the README of github.com/amdegroot/ssd.pytorch), "
            "VGG_ILSVRC_16_layers_fc_reduced.h5 (linked in the README of github.com/pierluigiferrari/ssd_keras), or "
            "torchvision's VGG16, which `torch.save(torchvision.models.vgg16(weights='IMAGENET1K_V1').state_dict(), "
            "'vgg16.pth')` fetches and writes on a machine with internet access. Without weights: leave the path null."
        )
    if h5py.is_hdf5(path):
        return _read_keras(path, shapes)
    state = _load_state_dict(path)
    if any(key.startswith("features.") for key in state):
        return _read_torchvision(path, state, shapes)
    if "0.weight" in state:
        return _read_caffe_port(state)
    raise _unknown_format(path, state)


def subsample(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Thins a tensor out to a smaller shape: along each dimension every k-th entry from the first, k = ceil(old / new).

    For fc6 of VGG16, (4096, 512, 7, 7) to (1024, 512, 3, 3), that is every 4th output and the taps 0, 3 and 6.

    Raises:
        ValueError: If evenly spaced entries do not give ``shape``.
    """
    if tensor.ndim == len(shape):
        steps = (slice(None, None, math.ceil(old / new)) for old, new in zip(tensor.shape, shape, strict=True))
        thinned = tensor[tuple(steps)]
        if thinned.shape == torch.Size(shape):
            return thinned
    raise ValueError(f"shape {tuple(tensor.shape)} cannot be thinned out to {tuple(shape)}")


def keras_tensors(path: Path, layers: Collection[str]) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """Reads an HDF5 file with one group a layer, written by Keras 1 or 2, of weights only or of a whole model.

    The names inside a group differ between versions (``conv1_1_W_1:0``, ``kernel:0``), so the kernel is known by its
    four dimensions and the vector (a bias, or the scale of a normalisation) by its one.

    Args:
        path: The file.
        layers: Names of the layers to read.

    Returns:
        Tensors by ``<layer>.weight`` (OIHW) and ``<layer>.bias``, their keys in the file by the same names, and the
        keys of everything else.

    Raises:
        DataError: If the file is damaged or has two kernels or vectors for one layer.
    """
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    unused: list[str] = []
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            datasets: dict[str, h5py.Dataset] = {}
            root.visititems(lambda key, item: datasets.update({key: item}) if isinstance(item, h5py.Dataset) else None)
            for key, dataset in datasets.items():
                layer = next((part for part in key.split("/") if part in layers), None)
                kind = {4: "weight", 1: "bias"}.get(dataset.ndim)
                if layer is None or kind is None:
                    unused.append(key)
                    continue
                name = f"{layer}.{kind}"
                if name in tensors:
                    raise DataError(f"{path}: key {key}: a second {kind} for layer {layer}; expected one a layer")
                values = torch.from_numpy(dataset[()])
                tensors[name] = values.permute(3, 2, 0, 1) if kind == "weight" else values
                keys[name] = key
    except (OSError, RuntimeError, KeyError, TypeError) as error:  # what h5py raises for damaged contents
        raise DataError(f"{path}: damaged HDF5 file ({error}); get the file anew") from error
    return tensors, keys, tuple(unused)


def _read_keras(path: Path, shapes: Shapes) -> WeightsFile:
    """Reads the layers of the backbone out of a Keras file."""
    tensors, _, unused = keras_tensors(path, {name.partition(".")[0] for name in shapes})
    if not tensors:
        raise _unknown_format(path, unused)
    return WeightsFile("Keras", tensors, unused, caffe_preprocessing(tensors, usual="bgr"))


def _read_caffe_port(state: Mapping[str, Tensor]) -> WeightsFile:
    """Renames the state dict of ssd.pytorch's base network."""
    tensors, unused = _renamed(state, _CAFFE_PORT_KEYS)
    return WeightsFile("Caffe port (ssd.pytorch)", tensors, unused, caffe_preprocessing(tensors, usual="rgb"))


def _read_torchvision(path: Path, state: Mapping[str, Tensor], shapes: Shapes) -> WeightsFile:
    """Renames a torchvision state dict and turns the first two linear layers into sub-sampled convolutions."""
    tensors, unused = _renamed(state, _TORCHVISION_KEYS)
    linear = [tensors[name] for name in ("fc6.weight", "fc7.weight") if name in tensors]
    if len(linear) < 2 or not all(weight.isfinite().all() for weight in linear):
        raise DataError(
            f"{path}: torchvision VGG16 without (or with NaN in) classifier.0 and classifier.3, so there is nothing to "
            "make fc6 and fc7 from; expected the full classification weights (IMAGENET1K_V1), not the feature-only ones"
        )
    _, channels, *_ = shapes["fc6.weight"]
    try:
        # torchvision flattens (channels, 7, 7) to feed its first linear layer.
        tensors["fc6.weight"] = tensors["fc6.weight"].reshape(linear[0].shape[0], channels, 7, 7)
        tensors["fc7.weight"] = tensors["fc7.weight"][..., None, None]
        for name in ("fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"):
            if name in tensors:
                tensors[name] = subsample(tensors[name], shapes[name])
    except (ValueError, RuntimeError, IndexError) as error:
        found = {key: tuple(state[key].shape) for key in ("classifier.0.weight", "classifier.3.weight")}
        raise DataError(
            f"{path}: found shapes {found}; expected (n, {channels} * 7 * 7) and (n, n) with n a multiple of the "
            f"{shapes['fc6.weight'][0]} channels of fc6, to sub-sample to {tuple(shapes['fc6.weight'])} ({error})"
        ) from error
    return WeightsFile("torchvision", tensors, unused, _TORCHVISION)


def _renamed(state: Mapping[str, Tensor], keys: Mapping[str, str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns the tensors under backbone names, and the keys that have none."""
    names = {f"{key}.{kind}": f"{layer}.{kind}" for layer, key in keys.items() for kind in ("weight", "bias")}
    tensors = {names[key]: tensor for key, tensor in state.items() if key in names}
    return tensors, tuple(key for key in state if key not in names)


def caffe_preprocessing(tensors: Mapping[str, Tensor], usual: ChannelOrder) -> Preprocessing:
    """Returns the standardisation of a port of the Caffe model, or of a network trained on from one.

    Some ports swap the input channels of the first layer and some do not, and their users disagree about which. The
    kernels themselves tell: they are compared with the original's. Kernels that are neither (trained further) get the
    order in which the port's own project feeds them.

    Args:
        tensors: Tensors by backbone name.
        usual: Order that the port's project uses.
    """
    kernel = tensors.get("conv1_1.weight")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 3:
        first_tap = kernel[0, :, 0, 0].float()
        original = torch.tensor(_CAFFE_FIRST_TAP)
        if torch.allclose(first_tap, original, rtol=0, atol=1e-3):
            return _CAFFE
        if torch.allclose(first_tap, original.flip(0), rtol=0, atol=1e-3):
            return _CAFFE.reordered("rgb")
    return _CAFFE.reordered(usual)


def load_plain_file(path: Path, expected: str) -> object:
    """Loads a file of ``torch.save``; anything in it but tensors, numbers, texts and containers of them is refused.

    Args:
        path: The file.
        expected: Formats that the caller knows, for the message.

    Raises:
        DataError: If the file is damaged, of another kind or holds more than plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(
            f"{path}: cannot be read as a .pth of plain tensors ({type(error).__name__}). The file may be damaged (get "
            f"it anew) or hold more than tensors: code in weights files is not run. Expected {expected}"
        ) from error


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    """Loads a .pth file of tensors by name."""
    state = load_plain_file(path, "a Keras .h5, or a .pth written by torch.save(model.state_dict(), path)")
    if not isinstance(state, dict):
        raise _unknown_format(path, [type(state).__name__])
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _unknown_format(path, map(str, state))
    return tensors


def _unknown_format(path: Path, keys: Iterable[str]) -> DataError:
    return DataError(
        f"{path}: no known VGG16 weights file: found {shortened(keys)}; expected groups conv1_1 ... fc7 (Keras .h5), "
        "keys 0.weight ... 33.bias (vgg16_reducedfc.pth), or features.0.weight ... classifier.3.bias (torchvision)"
    )


def shortened(keys: Iterable[str], limit: int = 8) -> str:
    """Returns up to ``limit`` keys separated by commas and how many are left out; ``nothing`` for none."""
    listed = list(keys)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest if listed else "nothing"


def report_row(title: str, names: Collection[str]) -> str:
    """Returns the line of a report that says how many layers or keys went one way, and which."""
    return f"  {title:<8}{len(names):>3}  {shortened(names, limit=15)}"
